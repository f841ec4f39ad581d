from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geoclick import images, masks, vlms
from geoclick.datasets import Sample
from geoclick.inference.generative.answering import read_answers
from geoclick.inference.generative.mask_decoding import decode_objects
from geoclick.scoring.metrics import compare
from geoclick.train.reinforcement import rewards
from geoclick.train.reinforcement.embedding_cache import EmbeddingCache
from geoclick.train.reinforcement.rewards import ScoredCompletion
from tests import tiny

SIDE = 64


@pytest.fixture(scope="module")
def vlm(tmp_path_factory):
    return vlms.load(str(tiny.qwen3_vl_folder(tmp_path_factory.mktemp("vlm"))), device="cpu")


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    """Four samples of two images; the last has no target, the third has pixels that are not valid."""
    root = tmp_path_factory.mktemp("data")
    random = np.random.default_rng(0)
    found = []
    for i in range(4):
        name = f"{i // 2}.png"
        if i % 2 == 0:
            images.write_png(root / name, random.integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8))
        mask = np.zeros((SIDE, SIDE), bool)
        mask[8 * i : 8 * i + 20, 10:40] = i < 3
        found.append(sample(root, name, f"s{i}", mask, np.tri(SIDE, dtype=bool) if i == 2 else None))
    return found


def sample(root, image, name, mask, valid=None):
    return Sample(
        sample_id=name,
        dataset="folder",
        split="train",
        task="referring" if mask.any() else "no_target",
        query="the barn",
        root=Path(root),
        image=image,
        size=(SIDE, SIDE),
        rle=masks.encode_rle(mask),
        valid_rle=None if valid is None else masks.encode_rle(valid),
    )


def score(vlm, samples, texts, segmenter=None, decode="replay", limit=1e9):
    segmenter = segmenter or tiny.sam_segmenter()
    embeddings = EmbeddingCache(segmenter, limit)
    return rewards.score_completions(
        vlm, segmenter, embeddings, samples, texts, answer_format="compact", decode=decode
    )


TEXTS = [
    "+(500,300)",
    " +(500,300) -(20,900)\n",
    "+(500,300",
    "none",
    "",
    "a barn",
    "+(500,300) +(5000,1)",
    "+(100,800) +(900,100) -(500,500)",
]
STATUSES = ["ok", "ok", "unparsable", "empty", "unparsable", "unparsable", "repaired", "ok"]


def test_texts_are_parsed_and_the_iou_is_zero_without_clicks_or_target(vlm, samples):
    for one in samples:
        found = score(vlm, [one] * len(TEXTS), TEXTS)
        assert [j.status for j in found] == STATUSES
        assert [j.clicks for j in found] == [1, 2, 0, 0, 0, 0, 1, 3]
        assert {j.target for j in found} == {one.task == "referring"}
        nothing = [j.iou for j in found if not (j.target and j.clicks)]
        assert nothing == [0.0] * len(nothing)


@pytest.mark.parametrize("decode", ["replay", "joint"])
def test_the_iou_is_that_of_the_mask_that_inference_decodes(vlm, samples, decode):
    segmenter = tiny.sam_segmenter()
    pairs = [(one, text) for one in samples[:3] for text in (TEXTS[0], TEXTS[1], TEXTS[7])]
    found = score(vlm, [p[0] for p in pairs], [p[1] for p in pairs], decode=decode)
    for (one, text), result in zip(pairs, found, strict=True):
        answer = read_answers(vlm, [text], [one.size], answer_format="compact")[0]
        mask = decode_objects(segmenter, [one.read_image()], [answer.prompts], decode=decode)[0].mask
        assert result.iou == pytest.approx(compare(mask, one.mask, valid=one.valid).iou, abs=2 / SIDE**2)
    assert len({result.iou for result in found}) > 3


@pytest.mark.parametrize("decode", ["replay", "joint"])
def test_parts_are_decoded_in_one_batch_and_rewarded_by_their_union_and_all_their_clicks(
    vlm, samples, decode, monkeypatch
):
    segmenter, rows = tiny.sam_segmenter(), []
    alone = ["+(200,300) -(20,900)", "+(500,300)", "+(700,700)"]
    texts = ["; ".join(alone), f"{alone[0]}; {alone[0]}", "; ".join(alone[1:])]
    one = samples[0]
    masks_of = [
        decode_objects(segmenter, [one.read_image()], [answer.prompts], decode=decode)[0].mask
        for answer in read_answers(vlm, alone, [one.size] * 3, answer_format="compact")
    ]
    run = segmenter.decode

    def counted(embeddings, prompts, *, multimask):
        rows.append(len(prompts))
        return run(embeddings, prompts, multimask=multimask)

    monkeypatch.setattr(segmenter, "decode", counted)
    found = score(vlm, [one] * 3, texts, segmenter, decode)
    # Three, one and two parts; all first clicks come before the second ones, or prompts by their number of clicks.
    assert sorted(count for count in rows if count) == ([2, 6] if decode == "replay" else [2, 4])
    unions = [masks_of[0] | masks_of[1] | masks_of[2], masks_of[0], masks_of[1] | masks_of[2]]
    for result, union in zip(found, unions, strict=True):
        assert result.iou == pytest.approx(masks.iou(union, one.mask), abs=2 / SIDE**2)
    assert [result.clicks for result in found] == [4, 2, 2]
    assert rewards.economy(found) == [r.iou / clicks for r, clicks in zip(found, (4, 2, 2), strict=True)]
    assert rewards.format(found) == [1.0, 0.0, 1.0]
    assert [result.status for result in found] == ["ok", "repaired", "ok"]


