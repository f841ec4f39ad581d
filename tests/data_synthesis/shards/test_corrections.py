"""What follows a model's own clicks, with a segmenter of discs: 9 pixels for one click, 6 from the second on."""

from pathlib import Path

import numpy as np
import pytest

from geoclick import masks
from geoclick.clicks import Click
from geoclick.data_synthesis.shards import corrections, sequences
from geoclick.data_synthesis.shards.corrections import LEFT_OUT, NO_OWN_CLICK
from geoclick.data_synthesis.shards.job import Job
from geoclick.data_synthesis.shards.sequences import Task
from geoclick.data_synthesis.simulation.part_rules import PartRules
from geoclick.data_synthesis.simulation.policies import Clicker
from geoclick.datasets import Sample
from geoclick.masks import iou
from geoclick.segmenters.clicking import Prompting, replay
from tests.data_synthesis.disc_segmenter import DiscSegmenter
from tests.data_synthesis.pointing_student import PointingStudent

SIZE = (40, 60)
LEFT, RIGHT = (15, 20), (45, 20)


def disc(place, radius=9):
    ys, xs = np.ogrid[: SIZE[0], : SIZE[1]]
    return (xs - place[0]) ** 2 + (ys - place[1]) ** 2 <= radius**2


def make_job(mode="one", **changes):
    values = {
        **{"segmenter": DiscSegmenter(), "max_clicks": 6, "iou_target": 0.95, "prompting": Prompting()},
        **{"seed": 0, "batch": 8, "image_batch": 2, "clicker": Clicker(), "sequences": 1},
        **{"parts": PartRules(mode), "student": PointingStudent(None)},
    }
    return Job(**values | changes)


def make_task(job, target, *own, name="a", valid=None):
    sample = Sample(
        **{"sample_id": name, "dataset": "folder", "split": "train", "task": "referring", "query": "it"},
        **{"root": Path(), "image": "a.png", "size": SIZE, "rle": masks.encode_rle(target)},
    )
    (embedding,) = job.segmenter.embed([np.zeros((*SIZE, 3), np.uint8)])
    return Task(sample, target, valid, embedding, own=tuple(tuple(Click(*c) for c in part) for part in own))


def made(job, target, *own, **options):
    task = make_task(job, target, *own, **options)
    found = corrections.make(job, [task])[task.row_id]
    check(job, task, found.sequence)
    return found.sequence, dict(found.counts)


def check(job, task, sequence):
    """The IoUs are those of the union after each click, decoded again."""
    assert len(sequence.clicks) == len(sequence.ious) == sum(sequence.parts)
    own = [click for part in task.own for click in part]
    assert list(sequence.clicks[: sequence.given]) == own[: sequence.given]
    union, ious, start = np.zeros(SIZE, bool), [], 0
    for length in sequence.parts:
        (after,) = replay(job.segmenter, [task.embedding], [sequence.clicks[start : start + length]])
        ious += [iou(union | mask, task.target, task.valid) for mask in after]
        union, start = union | after[-1], start + length
    assert sequence.ious == tuple(ious)
    assert (sequence.mask == union).all()
    # What is taught ends where it is best.
    if taught := sequence.ious[sequence.given :]:
        assert taught[-1] == max(taught) > (sequence.ious[sequence.given - 1] if sequence.given else 0)


def test_the_next_click_corrects_the_mask_that_the_model_got():
    target = disc(LEFT, 6) | disc((27, 20), 6)
    sequence, counts = made(make_job(), target, [LEFT])
    assert sequence.given == 1
    assert sequence.ious[0] < 0.6 < 0.8 < sequence.ious[-1], sequence
    # The first disc of 9 pixels becomes one of 6, and the rest of the second one is clicked on.
    (click,) = sequence.clicks[1:]
    assert click.positive
    assert disc((27, 20), 6)[int(click.y), int(click.x)]
    # Discs of 6 pixels cannot do better: four more clicks were tried.
    assert counts == {sequences.NO_GAIN: 4}


def test_a_good_mask_is_followed_by_the_end():
    sequence, _ = made(make_job(), disc(LEFT), [LEFT])
    assert (sequence.clicks, sequence.given, sequence.ious) == ((Click(*LEFT),), 1, (1.0,))


def test_own_clicks_after_the_best_are_left_out_or_not():
    target = disc(LEFT)
    own = [(*LEFT, True), (*LEFT, False)]
    best, counts = made(make_job(), target, own)
    assert (best.given, best.clicks, counts) == (1, (Click(*LEFT),), {LEFT_OUT: 1})
    every, counts = made(make_job(own_clicks="all"), target, own)
    assert (every.given, every.ious[:2], counts) == (2, (1.0, 0.0), {})
    assert len(every.clicks) > 2
    assert every.clicks[2].positive


