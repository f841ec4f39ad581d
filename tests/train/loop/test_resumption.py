from types import SimpleNamespace

import pytest

from geoclick.errors import UsageError
from geoclick.train.data import image_hashes
from geoclick.train.loop import resumption
from geoclick.train.loop.resumption import Batches, check_batches, check_launcher
from tests.train.provenances import RECORD


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (Batches(2, 2, 1), Batches(1, 4, 1)),
        (Batches(2, 2, 1), Batches(1, 2, 2)),
        (Batches(1, 4, 1), Batches(2, 2, 1)),
        (Batches(3, 2, 2), Batches(2, 3, 2)),
        (Batches(1, 4, 1), Batches(1, 2, 2)),
    ],
)
def test_another_number_of_processes_continues_with_the_same_rows_in_a_step(tmp_path, old, new):
    check_batches(tmp_path, old, new, flexible=True)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            Batches(2, 2, 1),
            Batches(1, 2, 1),
            "by 2 processes with 4 rows or packs in a step, but this run has 1 process with 2; resume with 2 "
            "processes or with --gradient_accumulation_steps 2 or give another --output.",
        ),
        (
            Batches(1, 4, 1),
            Batches(2, 4, 1),
            "by 1 process with 4 rows or packs in a step, but this run has 2 processes with 8; resume with 1 process "
            "or with --per_device_train_batch_size 2 --gradient_accumulation_steps 1 or give another --output.",
        ),
        (
            Batches(3, 2, 1),
            Batches(2, 2, 1),
            "by 3 processes with 6 rows or packs in a step, but this run has 2 processes with 4; resume with "
            "3 processes or with --per_device_train_batch_size 3 --gradient_accumulation_steps 1 or give "
            "another --output.",
        ),
        (
            Batches(3, 1, 1),
            Batches(2, 1, 1),
            "with 3 rows or packs in a step, but this run has 2 processes with 2; resume with 3 processes or give "
            "another --output.",
        ),
        (
            Batches(1, 4, 1),
            Batches(1, 2, 1),
            "has 1 process with 2; resume with --gradient_accumulation_steps 2 or give another --output.",
        ),
    ],
)
def test_other_steps_are_refused_with_both_numbers_and_the_fix(tmp_path, old, new, expected):
    with pytest.raises(UsageError) as error:
        check_batches(tmp_path, old, new, flexible=True)
    assert str(error.value).endswith(expected)


def test_where_the_division_matters_another_number_of_processes_is_refused(tmp_path):
    check_batches(tmp_path, Batches(2, 2, 1), Batches(2, 2, 1), flexible=False)
    with pytest.raises(UsageError, match="by 2 processes, but this run has 1; resume with 2 processes, or"):
        check_batches(tmp_path, Batches(2, 2, 1), Batches(1, 4, 1), flexible=False)


LAUNCHERS = {"PyTorch": "optimizer.pt", "DeepSpeed": "latest", "FSDP": "optimizer.bin"}


@pytest.mark.parametrize("before", LAUNCHERS)
@pytest.mark.parametrize("now", LAUNCHERS)
def test_a_checkpoint_of_another_launcher_is_refused(tmp_path, before, now):
    (tmp_path / LAUNCHERS[before]).write_text("global_step2")
    fsdp = ["full_shard"] if now == "FSDP" else []
    arguments = SimpleNamespace(deepspeed_plugin=object() if now == "DeepSpeed" else None, fsdp=fsdp)
    if before == now:
        check_launcher(tmp_path, arguments)
        return
    with pytest.raises(UsageError, match="was written with"):
        check_launcher(tmp_path, arguments)


def changed(**values):
    return SimpleNamespace(**vars(RECORD) | values)


def test_changed_data_and_a_changed_first_adapter_are_refused(tmp_path):
    one, other, unknown = (changed(data_sha256=value) for value in ("aa", "bb", ""))
    resumption.check_data(tmp_path, one, one)
    resumption.check_data(tmp_path, unknown, one)
    with pytest.raises(UsageError, match="/home/somebody/clicks has changed since the run"):
        resumption.check_data(tmp_path, one, other)
    first, second = (changed(config={"adapter": "lora", "adapter_sha256": value}) for value in "ab")
    resumption.check_data(tmp_path, first, first)
    with pytest.raises(UsageError, match="lora has changed since the run"):
        resumption.check_data(tmp_path, first, second)


def test_runs_of_earlier_versions_resume_with_what_they_did(tmp_path):
    (tmp_path / "config.yaml").write_text("lora_r: 4\n")
    resumption.check_same(tmp_path, {"lora_r": 4, "loss_average": "tokens", "resume": True}, {"resume"})
    with pytest.raises(UsageError, match="loss_average 'tokens', not 'samples'"):
        resumption.check_same(tmp_path, {"lora_r": 4, "loss_average": "samples"}, set())


def test_options_whose_meaning_has_changed_are_compared_by_what_they_do(tmp_path):
    (tmp_path / "config.yaml").write_text("limit: 5\ntile: 1024\n")
    for tile in (None, 1024):
        now = {"limit": None, "first": 5, "tile": tile, "by_class": False}
        resumption.check_same(tmp_path, now, set())
    for changed in ({"limit": 5, "first": None}, {"first": 6}, {"tile": 512}, {"by_class": True}):
        with pytest.raises(UsageError, match="resume with the same options"):
            resumption.check_same(tmp_path, now | changed, set())


def test_changed_images_are_refused_by_name(tmp_path):
    before = {"data/a.png": "0" * 64, "data/b c.png": "1" * 64, "data/d.png": "2" * 64}
    image_hashes.write(tmp_path, before)
    resumption.check_images(tmp_path, before)
    # A new option may add images, and an earlier version had no hashes.
    resumption.check_images(tmp_path, before | {"data/e.png": "3" * 64})
    resumption.check_images(tmp_path / "earlier", before)
    with pytest.raises(
        UsageError, match=r"^data/b c\.png has changed since the run in .*; restore it, or give"
    ):
        resumption.check_images(tmp_path, before | {"data/b c.png": "4" * 64})
    with pytest.raises(
        UsageError, match=r"^data/a\.png and 2 others have changed since .*; restore them, or"
    ):
        resumption.check_images(tmp_path, dict.fromkeys(before, "4" * 64))
