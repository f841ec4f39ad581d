import pytest
import torch

from geoclick import datasets, store
from geoclick.data_synthesis.shards import make, progress
from geoclick.data_synthesis.shards.job import Job
from geoclick.data_synthesis.simulation.part_rules import PartRules
from geoclick.data_synthesis.simulation.policies import Clicker
from geoclick.datasets import LeftOut
from geoclick.errors import GeoClickError
from geoclick.segmenters.clicking import Prompting
from tests.data_synthesis.disc_segmenter import DiscSegmenter
from tests.data_synthesis.test_run import make_root


def job_of(segmenter):
    return Job(
        segmenter,
        6,
        0.9,
        Prompting(),
        seed=0,
        batch=7,
        image_batch=3,
        clicker=Clicker(),
        sequences=1,
        parts=PartRules(),
    )


@pytest.fixture
def samples(tmp_path):
    return list(datasets.read("folder", make_root(tmp_path / "data"), "train"))


def test_a_shard_is_made_and_written_with_its_account(samples, tmp_path):
    (tmp_path / "data/train/images/1.png").write_bytes(b"no image")
    job, advanced = job_of(DiscSegmenter()), []
    shard = make.make(job, samples, lambda: advanced.append(1))
    assert len(advanced) == len(samples) == len(shard.rows) + 2
    assert [(item.item, item.reason) for item in shard.left_out] == [
        ("s02", "broken image"),
        ("s03", "broken image"),
    ]
    make.write(tmp_path / "out", 0, 1, shard)
    assert list(store.read(tmp_path / "out")) == shard.rows
    assert progress.read_account(tmp_path / "out", 0) == (shard.left_out, shard.seconds)


def test_the_account_is_written_before_the_shard(samples, tmp_path, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    shard = make.Shard([], [LeftOut("a", "empty mask")], 1.0)
    monkeypatch.setattr("geoclick.data_synthesis.shards.progress.write_account", killed)
    with pytest.raises(KeyboardInterrupt):
        make.write(tmp_path / "out", 0, 1, shard)
    assert not store.finished_shards(tmp_path / "out", 1)


def test_out_of_memory_is_one_sentence_with_the_fix(samples):
    class Full(DiscSegmenter):
        def embed(self, images):
            raise torch.OutOfMemoryError

    with pytest.raises(
        GeoClickError, match="out of memory with --batch 7 --image-batch 3; rerun the command"
    ):
        make.make(job_of(Full()), samples)
