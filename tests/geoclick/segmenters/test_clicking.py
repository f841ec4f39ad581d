"""Clicking: batched equals one by one; multimask and feedback; replay and joint."""

import numpy as np
import pytest
import torch
from segment_anything import SamPredictor

from geoclick.clicks import Click
from geoclick.segmenters.base import Decoded, Embedding, Prompt
from geoclick.segmenters.clicking import Clicking, Prompting, joint, replay, replay_final
from tests import tiny

SEQUENCES = [
    (Click(3, 5), Click(30, 20, False), Click(60, 2)),
    (),
    (Click(20, 70),),
    (Click(11, 12), Click(39, 79)),
]
SIZES = [(48, 64), (64, 64), (80, 40), (80, 40)]


@pytest.fixture(scope="module")
def segmenter():
    return tiny.sam_segmenter()


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in SIZES]


class FakeSegmenter:
    """Records every call; mask k of three is all k-th sign, with the second the best scored."""

    device = torch.device("cpu")

    def __init__(self):
        self.calls = []

    def decode(self, embeddings, prompts, *, multimask):
        self.calls.append((multimask, [(len(p.clicks), p.low_res) for p in prompts]))
        values = [50.0, -50.0, 7.0] if multimask else [-100.0]
        low_res = torch.tensor(values)[:, None, None].expand(-1, 4, 4)
        return [Decoded(low_res, torch.tensor([0.2, 0.1, 0.9] if multimask else [0.4])) for _ in prompts]

    def masks(self, low_res, embedding):
        return low_res[:, :1, :1].expand(-1, *embedding.size) > 0


def embeddings_of(count):
    return [Embedding(torch.zeros(1), (5, 6), (5, 6)) for _ in range(count)]


def test_first_click_takes_the_best_of_three_and_feeds_it_back_clamped():
    fake = FakeSegmenter()
    clicking = Clicking(fake, embeddings_of(1))
    assert not clicking.masks[0].any()
    clicking.step([Click(1, 1)])
    assert clicking.masks[0].all()
    assert clicking.scores[0] == pytest.approx(0.9)
    clicking.step([Click(2, 1, False)])
    clicking.step([Click(3, 1, False)])
    calls = [(multimask, prompts) for multimask, prompts in fake.calls if prompts]
    assert [multimask for multimask, _ in calls] == [True, False, False]
    fed = [prompts[0][1] for _, prompts in calls]
    assert fed[0] is None
    assert fed[1].unique().tolist() == [7.0]
    assert fed[2].unique().tolist() == [-32.0]


@pytest.mark.parametrize(
    ("prompting", "flags"),
    [
        (Prompting("never"), [False, False]),
        (Prompting("always"), [True, True]),
        (Prompting("first"), [True, False]),
    ],
)
def test_multimask(prompting, flags):
    fake = FakeSegmenter()
    replay(fake, embeddings_of(1), [(Click(1, 1), Click(2, 2))], prompting)
    assert [multimask for multimask, prompts in fake.calls if prompts] == flags


def test_without_feedback_no_logits_go_back():
    fake = FakeSegmenter()
    replay(fake, embeddings_of(1), [(Click(1, 1), Click(2, 2))], Prompting(feedback=False))
    assert all(low_res is None for _, prompts in fake.calls for _, low_res in prompts)


def test_prompting_names_are_distinct():
    names = {Prompting(m, f).name for m in ("first", "always", "never") for f in (True, False)}
    assert len(names) == 6


def joint_masks(*arguments):
    return [answer.mask for answer in joint(*arguments)]


@pytest.mark.parametrize("decode", [replay, joint_masks])
@pytest.mark.parametrize("prompting", [Prompting(), Prompting("always"), Prompting("never", feedback=False)])
def test_batched_equals_one_by_one(segmenter, images, decode, prompting):
    embeddings = segmenter.embed(images)
    together = decode(segmenter, embeddings, SEQUENCES, prompting)
    for embedding, sequence, masks in zip(embeddings, SEQUENCES, together, strict=True):
        alone = decode(segmenter, [embedding], [sequence], prompting)[0]
        np.testing.assert_array_equal(masks, alone)


