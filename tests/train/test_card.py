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


def run(*words):
    return card.main([str(word) for word in words])


def failure(capsys, *words, code=1):
    assert run(*words) == code
    shown = capsys.readouterr().err
    assert shown.startswith("error: ")
    assert shown.count("\n") == 1
    return shown


def test_a_card_takes_the_place_of_pefts_empty_one(tuned):
    assert card.TEMPLATE in (tuned / "README.md").read_text()
    assert run(tuned) == 0
    found = ModelCard.load(tuned / "README.md")
    assert found.data.library_name == "peft"
    assert found.data.eval_results is None
    assert found.data.license is None
    assert found.data.base_model is None
    assert "# lora\n" in found.text
    assert "not at hand" not in found.text
    assert card.TEMPLATE not in found.text


def test_the_figures_come_back_through_the_hubs_own_reader(tuned, tmp_path):
    digest = provenance.of_adapter(tuned).adapter_sha256
    runs = [evaluated(tmp_path / mode, adapter_sha256=digest, decode=mode) for mode in ("replay", "joint")]
    assert run(tuned, "--evaluation", *runs, "--license", "mit", "--name", "Clicks") == 0
    found = ModelCard.load(tuned / "README.md").data
    assert found.license == "mit"
    assert found.model_name == "Clicks"
    miou = [r for r in found.eval_results if r.metric_name == "mIoU"]
    assert [(r.metric_value, r.metric_args["decode"]) for r in miou] == [(0.75, "replay"), (0.75, "joint")]
    assert {(r.dataset_name, r.dataset_split) for r in found.eval_results} == {("folder: scenes", "test")}
    first = (tuned / "README.md").read_text()
    assert run(tuned, "--evaluation", *runs, "--license", "mit", "--name", "Clicks") == 0
    assert (tuned / "README.md").read_text() == first


def test_a_base_on_the_hub_is_named_to_it(tuned):
    with_record(tuned, base="Qwen/Qwen3-VL-2B-Instruct", revision="0123abcd")
    assert run(tuned) == 0
    data = ModelCard.load(tuned / "README.md").data
    assert data.base_model == "Qwen/Qwen3-VL-2B-Instruct"
    assert data.base_model_relation == "adapter"


def test_a_card_that_someone_wrote_stays(tuned, capsys):
    assert run(tuned) == 0
    edited = (tuned / "README.md").read_text().replace(card_text.MARK, "Mine.")
    (tuned / "README.md").write_text(edited)
    capsys.readouterr()
    assert "was written by someone" in failure(capsys, tuned, code=2)
    assert (tuned / "README.md").read_text() == edited


def test_a_card_is_not_written_over_by_one_that_tells_less(tuned, tmp_path, capsys):
    digest = provenance.of_adapter(tuned).adapter_sha256
    figures = ["--evaluation", evaluated(tmp_path / "e", adapter_sha256=digest)]
    assert run(tuned, *figures, "--license", "mit") == 0
    before = (tuned / "README.md").read_text()
    capsys.readouterr()
    assert "what --evaluation told it" in failure(capsys, tuned, "--license", "mit", code=2)
    assert "what --license told it" in failure(capsys, tuned, *figures, code=2)
    assert (tuned / "README.md").read_text() == before
    broken = before.replace("license: mit", "license: [")
    (tuned / "README.md").write_text(broken)
    assert "cannot be read" in failure(capsys, tuned, *figures, code=2)
    (tuned / "README.md").unlink()
    assert run(tuned) == 0


def test_a_store_that_is_gone_is_said(tuned, tmp_path, capsys):
    with_record(tuned, config={"clicks": str(tmp_path / "gone")})
    assert run(tuned) == 0
    assert "--clicks STORE" in capsys.readouterr().out
    assert run(tuned, "--clicks", tmp_path / "store" / "clicks") == 0
    assert "--clicks STORE" not in capsys.readouterr().out


def test_wrong_requests_are_one_sentence_and_change_nothing(tuned, base, tmp_path, capsys):
    before = (tuned / "README.md").read_text()
    assert "is no folder" in failure(capsys, tmp_path / "nowhere")
    assert "holds no geoclick.json" in failure(capsys, base)
    assert "holds no metrics.json" in failure(capsys, tuned, "--evaluation", tmp_path)
    other = evaluated(tmp_path / "other", adapter_sha256="another")
    assert "are not this model's" in failure(capsys, tuned, "--evaluation", other)
    assert "names no namespace" in failure(capsys, tuned, "--push", "clicks", code=2)
    assert "of no letters" in failure(capsys, tuned, "--name", " ", code=2)
    assert "of no letters" in failure(capsys, tuned, "--license", "", code=2)
    assert (tuned / "README.md").read_text() == before


@pytest.mark.parametrize(
    "name", ["a: b", "# x", "---", "- y", '"q', "{}", "\n---\nlicense: mit", "a\x85b", "<b>"]
)
def test_names_that_mean_something_to_yaml_or_markdown_are_names(tuned, tmp_path, name):
    digest = provenance.of_adapter(tuned).adapter_sha256
    run_folder = evaluated(tmp_path / "e", adapter_sha256=digest)
    told = provenance.of_adapter(tuned)
    found = [evaluations.read(run_folder, told)]
    card.write(tuned, told, found, name=name, license=name)
    data = ModelCard.load(tuned / "README.md").data
    assert (data.model_name, data.license) == (" ".join(name.split()),) * 2


def test_card_and_weights_are_pushed_together(tuned, monkeypatch, capsys):
    seen = []

    def push(folder, name, *, private):
        seen.append((name, private, [path.name for path in hub.published(folder)]))
        return "address"

    monkeypatch.setattr(hub, "push", push)
    assert run(tuned, "--push", "me/clicks") == 0
    names = ["README.md", "adapter_config.json", "adapter_model.safetensors", "geoclick.json", "metrics.json"]
    assert seen == [("me/clicks", False, names)]
    assert "hf download me/clicks --local-dir clicks" in (tuned / "README.md").read_text()
    assert "pushed: address" in capsys.readouterr().out
    assert json.loads((tuned / "geoclick.json").read_text())["config"]["lora_r"] == 4
