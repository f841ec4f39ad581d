import json

import pytest
from huggingface_hub import ModelCard

from geoclick.train import card
from geoclick.train.publishing import card_text, evaluations, hub, provenance
from tests import tiny
from tests.train.adapters import evaluated, random_adapter, with_record


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny.qwen3_vl_folder(tmp_path_factory.mktemp("base"))


@pytest.fixture
def tuned(base, tmp_path):
    clicks, root = tiny.click_store(tmp_path / "store")
    return random_adapter(tmp_path / "lora", base, clicks=clicks, root=root)


def run(*arguments):
    return card.main([str(argument) for argument in arguments])


def failure(capsys, *arguments, code=1):
    assert run(*arguments) == code
    message = capsys.readouterr().err
    assert message.startswith("error: ")
    assert message.count("\n") == 1
    return message


def test_the_card_replaces_the_empty_one_of_peft(tuned):
    assert card.PEFT_TITLE in (tuned / "README.md").read_text()
    assert run(tuned) == 0
    written = ModelCard.load(tuned / "README.md")
    assert written.data.library_name == "peft"
    assert written.data.eval_results is None
    assert written.data.license is None
    assert written.data.base_model is None
    assert "# lora\n" in written.text
    assert "not available" not in written.text
    assert card.PEFT_TITLE not in written.text


def test_scores_are_read_back_by_the_hubs_client(tuned, tmp_path):
    digest = provenance.read_adapter(tuned).adapter_sha256
    runs = [evaluated(tmp_path / mode, adapter_sha256=digest, decode=mode) for mode in ("replay", "joint")]
    assert run(tuned, "--evaluation", *runs, "--license", "mit", "--name", "Clicks") == 0
    data = ModelCard.load(tuned / "README.md").data
    assert data.license == "mit"
    assert data.model_name == "Clicks"
    miou = [r for r in data.eval_results if r.metric_name == "mIoU"]
    assert [(r.metric_value, r.metric_args["decode"]) for r in miou] == [(0.75, "replay"), (0.75, "joint")]
    assert {(r.dataset_name, r.dataset_split) for r in data.eval_results} == {("folder: scenes", "test")}
    first = (tuned / "README.md").read_text()
    assert run(tuned, "--evaluation", *runs, "--license", "mit", "--name", "Clicks") == 0
    assert (tuned / "README.md").read_text() == first


def test_a_base_on_the_hub_is_in_the_metadata(tuned):
    with_record(tuned, base="Qwen/Qwen3-VL-2B-Instruct", revision="0123abcd")
    assert run(tuned) == 0
    data = ModelCard.load(tuned / "README.md").data
    assert data.base_model == "Qwen/Qwen3-VL-2B-Instruct"
    assert data.base_model_relation == "adapter"


def test_a_card_written_by_hand_is_not_overwritten(tuned, capsys):
    assert run(tuned) == 0
    edited = (tuned / "README.md").read_text().replace(card_text.MARK, "Mine.")
    (tuned / "README.md").write_text(edited)
    capsys.readouterr()
    assert "was written by hand" in failure(capsys, tuned, code=2)
    assert (tuned / "README.md").read_text() == edited


def test_a_card_is_not_replaced_by_one_with_less_content(tuned, tmp_path, capsys):
    digest = provenance.read_adapter(tuned).adapter_sha256
    scores = ["--evaluation", evaluated(tmp_path / "e", adapter_sha256=digest)]
    assert run(tuned, *scores, "--license", "mit") == 0
    before = (tuned / "README.md").read_text()
    capsys.readouterr()
    assert "the content of --evaluation" in failure(capsys, tuned, "--license", "mit", code=2)
    assert "the content of --license" in failure(capsys, tuned, *scores, code=2)
    assert (tuned / "README.md").read_text() == before
    broken = before.replace("license: mit", "license: [")
    (tuned / "README.md").write_text(broken)
    assert "cannot be read" in failure(capsys, tuned, *scores, code=2)
    (tuned / "README.md").unlink()
    assert run(tuned) == 0


def test_a_missing_click_store_is_reported(tuned, tmp_path, capsys):
    with_record(tuned, config={"clicks": str(tmp_path / "gone")})
    assert run(tuned) == 0
    assert "--clicks STORE" in capsys.readouterr().out
    assert run(tuned, "--clicks", tmp_path / "store" / "clicks") == 0
    assert "--clicks STORE" not in capsys.readouterr().out


def test_wrong_requests_are_errors_and_change_nothing(tuned, base, tmp_path, capsys):
    before = (tuned / "README.md").read_text()
    assert "is not a folder" in failure(capsys, tmp_path / "nowhere")
    assert "holds no geoclick.json" in failure(capsys, base)
    assert "holds no metrics.json" in failure(capsys, tuned, "--evaluation", tmp_path)
    other = evaluated(tmp_path / "other", adapter_sha256="another")
    assert "belong to another model" in failure(capsys, tuned, "--evaluation", other)
    assert "has no namespace" in failure(capsys, tuned, "--push", "clicks", code=2)
    assert "--name is empty" in failure(capsys, tuned, "--name", " ", code=2)
    assert "--license is empty" in failure(capsys, tuned, "--license", "", code=2)
    assert (tuned / "README.md").read_text() == before


@pytest.mark.parametrize(
    "name", ["a: b", "# x", "---", "- y", '"q', "{}", "\n---\nlicense: mit", "a\x85b", "<b>"]
)
def test_names_with_yaml_or_markdown_syntax_are_escaped(tuned, tmp_path, name):
    model = provenance.read_adapter(tuned)
    run_folder = evaluated(tmp_path / "e", adapter_sha256=model.adapter_sha256)
    runs = [evaluations.read(run_folder, model)]
    card.write(tuned, model, runs, name=name, license=name)
    data = ModelCard.load(tuned / "README.md").data
    assert (data.model_name, data.license) == (" ".join(name.split()),) * 2


def test_card_and_weights_are_pushed_together(tuned, monkeypatch, capsys):
    pushes = []

    def push(folder, name, *, private):
        pushes.append((name, private, [path.name for path in hub.model_files(folder)]))
        return "address"

    monkeypatch.setattr(hub, "push", push)
    assert run(tuned, "--push", "me/clicks") == 0
    names = ["README.md", "adapter_config.json", "adapter_model.safetensors", "geoclick.json", "metrics.json"]
    assert pushes == [("me/clicks", False, names)]
    assert "hf download me/clicks --local-dir clicks" in (tuned / "README.md").read_text()
    assert "pushed: address" in capsys.readouterr().out
    assert json.loads((tuned / "geoclick.json").read_text())["config"]["lora_r"] == 4


def test_a_secret_that_an_earlier_version_wrote_is_neither_shown_nor_pushed(tuned, capsys):
    path = tuned / "geoclick.json"
    record = json.loads(path.read_text())
    record["config"]["hub_token"] = "hf_abcdefghijklmnopqrst"
    path.write_text(json.dumps(record))
    assert f"{path} holds a secret (hub_token)" in failure(capsys, tuned, "--push", "me/clicks", code=2)
    assert card.PEFT_TITLE in (tuned / "README.md").read_text()
    assert run(tuned) == 0
    assert "abcdefgh" not in (tuned / "README.md").read_text()
