"""Answers about images that are computed once: equal to those of transformers' `generate`, prompt by prompt."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from geoclick.errors import GeoClickError
from geoclick.vlms import encoding, loading
from geoclick.vlms.generation import decoding
from geoclick.vlms.generation.answers import Generated, batches, generate
from geoclick.vlms.generation.decoding import Decoder
from tests import tiny

QUERIES = ["a field", "the largest storage tank north of the road", "bare land", "trees", "the car"]
LIMIT = 12


@pytest.fixture(scope="module", params=tiny.FAMILIES)
def vlm(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("vlm") / request.param
    vlm = loading.load(str(tiny.FOLDERS[request.param](folder)), device="cpu")
    torch.manual_seed(0)
    for weight in vlm.model.parameters():
        if weight.ndim > 1:  # large random weights, or every answer repeats the last token
            weight.data.normal_(std=0.4)
    vlm.processor.image_processor.size["longest_edge"] = 100 * 100
    return vlm


@pytest.fixture(scope="module")
def asked():
    """Images of several sizes with one to three queries each, mixed."""
    rng = np.random.default_rng(0)
    sizes = [(64, 64), (48, 96), (120, 80)]
    images = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]
    owners = [1, 0, 2, 1, 1, 2]
    return [images[i] for i in owners], [*QUERIES, "a field"]


def by_transformers(vlm, images, queries, limit=LIMIT, **options):
    """The tokens of each answer alone, and the log-probability of each, by the library's `generate`."""
    answers = []
    for image, query in zip(images, queries, strict=True):
        inputs = encoding.model_inputs(vlm, [image], [query], answer_format="compact")
        output = vlm.model.generate(
            **inputs,
            max_new_tokens=limit,
            do_sample=False,
            return_dict_in_generate=True,
            output_logits=True,
            **options,
        )
        tokens = output.sequences[0, inputs["input_ids"].shape[1] :].tolist()
        logs = torch.cat(output.logits).log_softmax(-1)
        answers.append((tokens, sum(logs[i, token].item() for i, token in enumerate(tokens))))
    return answers


def write(vlm, images, queries, batch_size=16, limit=LIMIT, adjust=None, temperature=0.0):
    prompts = encoding.prompts_of(vlm, images, queries, answer_format="compact")
    decoder = Decoder(vlm, max_new_tokens=limit, temperature=temperature)
    return decoder.write(prompts, batch_size, adjust)


def set_ends(vlm, tokens, monkeypatch):
    """Let answers end with one of these tokens."""
    monkeypatch.setattr(vlm.model.generation_config, "eos_token_id", tokens)


@pytest.mark.parametrize("batch_size", [16, 4, 1])
def test_tokens_and_probabilities_are_those_of_transformers(vlm, asked, batch_size):
    expected = by_transformers(vlm, *asked)
    written = write(vlm, *asked, batch_size)
    assert [one.tokens for one in written] == [tokens for tokens, _ in expected]
    assert len({tuple(tokens) for tokens, _ in expected}) >= 5
    for one, (_, log_probability) in zip(written, expected, strict=True):
        assert one.log_probability == pytest.approx(log_probability, rel=1e-4)


def test_one_query_an_image(vlm, asked):
    images, queries = asked[0][:3], asked[1][:3]
    expected = by_transformers(vlm, images, queries)
    assert [one.tokens for one in write(vlm, images, queries)] == [tokens for tokens, _ in expected]


def test_answers_of_different_lengths_leave_the_batch(vlm, asked, monkeypatch):
    # A third of all tokens ends an answer, so that all lengths occur.
    ends = list(range(2, len(vlm.processor.tokenizer), 5))
    set_ends(vlm, ends, monkeypatch)
    expected = [tokens for tokens, _ in by_transformers(vlm, *asked, limit=24)]
    assert len({len(tokens) for tokens in expected}) > 1
    sizes = []
    head = vlm.model.lm_head.forward
    monkeypatch.setattr(
        vlm.model.lm_head, "forward", lambda hidden: sizes.append(len(hidden)) or head(hidden)
    )
    assert [one.tokens for one in write(vlm, *asked, limit=24)] == expected
    assert sizes == [
        sum(len(tokens) > step for tokens in expected) for step in range(max(map(len, expected)))
    ]


def test_each_image_is_computed_once(vlm, asked, monkeypatch):
    """The vision tower sees each image once, the language model each visual token once, and no prompt as a whole."""
    patches, tokens = [], []
    visual, text = vlm.model.model.visual.forward, vlm.model.model.language_model.forward
    monkeypatch.setattr(
        vlm.model.model.visual,
        "forward",
        lambda pixels, *args, **options: patches.append(len(pixels)) or visual(pixels, *args, **options),
    )
    monkeypatch.setattr(
        vlm.model.model.language_model,
        "forward",
        lambda **options: tokens.append(tuple(options["inputs_embeds"].shape[:2])) or text(**options),
    )
    prompts = encoding.prompts_of(vlm, *asked, answer_format="compact")
    assert len(prompts.pixels["image_grid_thw"]) == 3
    Decoder(vlm, max_new_tokens=3).write(prompts, 4)
    assert patches == [len(prompts.pixels["pixel_values"])]
    images, *steps = tokens
    assert images[0] == 3
    longest = max(map(len, QUERIES)) + len("<>\n<>assistant\n")
    # Six answers in batches of four and two: the rest of the prompts, then one token at a time.
    assert [rows for rows, _ in steps] == [4, 4, 4, 2, 2, 2]
    assert [length for _, length in steps][1:3] == [1, 1]
    assert steps[0][1] <= longest


