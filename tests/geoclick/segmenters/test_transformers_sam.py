"""The segmenters of transformers' classes give the results of its processors and models, in batches."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import transformers

from geoclick.clicks import Click
from geoclick.segmenters import clicking, planes, points
from geoclick.segmenters.base import Prompt
from geoclick.segmenters.planes import BlockPlanes, FullPlanes
from geoclick.segmenters.transformers_folders import FAMILIES
from geoclick.segmenters.transformers_sam import TransformersSam
from tests import tiny_sams

KINDS = tuple(tiny_sams.CLASSES)
SIZES = [(64, 64), (41, 97), (113, 58)]
CLICKS = [
    (Click(3, 5),),
    (Click(10, 40), Click(96, 0, False), Click(50.5, 30.25)),
    (Click(57, 112, False), Click(0, 0)),
]
ORDER = [0, 1, 2, 1, 0]
"""Of images: two of them twice, and not as neighbors."""


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in SIZES]


@pytest.fixture(scope="module", params=KINDS)
def kind(request):
    torch.set_num_threads(1)
    return request.param


@pytest.fixture(scope="module")
def model(kind):
    return tiny_sams.model(kind)


def segmenter_of(kind, model, **options):
    return TransformersSam(
        model, tiny_sams.processor(kind).image_processor, FAMILIES[kind], name=kind, **options
    )


@torch.inference_mode()
def expected(kind, model, image, prompt, multimask):
    """Logits at low resolution and at the size of the image, and scores, by transformers alone for one prompt."""
    processor = tiny_sams.processor(kind)
    given = {}
    if prompt.clicks:
        given["input_points"] = [[[[c.x, c.y] for c in prompt.clicks]]]
        given["input_labels"] = [[[int(c.positive) for c in prompt.clicks]]]
    if prompt.box:
        given["input_boxes"] = [[list(map(float, prompt.box))]]
    inputs = processor(images=image, return_tensors="pt", **given)
    low_res = None if prompt.low_res is None else prompt.low_res[None]
    inputs = {key: value.float() if value.is_floating_point() else value for key, value in inputs.items()}
    sizes = inputs.pop("original_sizes")
    reshaped = [inputs.pop("reshaped_input_sizes")] if "reshaped_input_sizes" in inputs else []
    output = model(**inputs, input_masks=low_res, multimask_output=multimask)
    masks = processor.post_process_masks(output.pred_masks, sizes, *reshaped, binarize=False)
    return output.pred_masks[0, 0], masks[0][0], output.iou_scores[0, 0]


def assert_equal(answer, segmenter, embedding, reference):
    logits, full, scores = reference
    spread = logits.abs().max()
    torch.testing.assert_close(answer.low_res, logits, atol=1e-5 * spread, rtol=1e-5)
    torch.testing.assert_close(answer.scores, scores, atol=1e-5, rtol=1e-5)
    own = segmenter.masks(answer.low_res, embedding)
    assert own.shape == full.shape == (len(logits), *embedding.size)
    sure = full.abs() > 1e-4 * spread
    assert torch.equal(own[sure], full[sure] > 0)
    assert sure.float().mean() > 0.99


@pytest.mark.parametrize("multimask", [True, False])
@pytest.mark.parametrize("feedback", [True, False])
def test_a_mixed_batch_equals_processor_and_model_one_by_one(kind, model, images, multimask, feedback):
    segmenter = segmenter_of(kind, model, image_batch=2, prompt_batch=3)
    embeddings = segmenter.embed(images)
    assert [e.size for e in embeddings] == SIZES
    side = 4 * embeddings[0].features.shape[1]
    generator = torch.Generator().manual_seed(1)
    low_res = [torch.randn(1, side, side, generator=generator) * 5 if feedback else None for _ in ORDER]
    prompts = [Prompt(CLICKS[i], logits) for i, logits in zip(ORDER, low_res, strict=True)]
    decoded = segmenter.decode([embeddings[i] for i in ORDER], prompts, multimask=multimask)
    for i, prompt, answer in zip(ORDER, prompts, decoded, strict=True):
        reference = expected(kind, model, images[i], prompt, multimask)
        assert len(reference[0]) == (3 if multimask else 1)
        assert_equal(answer, segmenter, embeddings[i], reference)


@pytest.mark.parametrize("clicks", [(), CLICKS[0]])
def test_a_box_is_decoded_as_by_processor_and_model(kind, model, images, clicks):
    segmenter = segmenter_of(kind, model)
    embeddings = segmenter.embed(images[:2])
    prompts = [Prompt(clicks, box=box) for box in ((3, 2, 40, 30), (0, 0, 17, 39))]
    decoded = segmenter.decode(embeddings, prompts, multimask=False)
    for image, embedding, prompt, answer in zip(images, embeddings, prompts, decoded, strict=False):
        assert_equal(answer, segmenter, embedding, expected(kind, model, image, prompt, False))


def test_every_input_changes_the_mask(kind, model, images):
    """Otherwise the other tests could not fail."""
    segmenter = segmenter_of(kind, model)
    embeddings = segmenter.embed([images[0], images[0][::-1]])
    side = 4 * embeddings[0].features.shape[1]
    low_res = torch.linspace(-9, 9, side * side).reshape(1, side, side)
    first = Prompt(CLICKS[0])
    others = [
        (embeddings[1], first),
        (embeddings[0], Prompt((Click(40, 5),))),
        (embeddings[0], Prompt((Click(3, 5, False),))),
        (embeddings[0], replace(first, low_res=low_res)),
        (embeddings[0], replace(first, box=(3, 2, 40, 30))),
    ]
    own, *changed = segmenter.decode(
        [embeddings[0], *(e for e, _ in others)], [first, *(p for _, p in others)], multimask=True
    )
    for answer in changed:
        assert (answer.low_res - own.low_res).abs().max() > 1e-3 * own.low_res.abs().max()


def test_further_levels_change_the_mask(kind, model, images):
    segmenter = segmenter_of(kind, model)
    (embedding,) = segmenter.embed(images[:1])
    assert len(embedding.levels) == {"one": 0, "early": 1, "pyramid": 2}[FAMILIES[kind].features]
    assert embedding.nbytes == 4 * sum(t.numel() for t in (embedding.features, *embedding.levels))
    for i, level in enumerate(embedding.levels):
        levels = (*embedding.levels[:i], level.flip(1), *embedding.levels[i + 1 :])
        pair = [embedding, replace(embedding, levels=levels)]
        own, other = segmenter.decode(pair, [Prompt(CLICKS[0])] * 2, multimask=True)
        assert not torch.allclose(own.low_res, other.low_res, rtol=1e-3)


def test_clicking_takes_the_best_of_three_for_the_first_click_and_feeds_its_logits_back(kind, model, images):
    segmenter = segmenter_of(kind, model)
    embeddings = segmenter.embed(images[:2])
    steps = clicking.Clicking(segmenter, embeddings)
    steps.step([CLICKS[0][0], CLICKS[1][0]])
    steps.step([None, CLICKS[1][1]])
    logits, full, scores = expected(kind, model, images[1], Prompt(CLICKS[1][:1]), True)
    best = int(scores.argmax())
    low_res = logits[best : best + 1].clamp(-clicking.FEEDBACK_LIMIT, clicking.FEEDBACK_LIMIT)
    _, full, scores = expected(kind, model, images[1], Prompt(CLICKS[1][:2], low_res), False)
    assert steps.scores[1] == pytest.approx(scores.item(), abs=1e-4)
    sure = full[0].abs() > 1e-3 * full.abs().max()
    assert torch.equal(steps.planes[1][sure], full[0][sure] > 0)


def test_masks_of_grid_clicks_are_measured_as_at_full_size(kind, model, images):
    segmenter = segmenter_of(kind, model)
    (embedding,) = segmenter.embed(images[1:2])
    decode, _ = points.decoder(segmenter, embedding)
    candidates = decode(np.array([[3, 5], [60, 20]], float), 0.0)
    quick = planes.planes(segmenter, embedding, tuple(candidates.low_res.shape[1:]))
    assert isinstance(quick, BlockPlanes)
    full = FullPlanes(segmenter, embedding)
    torch.testing.assert_close(quick.measure(candidates.low_res, 1.0), full.measure(candidates.low_res, 1.0))
    for mine, theirs in zip(quick.runs(candidates.low_res), full.runs(candidates.low_res), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_autocast_stays_near_float32(kind, model, images):
    answers = []
    for dtype in (None, torch.bfloat16):
        segmenter = segmenter_of(kind, model, dtype=dtype)
        decoded = segmenter.decode(segmenter.embed(images[:1]), [Prompt(CLICKS[0])], multimask=True)
        answers.append(decoded[0].low_res)
    assert answers[1].dtype == torch.float32
    assert not torch.equal(*answers)
    assert (answers[0] - answers[1]).abs().mean() < 0.1 * answers[0].std()


@pytest.mark.slow
def test_compiled_equals_eager(kind, model, images):
    answers = []
    for own in (segmenter_of(kind, model), segmenter_of(kind, tiny_sams.model(kind)).compile()):
        decoded = own.decode(own.embed(images), [Prompt(clicks) for clicks in CLICKS], multimask=True)
        answers.append(torch.stack([d.low_res for d in decoded]))
    # Compiled kernels round differently, and random weights pass it on.
    torch.testing.assert_close(*answers, atol=1e-3, rtol=1e-3)


def test_a_single_mask_that_is_unstable_becomes_the_best_of_three(images):
    """SAM 2's own rule; other prompts of the batch have no influence on it."""
    model = tiny_sams.model("sam2")
    model.mask_decoder.dynamic_multimask_stability_thresh = 2.0
    segmenter = segmenter_of("sam2", model)
    embeddings = segmenter.embed(images)
    prompts = [Prompt(clicks) for clicks in CLICKS]
    single = segmenter.decode(embeddings, prompts, multimask=False)
    three = segmenter.decode(embeddings, prompts, multimask=True)
    for one, all_three in zip(single, three, strict=True):
        torch.testing.assert_close(one.low_res[0], all_three.low_res[all_three.scores.argmax()])


def test_every_class_is_one_of_transformers():
    for family in FAMILIES.values():
        assert hasattr(transformers, family.model)
        assert hasattr(transformers, family.processor)
