import pickle

import pytest
import torch
from safetensors.torch import save_file

from geoclick.errors import GeoClickError
from geoclick.weight_files import read_state

WEIGHTS = {"a.weight": torch.arange(6.0).view(2, 3), "b": torch.ones(())}


class Code:
    """What a hostile file holds: unpickling it runs a command."""

    def __reduce__(self):
        return print, ("the code of a checkpoint ran",)


@pytest.mark.parametrize(
    "content",
    [
        WEIGHTS,
        {f"module.{key}": value for key, value in WEIGHTS.items()},
        {
            "epoch": 3,
            "state_dict": {f"module.{key}": value for key, value in WEIGHTS.items()},
            "optimizer": {},
        },
    ],
)
def test_weights_are_read_from_plain_files_and_training_checkpoints(content, tmp_path):
    torch.save(content, tmp_path / "model.pt")
    state = read_state(tmp_path / "model.pt", "CLIP")
    assert state.keys() == WEIGHTS.keys()
    assert all(torch.equal(state[key], WEIGHTS[key]) for key in state)


def test_safetensors_are_read(tmp_path):
    save_file(WEIGHTS, tmp_path / "model.safetensors")
    assert read_state(tmp_path / "model.safetensors", "CLIP").keys() == WEIGHTS.keys()
    (tmp_path / "model.safetensors").write_bytes(b"{}")
    with pytest.raises(GeoClickError, match="damaged"):
        read_state(tmp_path / "model.safetensors", "CLIP")


def test_code_is_not_run(tmp_path, capsys):
    torch.save(WEIGHTS | {"x": Code()}, tmp_path / "model.pt")
    with (tmp_path / "plain.pt").open("wb") as file:
        pickle.dump(Code(), file, protocol=2)
    for name in ("model.pt", "plain.pt"):
        with pytest.raises(GeoClickError, match="holds code or objects besides weights") as error:
            read_state(tmp_path / name, "CLIP")
        assert "\n" not in str(error.value)
    assert capsys.readouterr().out == ""


def test_a_torchscript_archive_is_not_run(tmp_path):
    torch.jit.script(torch.nn.Linear(2, 2)).save(tmp_path / "model.pt")
    with pytest.raises(GeoClickError, match=r"TorchScript archive.*; give a file of weights alone\.$"):
        read_state(tmp_path / "model.pt", "CLIP")
    with pytest.raises(GeoClickError, match=r"; give a hub id\.$"):
        read_state(tmp_path / "model.pt", "CLIP", instead="a hub id")


@pytest.mark.parametrize("content", [{"epoch": 1}, [1, 2], {}, torch.ones(2)])
def test_a_file_without_named_weights_is_an_error(content, tmp_path):
    torch.save(content, tmp_path / "model.pt")
    with pytest.raises(GeoClickError, match="no named weights"):
        read_state(tmp_path / "model.pt", "CLIP")


def test_missing_truncated_and_foreign_files_are_errors(tmp_path):
    path = tmp_path / "model.pt"
    with pytest.raises(GeoClickError, match="does not exist"):
        read_state(path, "CLIP")
    torch.save(WEIGHTS, path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(
        GeoClickError, match="damaged or no PyTorch weight file; download the CLIP file again"
    ):
        read_state(path, "CLIP")
    path.write_bytes(b"\x89PNG\r\n")
    with pytest.raises(GeoClickError, match="damaged or no PyTorch weight file"):
        read_state(path, "CLIP")