def test_replay_equals_sam_predictor_with_feedback(segmenter, images):
    history = replay(segmenter, segmenter.embed(images), SEQUENCES)
    predictor = SamPredictor(segmenter.sam)
    for image, sequence, masks in zip(images, SEQUENCES, history, strict=True):
        assert len(masks) == len(sequence)
        predictor.set_image(image)
        fed = None
        for turn, mask in enumerate(masks):
            clicks = sequence[: turn + 1]
            answers, scores, logits = predictor.predict(
                np.array([c[:2] for c in clicks]),
                np.array([int(c.positive) for c in clicks]),
                mask_input=fed,
                multimask_output=turn == 0,
            )
            best = scores.argmax()
            fed = logits[best : best + 1].clip(-32, 32)
            assert (answers[best] == mask).mean() > 0.999


def test_joint_of_one_click_is_replay_of_it_and_empty_is_empty(segmenter, images):
    embeddings = segmenter.embed(images)
    masks = joint_masks(segmenter, embeddings, SEQUENCES)
    assert masks[1].shape == SIZES[1]
    assert not masks[1].any()
    np.testing.assert_array_equal(masks[2], replay(segmenter, embeddings, SEQUENCES)[2][-1])


@pytest.mark.parametrize("decode", [replay_final, joint])
def test_final_masks_have_the_predicted_iou(segmenter, images, decode):
    embeddings = segmenter.embed(images)
    answers = decode(segmenter, embeddings, SEQUENCES)
    assert [answer.score is None for answer in answers] == [not sequence for sequence in SEQUENCES]
    single = answers[2]
    assert len(SEQUENCES[2]) == 1
    decoded = segmenter.decode([embeddings[2]], [Prompt(SEQUENCES[2])], multimask=True)[0]
    assert single.score == pytest.approx(decoded.scores.max().item(), abs=1e-5)
    history = replay(segmenter, embeddings, SEQUENCES)
    if decode is replay_final:
        for answer, masks in zip(answers, history, strict=True):
            np.testing.assert_array_equal(answer.mask, masks[-1] if masks else np.zeros_like(answer.mask))


def test_a_finished_sequence_keeps_its_mask(segmenter, images):
    clicking = Clicking(segmenter, segmenter.embed(images[:2]))
    clicking.step([Click(3, 5), Click(30, 30)])
    before = clicking.masks[0].copy()
    clicking.step([None, Click(2, 2, False)])
    np.testing.assert_array_equal(clicking.masks[0], before)
    assert [len(s) for s in clicking.sequences] == [1, 2]


def test_attempts_change_nothing_until_one_is_taken(segmenter, images):
    state = Clicking(segmenter, segmenter.embed(images[:2]))
    state.step([Click(3, 5), Click(30, 30)])
    before, scores = list(state.planes), list(state.scores)
    tried = state.attempt([[Click(20, 20), Click(50, 10, False)], []])
    assert [len(attempts) for attempts in tried] == [2, 0]
    assert all(after is plane for after, plane in zip(state.planes, before, strict=True))
    assert (state.sequences, state.scores) == ([(Click(3, 5),), (Click(30, 30),)], scores)
    state.take([tried[0][1], None])
    assert state.sequences == [(Click(3, 5), Click(50, 10, False)), (Click(30, 30),)]
    assert state.planes[1] is before[1]


def test_taking_an_attempt_is_a_step(segmenter, images):
    embeddings = segmenter.embed(images[:2])
    stepped, taken = Clicking(segmenter, embeddings), Clicking(segmenter, embeddings)
    for clicks, others in (((3, 5), (30, 20)), ((20, 20), (9, 60)), ((50, 40), (33, 3))):
        stepped.step([Click(*clicks), None])
        taken.take([taken.attempt([[Click(*others), Click(*clicks)], []])[0][1], None])
        np.testing.assert_array_equal(stepped.masks[0], taken.masks[0])
        assert stepped.scores == pytest.approx(taken.scores, abs=1e-5)
