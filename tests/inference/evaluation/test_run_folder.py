import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geoclick import masks
from geoclick.datasets import Sample
from geoclick.errors import GeoClickError
from geoclick.inference.evaluation import run_folder
from geoclick.jobs import processes
from geoclick.scoring import records

PROTOCOL = {"mode": "native", "n": 40}
EMPTY = masks.encode_rle(np.zeros((2, 2), bool))


def samples(count, images=3):
    return [
        Sample(
            sample_id=f"s{i}",
            dataset="d",
            split="test",
            task="referring",
            query="q" * (i * 7 % 5),
            root=None,
            image=f"{i % images}.png",
            size=(2, 2),
            rle=EMPTY,
        )
        for i in range(count)
    ]


class Asker:
    """Answers with the positions that were asked together, and stops at a batch if it is told to."""

    def __init__(self, stop_at=None):
        self.batches, self.stop_at = [], stop_at

    def __call__(self, batch):
        if len(self.batches) == self.stop_at:
            raise KeyboardInterrupt
        self.batches.append([position for position, _ in batch])
        return [{"sample_id": s.sample_id, "together": len(batch), "first": batch[0][0]} for _, s in batch]


def answer(output, given, asker, *, size=2):
    claims = run_folder.join(output, PROTOCOL)
    told = []
    with claims:
        run_folder.answer(
            output,
            lambda: run_folder.split(given, size),
            claims,
            batch_size=size,
            ask=asker,
            advance=told.append,
        )
    return sum(told)


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


def test_a_run_that_was_killed_anywhere_ends_as_one_that_was_not(tmp_path):
    given_samples, whole = samples(40), tmp_path / "whole"
    assert answer(whole, given_samples, Asker()) == 40
    run_folder.finish(whole)
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
    run_folder.finish(output)
    assert (output / records.PREDICTIONS).read_text() == expected
    assert run_folder.join(output, PROTOCOL) is None
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
from geoclick.jobs import processes
with open(sys.argv[1], "r+b") as claims:
    assert processes.take(claims, 2)
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_part_that_a_dying_process_leaves_is_done_by_process_0(tmp_path):
    given_samples, size = samples(40), 2
    claims = run_folder.join(tmp_path, PROTOCOL)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, tmp_path / run_folder.FOLDER / "claims"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout.readline() == "held\n"
    asker = Asker()

    def parts():
        yield from run_folder.split(given_samples, size)
        holder.kill()  # after the first look at all parts

    with claims:
        run_folder.answer(tmp_path, parts, claims, batch_size=size, ask=asker, advance=lambda _: None)
    holder.wait()
    part = range(16, 32)
    assert [batch[0] in part for batch in asker.batches] == [False] * 12 + [True] * 8
    run_folder.finish(tmp_path)
    assert len(list(records.read(tmp_path / records.PREDICTIONS))) == 40


def test_a_process_that_comes_late_asks_nothing(tmp_path):
    """It had opened the claims when process 0 joined the parts and removed them."""
    with run_folder.join(tmp_path, PROTOCOL) as claims:
        (tmp_path / records.PREDICTIONS).touch()
        run_folder.clean(tmp_path)
        never = Asker(0)
        stream = lambda: run_folder.split(samples(40), 2)  # noqa: E731
        run_folder.answer(tmp_path, stream, claims, batch_size=2, ask=never, advance=lambda _: None)
    assert not (tmp_path / run_folder.FOLDER).exists()


def test_another_protocol_or_another_run_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "GLANCE", 0.0)
    run_folder.join(tmp_path, PROTOCOL).close()
    with pytest.raises(GeoClickError, match="mode 'native', not 'rmsin'"):
        run_folder.join(tmp_path, PROTOCOL | {"mode": "rmsin"})
    script = HOLDER.replace("take(claims, 2)", "take(claims, processes.LEAD)")
    with subprocess.Popen(
        [sys.executable, "-c", script, tmp_path / run_folder.FOLDER / "claims"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(GeoClickError, match="Another evaluation is writing"):
            run_folder.join(tmp_path, PROTOCOL)
        other.stdin.close()
    (tmp_path / run_folder.PROTOCOL).write_text('{"mode": ')
    with pytest.raises(GeoClickError, match="cannot be read"):
        run_folder.join(tmp_path, PROTOCOL)


def test_a_broken_line_is_one_sentence(tmp_path):
    run_folder.join(tmp_path, PROTOCOL).close()
    (tmp_path / run_folder.FOLDER / "000000.jsonl").write_text("{}}\n")
    with pytest.raises(GeoClickError, match=r"000000.jsonl is broken .*; delete it"):
        answer(tmp_path, samples(4), Asker())
