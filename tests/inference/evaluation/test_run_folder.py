import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geoclick import masks
from geoclick.datasets import Sample
from geoclick.errors import GeoClickError
from geoclick.inference.evaluation import run_folder
from geoclick.jobs import claims, processes
from geoclick.scoring import records
from tests.paths import REPO

PROTOCOL = {"mode": "native", "n": 40}
EMPTY = masks.encode_rle(np.zeros((2, 2), bool))
TEXTS = dict.fromkeys(records.TEXTS, "")


def samples(count, images=3):
    return [
        Sample(
            sample_id=f"s{i}",
            dataset="d",
            split="test",
            task="referring",
            query="q" * (i * 7 % 5),
            root=Path("none"),
            image=f"{i % images}.png",
            size=(2, 2),
            rle=EMPTY,
        )
        for i in range(count)
    ]


class Asker:
    """Answers with the positions that were asked together, and raises KeyboardInterrupt at batch `stop_at`."""

    def __init__(self, stop_at=None):
        self.batches, self.stop_at = [], stop_at

    def __call__(self, batch):
        if len(self.batches) == self.stop_at:
            raise KeyboardInterrupt
        self.batches.append([position for position, _ in batch])
        return [
            {**TEXTS, "sample_id": s.sample_id, "together": len(batch), "first": batch[0][0]}
            for _, s in batch
        ]


def folder(output, **changes):
    return run_folder.EvaluationFolder(output, PROTOCOL | changes)


def answer(output, given, asker, *, size=2):
    advanced = []
    with folder(output).join() as held:
        run_folder.answer(
            output,
            lambda: run_folder.split(given, size),
            held,
            batch_size=size,
            ask=asker,
            advance=advanced.append,
        )
    return sum(advanced)


@given(st.integers(0, 50), st.integers(1, 4), st.integers(1, 5))
def test_every_sample_is_in_one_batch_of_its_part(count, size, images):
    given_samples, seen = samples(count, images), []
    for number, part in enumerate(run_folder.split(given_samples, size)):
        assert (part.number, part.start) == (number, number * size * run_folder.BATCHES)
        for batch in part.batches(size):
            assert 1 <= len(batch) <= size
            seen += batch
    assert sorted(position for position, _ in seen) == list(range(count))
    assert all(given_samples[position] is sample for position, sample in seen)


@given(st.lists(st.integers(1, 5), max_size=12), st.integers(1, 9))
def test_parts_by_image_end_with_an_image_and_batches_are_images(counts, size):
    given_samples = [
        replace(sample, image=f"{image}.png", sample_id=f"{image}/{n}")
        for image, count in enumerate(counts)
        for n, sample in enumerate(samples(count))
    ]
    parts = list(run_folder.split_by_image(given_samples, size))
    assert [part.number for part in parts] == list(range(len(parts)))
    seen = []
    for part in parts:
        assert part.start == len(seen)
        assert len(part.samples) >= size or part is parts[-1]
        batches = list(part.batches(3))
        # Without its last image a part has too few samples.
        assert len(part.samples) - len(batches[-1]) < size
        for batch in batches:
            (image,) = {sample.image for _, sample in batch}
            assert len(batch) == counts[int(image.removesuffix(".png"))]
            seen += batch
    assert [position for position, _ in seen] == list(range(len(given_samples)))
    assert [sample for _, sample in seen] == given_samples


def test_a_run_that_was_killed_anywhere_ends_as_one_that_was_not(tmp_path):
    given_samples, whole = samples(40), tmp_path / "whole"
    assert answer(whole, given_samples, Asker()) == 40
    run_folder.finish(whole, 40)
    expected = (whole / records.PREDICTIONS).read_text()
    assert [json.loads(line)["sample_id"] for line in expected.splitlines()] == [f"s{i}" for i in range(40)]
    output = tmp_path / "killed"
    for stop_at in (0, 3, 1, 6):
        with pytest.raises(KeyboardInterrupt):
            answer(output, given_samples, Asker(stop_at))
        for path in (output / run_folder.FOLDER).glob("*.jsonl"):  # the kill came while writing
            path.write_text(path.read_text() + '{"position": 3, "samp')
    assert run_folder.count(output) == 20
    last = Asker()
    assert answer(output, given_samples, last) == 40
    assert len(last.batches) == 10
    run_folder.finish(output, 40)
    assert (output / records.PREDICTIONS).read_text() == expected
    with folder(output).open() as held:
        assert held is None
    assert not (output / run_folder.FOLDER).exists()


def test_a_batch_that_is_there_in_part_is_asked_whole_and_kept_as_it_was(tmp_path):
    given_samples, asker = samples(4), Asker()
    answer(tmp_path, given_samples, Asker(), size=4)
    path = tmp_path / run_folder.FOLDER / "000000.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:3]).replace('"together": 4', '"together": "before"'))
    answer(tmp_path, given_samples, asker, size=4)
    assert [len(batch) for batch in asker.batches] == [4]
    found = [json.loads(line)["together"] for line in path.read_text().splitlines()]
    assert found == ["before"] * 3 + [4]


HOLDER = """
import sys
from geoclick.jobs import claims
with open(sys.argv[1], "r+b") as held:
    assert claims.acquire(held, int(sys.argv[2]))
    print("held", flush=True)
    sys.stdin.read()
"""


