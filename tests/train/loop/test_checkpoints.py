import pytest
from safetensors import SafetensorError

from geoclick.errors import GeoClickError
from geoclick.train.loop.checkpoints import readable_errors

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


def test_a_checkpoint_that_cannot_be_read_is_not_a_full_disk(tmp_path):
    words = "PytorchStreamReader failed reading zip archive (inline_container.cc:172)"
    with pytest.raises(RuntimeError, match="PytorchStreamReader"), readable_errors(tmp_path):
        raise RuntimeError(words)
