import pytest
from safetensors import SafetensorError

from geoclick.errors import GeoClickError
from train.checkpoints import explained

FULL = "I/O error: No space left on device (os error 28)"


@pytest.mark.parametrize(
    "error",
    [
        SafetensorError(f"Error while serializing: {FULL}"),
        RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 64 vs 0"),
    ],
)
def test_a_full_disk_is_one_sentence_with_the_way_on(tmp_path, error):
    words = "free space, then start the same command with --resume"
    with pytest.raises(GeoClickError, match=words), explained(tmp_path):
        raise error


def test_other_errors_pass_through(tmp_path):
    with pytest.raises(RuntimeError, match="shapes"), explained(tmp_path):
        raise RuntimeError("shapes do not match")