def holder(output, byte):
    """Another process that holds a byte of the claims until its standard input is closed."""
    path = output / run_folder.FOLDER / "claims"
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, path, str(byte)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "held\n"
    return process


def test_a_part_that_a_dying_process_leaves_is_done_by_process_0(tmp_path):
    given_samples, size = samples(40), 2
    held = folder(tmp_path).join()
    other = holder(tmp_path, 2)
    asker = Asker()

    def parts():
        yield from run_folder.split(given_samples, size)
        other.kill()  # after the first look at all parts

    with held:
        run_folder.answer(tmp_path, parts, held, batch_size=size, ask=asker, advance=lambda _: None)
    other.wait()
    part = range(16, 32)
    assert [batch[0] in part for batch in asker.batches] == [False] * 12 + [True] * 8
    run_folder.finish(tmp_path, 40)
    assert len(list(records.read(tmp_path / records.PREDICTIONS))) == 40


def test_a_process_that_comes_late_asks_nothing(tmp_path):
    """It had opened the claims when process 0 joined the parts and removed them."""
    with folder(tmp_path).join() as held:
        (tmp_path / records.PREDICTIONS).touch()
        folder(tmp_path).end()
        never = Asker(0)
        stream = lambda: run_folder.split(samples(40), 2)  # noqa: E731
        run_folder.answer(tmp_path, stream, held, batch_size=2, ask=never, advance=lambda _: None)
    assert not (tmp_path / run_folder.FOLDER).exists()


def test_another_protocol_or_another_run_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "POLL_SECONDS", 0.0)
    folder(tmp_path).join().close()
    with pytest.raises(GeoClickError, match="mode 'native', not 'rmsin'"):
        folder(tmp_path, mode="rmsin").join()
    with holder(tmp_path, claims.FIRST) as other:
        with pytest.raises(GeoClickError, match="Another evaluation is writing"):
            folder(tmp_path).join()
        other.stdin.close()
    (tmp_path / "protocol.json").write_text('{"mode": ')
    with pytest.raises(GeoClickError, match=r"protocol\.json is broken"):
        folder(tmp_path).join()


def test_predictions_without_a_protocol_are_refused(tmp_path):
    (tmp_path / records.PREDICTIONS).touch()
    with pytest.raises(GeoClickError, match="predictions of unknown protocol"):
        folder(tmp_path).join()
    assert [path.name for path in tmp_path.iterdir()] == [records.PREDICTIONS]


def test_complete_predictions_are_never_replaced(tmp_path):
    answer(tmp_path, samples(40), Asker())
    run_folder.finish(tmp_path, 40)
    expected = (tmp_path / records.PREDICTIONS).read_bytes()
    (tmp_path / run_folder.FOLDER / "000000.jsonl").unlink()
    run_folder.finish(tmp_path, 40)
    assert (tmp_path / records.PREDICTIONS).read_bytes() == expected


def test_missing_answers_are_no_predictions(tmp_path):
    answer(tmp_path, samples(40), Asker())
    (tmp_path / run_folder.FOLDER / "000001.jsonl").unlink()
    with pytest.raises(GeoClickError, match="24 of 40 answers; rerun the command"):
        run_folder.finish(tmp_path, 40)
    assert not (tmp_path / records.PREDICTIONS).exists()


EVALUATION = """
import sys
from pathlib import Path
from geoclick.command import exit_code
from geoclick.inference.evaluation import run_folder
from tests.inference.evaluation.test_run_folder import Asker, answer_and_finish
print("ready", flush=True)
sys.stdin.readline()
sys.exit(exit_code(lambda: answer_and_finish(Path(sys.argv[1]))))
"""


def answer_and_finish(output):
    """An evaluation of 200 samples that prints how many it has asked."""
    asker = Asker()
    with folder(output).open() as held:
        if held:
            stream = lambda: run_folder.split(samples(200), 2)  # noqa: E731
            run_folder.answer(output, stream, held, batch_size=2, ask=asker, advance=lambda _: None)
            run_folder.finish(output, 200)
    print(sum(map(len, asker.batches)))


@pytest.mark.parametrize("trial", range(5))
def test_two_equal_evaluations_started_at_once_leave_the_predictions_of_one(tmp_path, trial):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    both = [
        subprocess.Popen([sys.executable, "-c", EVALUATION, tmp_path], cwd=REPO, **pipes) for _ in range(2)
    ]
    assert [job.stdout.readline() for job in both] == ["ready\n"] * 2
    for job in both:
        job.stdin.write("\n")
        job.stdin.flush()
    results = [(*job.communicate(), job.returncode) for job in both]
    assert len(list(records.read(tmp_path / records.PREDICTIONS))) == 200
    assert not (tmp_path / run_folder.FOLDER).exists()
    refused = [error for _, error, code in results if code]
    assert all("Another evaluation is writing" in error for error in refused)
    assert sorted(int(out) for out, _, code in results if not code) == [0, 200][len(refused) :]


def test_a_broken_line_is_one_sentence(tmp_path):
    folder(tmp_path).join().close()
    (tmp_path / run_folder.FOLDER / "000000.jsonl").write_text("{}}\n")
    with pytest.raises(GeoClickError, match=r"000000.jsonl is broken .*; delete it"):
        answer(tmp_path, samples(4), Asker())
