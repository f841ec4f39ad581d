import pytest
from safetensors import SafetensorError

from geoclick.errors import GeoClickError, UsageError
from geoclick.train.loop.checkpoints import check_launcher, readable_errors

FULL = "I/O error: No space left on device (os error 28)"


@pytest.mark.parametrize(
    "error",
    [
        SafetensorError(f"Error while serializing: {FULL}"),
        RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 64 vs 0"),
    ],
)
def test_a_full_disk_is_one_sentence_with_the_fix(tmp_path, error):
    words = "free space, then rerun the command with --resume"
    with pytest.raises(GeoClickError, match=words), readable_errors(tmp_path):
        raise error


def test_other_errors_pass_through(tmp_path):
    with pytest.raises(RuntimeError, match="shapes"), readable_errors(tmp_path):
        raise RuntimeError("shapes do not match")


@pytest.mark.parametrize("deepspeed", [False, True])
def test_a_checkpoint_of_another_launcher_is_refused(tmp_path, deepspeed):
    if deepspeed:
        (tmp_path / "latest").write_text("global_step2")
    check_launcher(tmp_path, deepspeed=deepspeed)
    with pytest.raises(UsageError, match=f"was written {'with' if deepspeed else 'without'} DeepSpeed"):
        check_launcher(tmp_path, deepspeed=not deepspeed)
