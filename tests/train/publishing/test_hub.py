import inspect
import json
import types
from pathlib import PurePosixPath

import huggingface_hub
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geoclick.errors import GeoClickError, UsageError
from geoclick.train.publishing import hub

CLIENT = huggingface_hub.HfApi


def check_signature(method, *args, **options):
    """Raise TypeError if the real client would not accept this call."""
    inspect.signature(getattr(CLIENT, method)).bind(None, *args, **options)


class FakeHub:
    """The three calls of a push, without the network."""

    def __init__(self, *, private=None, error=None):
        self.private, self.error, self.repositories, self.files = private, error, {}, {}

    def create_repo(self, name, *, private, exist_ok):
        check_signature("create_repo", name, private=private, exist_ok=exist_ok)
        if self.error:
            raise self.error
        assert exist_ok
        self.repositories[name] = private if self.private is None else self.private

    def model_info(self, name):
        check_signature("model_info", name)
        return types.SimpleNamespace(private=self.repositories[name])

    def create_commit(self, name, operations, *, commit_message):
        check_signature("create_commit", name, operations, commit_message=commit_message)
        assert name in self.repositories
        for operation in operations:
            with operation.as_file() as file:
                self.files[operation.path_in_repo] = file.read()
        return types.SimpleNamespace(commit_url=f"https://hub/{name}/commit/1")


@pytest.fixture
def fake(monkeypatch):
    def make(**options):
        api = FakeHub(**options)
        monkeypatch.setattr(huggingface_hub, "HfApi", lambda: api)
        return api

    return make


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "checkpoint-3").mkdir()
    for name in ("adapter_model.safetensors", "README.md", "config.yaml", "checkpoint-3/optimizer.pt"):
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "checkpoint-3" / "adapter_model.safetensors").touch()
    (tmp_path / "training_args.bin").touch()
    (tmp_path / "geoclick.json").write_text(json.dumps({"config": {"root": "/home/somebody/scenes"}}))
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "/data/base"}))
    return tmp_path


def test_only_model_files_are_pushed_in_one_commit(fake, folder):
    api = fake()
    assert hub.push(folder, "me/clicks", private=True) == "https://hub/me/clicks/commit/1"
    assert sorted(api.files) == [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "geoclick.json",
    ]
    assert api.files["adapter_model.safetensors"] == b"adapter_model.safetensors"
    assert api.repositories == {"me/clicks": True}


def test_no_local_path_is_pushed(fake, folder):
    api = fake()
    hub.push(folder, "me/clicks", private=False)
    assert json.loads(api.files["geoclick.json"]) == {"config": {"root": "scenes"}}
    assert json.loads(api.files["adapter_config.json"]) == {"base_model_name_or_path": "base"}
    assert "/home/somebody" in (folder / "geoclick.json").read_text()
    assert api.repositories == {"me/clicks": None}


def test_a_private_push_to_a_public_repository_is_refused(fake, folder):
    api = fake(private=False)
    with pytest.raises(GeoClickError, match="is public on the hub"):
        hub.push(folder, "me/clicks", private=True)
    assert api.files == {}
    hub.push(folder, "me/clicks", private=False)
    assert api.files


@pytest.mark.parametrize(
    "error", [OSError("no route\nto host"), ValueError(""), RuntimeError("Unauthorized")]
)
def test_an_error_of_the_hub_is_one_sentence_with_the_fix(fake, folder, error):
    fake(error=error)
    with pytest.raises(GeoClickError, match="hf auth login") as caught:
        hub.push(folder, "me/clicks", private=True)
    assert "\n" not in str(caught.value)
    assert f"'geoclick card {folder} --push me/clicks --private'" in str(caught.value)


@pytest.mark.parametrize("name", ["clicks", "a/b/c", "me/a b", "me/", "../x", "me/--x", ""])
def test_wrong_names_are_refused(name):
    with pytest.raises(UsageError, match="NAMESPACE/NAME"):
        hub.check_push(name, False)


def test_private_needs_push():
    hub.check_push("me/clicks", True)
    hub.check_push(None, False)
    with pytest.raises(UsageError, match="add --push"):
        hub.check_push(None, True)


JSON = st.recursive(
    st.none() | st.integers() | st.text() | st.just("/home/somebody/data"),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def strings(values):
    if isinstance(values, str):
        yield values
    for value in values.values() if isinstance(values, dict) else values if isinstance(values, list) else ():
        yield from strings(value)


@settings(max_examples=50)
@given(JSON)
def test_absolute_paths_are_shortened_and_other_texts_remain(values):
    before, after = list(strings(values)), list(strings(hub.without_paths(values)))
    assert len(before) == len(after)
    for one, two in zip(before, after, strict=True):
        if not set(one) & set("/\\"):
            assert two == one
        assert not PurePosixPath(two).is_absolute()
    assert hub.without_paths(hub.without_paths(values)) == hub.without_paths(values)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("/home/a/b", "b"),
        ("/home/a/", "a"),
        ("../customer/x", "x"),
        ("runs/../../customer/x", "x"),
        ("./x", "x"),
        ("~/x", "x"),
        ("~bob/customer/x", "x"),
        (r"C:\Users\me\x", "x"),
        ("C:/Users/me/x", "x"),
        (r"\\server\share\x", "x"),
        ("file:///home/a", "a"),
        ("file://host/home/a", "a"),
        ("x=/home/a/b", "x=b"),
        ("path:/home/a/b", "path:b"),
        (r"in C:\Users\me\x", "in x"),
        ("from ~/customer/x, /home/me too/y", "from x, y"),
        ("['/home/a/b']", "['b']"),
    ],
)
def test_every_kind_of_local_path_is_shortened(value, expected):
    assert hub.without_paths({"config": [value]}) == {"config": [expected]}


@pytest.mark.parametrize(
    "value",
    [
        *("Qwen/Qwen3-VL-2B-Instruct", "https://host:80/a/b", "a / b", "and/or", "1/2", "</think>", "~"),
        r"layers\.\d+\.(q|v)_proj",
        r"^(?!.*visual).*(?:q|v)_proj.*$",
    ],
)
def test_names_of_the_hub_addresses_and_patterns_remain(value):
    assert hub.without_paths(value) == value


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        ("geoclick.json", '{"config": {"hub_token": "x"}}', "hub_token"),
        ("geoclick.json", '{"config": {"start": {"api_key": "x"}}}', "api_key"),
        ("geoclick.json", '{"config": {"run_name": "hf_abcdefghijklmnopqrst"}}', "a token of the hub"),
        ("README.md", r"hub token: hf\_abcdefghijklmnopqrst", "a token of the hub"),
    ],
)
def test_a_folder_with_a_secret_is_not_pushed(fake, folder, file, text, expected):
    api = fake()
    (folder / file).write_text(text)
    with pytest.raises(UsageError, match=expected) as caught:
        hub.push(folder, "me/clicks", private=True)
    assert str(folder / file) in str(caught.value)
    assert "abcdefgh" not in str(caught.value)
    assert api.files == {}


def test_options_without_a_secret_are_pushed(fake, folder):
    (folder / "geoclick.json").write_text('{"config": {"hub_token": null, "pad_token": "<pad>"}}')
    api = fake()
    hub.push(folder, "me/clicks", private=True)
    assert api.files