def test_a_queue_of_queries_about_one_image_is_one_batch_after_the_other(vlm, asked, monkeypatch):
    image = asked[0][0]
    queries = [f"the barn {i}" for i in range(7)]
    calls = []
    visual = vlm.model.model.visual.forward
    monkeypatch.setattr(
        vlm.model.model.visual,
        "forward",
        lambda *args, **options: calls.append(1) or visual(*args, **options),
    )
    answers = generate(vlm, [image] * 7, queries, answer_format="compact", batch_size=3, max_new_tokens=LIMIT)
    assert len(calls) == 1
    expected = by_transformers(vlm, [image] * 7, queries)
    texts = vlm.processor.tokenizer.batch_decode([t for t, _ in expected], skip_special_tokens=True)
    assert [answer.text for answer in answers] == [text.strip() for text in texts]
    for answer, (tokens, log_probability) in zip(answers, expected, strict=True):
        assert answer.tokens == len(tokens)
        assert answer.probability == pytest.approx(math.exp(log_probability / len(tokens)), rel=1e-4)


def test_equal_prompts_share_all_but_their_last_token(vlm, asked):
    image = asked[0][0]
    prompts = encoding.prompts_of(vlm, [image] * 2, ["trees"] * 2, answer_format="compact")
    lengths = decoding.shared_lengths(prompts, vlm.processor.image_token_id)
    assert lengths == [len(prompts.tokens[0]) - 1]
    one, other = write(vlm, [image] * 2, ["trees"] * 2)
    assert one.tokens == other.tokens == by_transformers(vlm, [image], ["trees"])[0][0]


def test_a_text_before_the_image_is_an_error(vlm, asked):
    prompts = encoding.prompts_of(vlm, asked[0][:1] * 2, ["trees", "a field"], answer_format="compact")
    turned = [[*tokens[-4 - i :], *tokens[: -4 - i]] for i, tokens in enumerate(prompts.tokens)]
    with pytest.raises(GeoClickError, match="puts the image after the text"):
        decoding.shared_lengths(prompts._replace(tokens=turned), vlm.processor.image_token_id)


def test_scores_can_be_adjusted(vlm, asked):
    """Only two tokens are allowed in turn, by the number of the prompt; probabilities are those of the model."""
    seen = []

    def adjust(rows, tokens, scores):
        seen.append((list(rows), [len(one) for one in tokens]))
        allowed = torch.full_like(scores, -math.inf)
        for i, (row, one) in enumerate(zip(rows, tokens, strict=True)):
            allowed[i, 2 if len(one) == row + 1 else 10 + row] = 0
        return scores + allowed

    written = write(vlm, *asked, batch_size=4, adjust=adjust)
    assert [one.tokens for one in written] == [[10 + row] * (row + 1) + [2] for row in range(6)]
    assert seen[0] == ([0, 1, 2, 3], [0, 0, 0, 0])
    assert seen[2] == ([1, 2, 3], [2, 2, 2])
    assert seen[-1] == ([5], [6])
    free = write(vlm, *asked)
    assert all(one.log_probability < other.log_probability for one, other in zip(written, free, strict=True))


def test_sampling_follows_temperature_and_seed(vlm, asked):
    def sample(seed, temperature):
        torch.manual_seed(seed)
        return [one.tokens for one in write(vlm, *asked, temperature=temperature)]

    greedy = [one.tokens for one in write(vlm, *asked)]
    assert sample(1, 1.5) == sample(1, 1.5) != sample(2, 1.5)
    assert sample(1, 1e-4) == greedy


def test_the_sampled_distribution_is_that_of_the_temperature(vlm, asked):
    image, query, count = asked[0][0], "trees", 400
    inputs = encoding.model_inputs(vlm, [image], [query], answer_format="compact")
    with torch.no_grad():
        expected = (vlm.model(**inputs).logits[0, -1] / 5).softmax(-1)
    torch.manual_seed(0)
    drawn = [one.tokens[0] for one in write(vlm, [image] * count, [query] * count, 400, 1, temperature=5.0)]
    shares = torch.bincount(torch.tensor(drawn), minlength=len(expected)) / count
    assert 0.5 * (shares - expected).abs().sum() < 0.25


def test_an_adapter_takes_part(vlm, asked, tmp_path):
    from peft import LoraConfig, get_peft_model

    from geoclick.vlms.families import LORA_TARGETS

    torch.manual_seed(0)
    config = LoraConfig(r=4, lora_alpha=64, target_modules=LORA_TARGETS, init_lora_weights=False)
    wrapped = replace(vlm, model=get_peft_model(vlm.model, config).eval())
    try:
        expected = [tokens for tokens, _ in by_transformers(wrapped, *asked)]
        adapted = [one.tokens for one in write(wrapped, *asked)]
    finally:
        wrapped.model.unload()
    assert adapted == expected
    assert adapted != [one.tokens for one in write(vlm, *asked)]


def test_batches_hold_all_queries_of_an_image():
    small, large = np.zeros((8, 8, 3), np.uint8), np.zeros((64, 64, 3), np.uint8)
    other = small.copy()
    images, queries = [large, small, large, other, small], ["bb", "ccc", "a", "c", "d"]
    assert batches(images, queries, 16) == [[3, 4, 1, 2, 0]]
    assert batches(images, queries, 3) == [[3, 4, 1], [2, 0]]
    assert batches(images, queries, 2) == [[3], [4, 1], [2, 0]]
    assert batches(images, queries, 1) == [[3], [4, 1], [2, 0]]


def test_the_probability_of_an_answer_is_the_mean_of_its_tokens():
    assert Generated("x", 3 * math.log(0.5), 3).probability == pytest.approx(0.5)
    assert Generated("x").probability is None