def test_batched_is_one_by_one_with_and_without_a_cache(vlm, samples):
    asked = [one for one in samples for _ in TEXTS]
    texts = TEXTS * len(samples)
    together = score(vlm, asked, texts)
    assert together == score(vlm, asked, texts, limit=0)
    alone = [score(vlm, [one], [text])[0] for one, text in zip(asked, texts, strict=True)]
    for one, other in zip(together, alone, strict=True):
        assert (one.status, one.clicks, one.target) == (other.status, other.clicks, other.target)
        assert one.iou == pytest.approx(other.iou, abs=2 / SIDE**2)
    order = np.random.default_rng(1).permutation(len(texts))
    mixed = score(vlm, [asked[i] for i in order], [texts[i] for i in order])
    for place, i in enumerate(order):
        assert mixed[place].iou == pytest.approx(together[i].iou, abs=2 / SIDE**2)


def test_a_batch_is_decoded_once_and_the_same_clicks_once(vlm, samples, monkeypatch):
    segmenter, rows = tiny.sam_segmenter(), []
    decode = segmenter.decode

    def counted(embeddings, prompts, *, multimask):
        rows.append(len(prompts))
        return decode(embeddings, prompts, multimask=multimask)

    monkeypatch.setattr(segmenter, "decode", counted)
    score(
        vlm,
        [samples[0]] * 4 + [samples[1], samples[3]],
        ["+(1,1)"] * 3 + ["+(9,9)", "+(1,1)", "+(1,1)"],
        segmenter,
    )
    assert sum(rows) == 3


def test_images_are_embedded_once_within_the_memory_limit(samples):
    segmenter = tiny.sam_segmenter()
    one = segmenter.embed([samples[0].read_image()])[0].features.nbytes
    for limit, computed in ((2 * one, 2), (one, 4), (0, 4)):
        embeddings = EmbeddingCache(segmenter, limit)
        for asked in (samples[:2], samples[2:], samples[:2], samples[2:]):
            assert len(embeddings.of(asked)) == 2
        assert embeddings.computed == computed


OK = ScoredCompletion("ok", 1, True, 0.8)
TWO = ScoredCompletion("ok", 2, True, 0.8)
BROKEN = ScoredCompletion("repaired", 2, True, 0.8)
MISSED = ScoredCompletion("empty", 0, True, 0.0)
RIGHT = ScoredCompletion("empty", 0, False, 0.0)
ALARM = ScoredCompletion("ok", 1, False, 0.0)
BABBLE = ScoredCompletion("unparsable", 0, False, 0.0)
CASES = [OK, TWO, BROKEN, MISSED, RIGHT, ALARM, BABBLE]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("iou", [0.8, 0.8, 0.8, 0.0, None, None, None]),
        ("format", [1.0, 1.0, 0.0, 1.0, 1.0, 1.0, 0.0]),
        ("economy", [0.8, 0.4, 0.4, 0.0, None, None, None]),
        ("no_target", [None, None, None, None, 1.0, 0.0, 0.0]),
    ],
)
def test_each_reward_on_hand_made_cases(name, expected):
    assert rewards.REWARDS[name](CASES) == expected


@given(st.floats(0, 1), st.floats(0, 1), st.integers(1, 12), st.integers(1, 12))
def test_economy_never_pays_for_a_worse_mask_of_as_many_clicks_or_more(a, b, clicks, more):
    worse, better = sorted((a, b))
    few, many = min(clicks, more), max(clicks, more)
    one, other = rewards.economy(
        [ScoredCompletion("ok", few, True, better), ScoredCompletion("ok", many, True, worse)]
    )
    assert one >= other


def test_trl_calls_each_reward_and_a_batch_is_scored_once():
    calls = []

    def score(samples, texts):
        calls.append((list(samples), list(texts)))
        return [OK, RIGHT][: len(texts)]

    functions = rewards.RewardFunctions(score, ["a", "b"]).functions()
    assert [function.__name__ for function in functions] == list(rewards.REWARDS)
    texts = ["x", "y"]
    values = [function(completions=texts, sample=[1, 0], prompts=["p", "q"]) for function in functions]
    assert values == [[0.8, None], [1.0, 1.0], [0.8, None], [None, 1.0]]
    assert calls == [(["b", "a"], ["x", "y"])]
    functions[0](completions=["x"], sample=[0])
    assert len(calls) == 2