def test_a_random_number_of_own_clicks_depends_on_seed_and_sequence_only():
    own = [LEFT, (18, 20), (12, 20)]
    numbers = [made(make_job(own_clicks="random", seed=seed), disc(LEFT), own)[0].given for seed in range(20)]
    assert set(numbers) == {0, 1, 2, 3}
    again = [made(make_job(own_clicks="random", seed=seed), disc(LEFT), own)[0].given for seed in range(20)]
    assert again == numbers


@pytest.mark.parametrize("own", [[], [[(2, 38)]]])
def test_without_a_useful_own_click_the_sequence_is_the_plain_one(own):
    job, target = make_job(), disc(LEFT)
    sequence, counts = made(job, target, *own)
    plain = sequences.make(job, [make_task(job, target)])["a"].sequence
    assert (sequence.clicks, sequence.ious, sequence.given) == (plain.clicks, plain.ious, 0)
    assert counts == ({LEFT_OUT: 1} if own else {NO_OWN_CLICK: 1})


@pytest.mark.parametrize("mode", ["components", "auto"])
def test_a_forgotten_object_is_a_further_part(mode):
    sequence, _ = made(make_job(mode), disc(LEFT) | disc(RIGHT), [LEFT])
    assert (sequence.parts, sequence.given) == ((1, 1), 1)
    assert sequence.clicks == (Click(*LEFT), Click(*RIGHT))
    assert sequence.ious[-1] == 1.0


def test_the_last_part_goes_on_and_objects_of_earlier_parts_are_not_clicked_again():
    third = (30, 33)
    bar = disc(RIGHT, 6) | disc((55, 20), 6)
    target = disc(LEFT) | bar | disc(third, 5)
    sequence, _ = made(make_job("components"), target, [LEFT], [RIGHT])
    assert sequence.given == 2
    assert sequence.parts[:2] == (1, 2)
    assert bar[int(sequence.clicks[2].y), int(sequence.clicks[2].x)]
    assert len(sequence.parts) == 3
    assert disc(third, 5)[int(sequence.clicks[3].y), int(sequence.clicks[3].x)]


def test_a_part_on_no_object_is_not_continued():
    job = make_job("components", own_clicks="all")
    sequence, _ = made(job, disc(LEFT) | disc(RIGHT), [LEFT], [(30, 2)])
    assert (sequence.given, sequence.parts) == (2, (1, 1, 1))
    assert sequence.clicks[2] == Click(*RIGHT)


def test_in_one_prompt_an_answer_of_several_parts_is_continued_in_its_last():
    sequence, _ = made(make_job(), disc(LEFT) | disc(RIGHT, 6) | disc((55, 20), 6), [LEFT], [RIGHT])
    assert (sequence.given, len(sequence.parts)) == (2, 2)
    assert sequence.parts[1] > 1


def test_pixels_that_do_not_count_are_not_clicked():
    valid = ~disc(RIGHT)
    sequence, _ = made(make_job("components"), disc(LEFT) | disc(RIGHT), [LEFT], valid=valid)
    assert sequence.clicks == (Click(*LEFT),)


def test_clicks_between_pixels_are_taken_as_they_are():
    place = (15.4, 19.6)
    sequence, _ = made(make_job(), disc(LEFT, 6) | disc((27, 20), 6), [place])
    assert sequence.clicks[0] == Click(*place)
    assert all(click.x == int(click.x) for click in sequence.clicks[1:])


def test_a_batch_gives_the_sequences_of_one_at_a_time():
    job, rng = make_job("auto", clicker=Clicker("lookahead")), np.random.default_rng(0)
    tasks = []
    for number in range(8):
        target = disc(LEFT, 5 + number % 3) | (disc(RIGHT, 7) if number % 2 else disc((24, 20), 6))
        own = [[tuple(rng.uniform(5, 35, 2)) for _ in range(rng.integers(1, 3))] for _ in range(number % 3)]
        tasks.append(make_task(job, target, *own, name=str(number)))
    together = corrections.make(job, tasks)
    for task in tasks:
        alone = corrections.make(job, [task])[task.row_id]
        assert alone.sequence.clicks == together[task.row_id].sequence.clicks
        assert alone.sequence.ious == together[task.row_id].sequence.ious
        assert alone.counts == together[task.row_id].counts
