import hashlib

import pytest

from geoclick.datasets import ReadOptions, read
from geoclick.scenes.copies.referring import REFERRING
from geoclick.scenes.kinds import KINDS


def digests(root):
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("name", REFERRING)
def test_a_copy_depends_on_its_seed_only(tmp_path, name):
    for folder, seed in (("a", 1), ("b", 1), ("c", 2)):
        REFERRING[name](tmp_path / folder, 1, seed)
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    assert digests(tmp_path / "a") != digests(tmp_path / "c")


@pytest.mark.parametrize("name", REFERRING)
def test_its_count_is_that_of_the_scored_split(tmp_path, name):
    REFERRING[name](tmp_path, 3, 0)
    for split, count in (("test", 3), ("train", 2), ("val", 2)):
        samples = list(read(name, tmp_path, split, options=ReadOptions(question="first")))
        assert len({sample.image for sample in samples}) == len(samples) == count
        assert len({sample.sample_id for sample in samples}) == count


def test_reasoning_questions_do_not_name_their_target(tmp_path):
    REFERRING["earthreason"](tmp_path, 4, 3)
    words = {word for kind in KINDS.values() for word in kind.words}
    for sample in read("earthreason", tmp_path, "test"):
        if sample.task == "reasoning":
            assert not words & set(sample.query.replace(",", " ").split())
