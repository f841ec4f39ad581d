import json
import sys
from types import SimpleNamespace

import pytest

from geoclick import model_folders
from geoclick.errors import GeoClickError


def test_a_folder_is_itself_and_a_hub_id_is_downloaded(tmp_path, monkeypatch):
    assert model_folders.locate(str(tmp_path), ["*.json"], "another") == tmp_path
    asked = []

    def snapshot_download(name, **arguments):
        asked.append((name, arguments))
        return str(tmp_path / "abc")

    monkeypatch.setitem(sys.modules, "huggingface_hub", SimpleNamespace(snapshot_download=snapshot_download))
    assert model_folders.locate("some/model", ("*.json",), "another", "v1") == tmp_path / "abc"
    assert asked == [("some/model", {"revision": "v1", "allow_patterns": ["*.json"]})]


def test_a_model_behind_an_agreement_and_a_missing_one_are_one_sentence(monkeypatch):
    class GatedRepoError(Exception):
        pass

    def message(error):
        def snapshot_download(name, **arguments):
            raise error

        monkeypatch.setitem(
            sys.modules, "huggingface_hub", SimpleNamespace(snapshot_download=snapshot_download)
        )
        with pytest.raises(GeoClickError) as raised:
            model_folders.locate("facebook/sam3", ["*.json"], "another")
        return str(raised.value)

    assert message(GatedRepoError("401 Client Error.\nAccess is restricted")) == (
        "Model facebook/sam3 asks for an agreement; accept it at https://huggingface.co/facebook/sam3 and log in with "
        "'hf auth login'."
    )
    assert message(OSError("no\nnetwork")) == (
        "Model facebook/sam3 is neither a folder here nor reachable on the hub (OSError); check the name and the "
        "network, or download it and give its folder."
    )


@pytest.mark.parametrize("name", ["nowhere", "./no/folder", "/no/folder", "~/folder", "a/b/c"])
def test_a_missing_folder_is_one_sentence(name):
    with pytest.raises(GeoClickError) as error:
        model_folders.locate(name, ["*.json"], "a hub id")
    assert str(error.value) == f"Model folder {name} does not exist; give a hub id."


def test_the_type_of_a_model_and_broken_configs(tmp_path):
    path = tmp_path / "config.json"
    with pytest.raises(GeoClickError, match=r"holds no config.json"):
        model_folders.model_type(tmp_path)
    for text in ("{", "[]", "[" * 100_000):
        path.write_text(text)
        with pytest.raises(GeoClickError, match="cannot be read as JSON"):
            model_folders.model_type(tmp_path)
    path.write_text("{}")
    assert model_folders.model_type(tmp_path) == "unknown"
    path.write_text(json.dumps({"model_type": "sam3"}))
    assert model_folders.model_type(tmp_path) == "sam3"
