import pytest
import torch

from geoclick import datasets, store
from geoclick.data_synthesis.shards import progress, shard
from geoclick.data_synthesis.shards.job import Job, run_shard
from geoclick.data_synthesis.simulation.policies import Clicker
from geoclick.datasets import LeftOut
from geoclick.errors import GeoClickError
from geoclick.segmenters.clicking import Prompting
from tests.data_synthesis.disc_segmenter import DiscSegmenter
from tests.data_synthesis.test_run import make_root


def job_of(segmenter):
    return Job(segmenter, 6, 0.9, Prompting(), seed=0, batch=7, image_batch=3, clicker=Clicker(), sequences=1)


@pytest.fixture
def samples(tmp_path):
    return list(datasets.read("folder", make_root(tmp_path / "data"), "train"))


def test_a_shard_is_made_and_written_with_its_account(samples, tmp_path):
    (tmp_path / "data/train/images/1.png").write_bytes(b"no image")
    job, advanced = job_of(DiscSegmenter()), []
    made = shard.make(job, samples, lambda: advanced.append(1))
    assert made.rows == run_shard(job, samples, on_left_out=lambda _: None, advance=lambda: None)
    assert len(advanced) == len(samples) == len(made.rows) + 2
    assert [(item.item, item.reason) for item in made.left_out] == [
        ("s02", "broken image"),
        ("s03", "broken image"),
    ]
    shard.write(tmp_path / "out", 0, 1, made)
    assert list(store.read(tmp_path / "out")) == made.rows
    assert progress.read_account(tmp_path / "out", 0) == (made.left_out, made.seconds)


def test_a_shard_that_is_there_has_its_account(samples, tmp_path, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    made = shard.Made([], [LeftOut("a", "empty mask")], 1.0)
    monkeypatch.setattr("geoclick.data_synthesis.shards.progress.write_account", killed)
    with pytest.raises(KeyboardInterrupt):
        shard.write(tmp_path / "out", 0, 1, made)
    assert not store.finished_shards(tmp_path / "out", 1)


def test_memory_that_runs_out_is_one_sentence_with_the_fix(samples):
    class Full(DiscSegmenter):
        def embed(self, images):
            raise torch.OutOfMemoryError

    with pytest.raises(GeoClickError, match="out of memory with --batch 7 --image-batch 3; start the same"):
        shard.make(job_of(Full()), samples)
