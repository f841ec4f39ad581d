"""What a run leaves for other tools: the processor and a card from the first checkpoint on, and a push at the end."""

import huggingface_hub
import pytest
from huggingface_hub import ModelCard
from peft import AutoPeftModel
from transformers import AutoProcessor

from geoclick.errors import GeoClickError
from geoclick.train import sft
from geoclick.train.loop.trainer import ClickTrainer
from geoclick.train.publishing import card_text
from geoclick.vlms import adapter, adapter_runs
from tests import tiny
from tests.train.publishing.test_hub import FakeHub

TOKEN = "hf_abcdefghijklmnopqrstuvwxyz"
PUSH = ["--push_to_hub", "true", "--hub_model_id", "me/clicks"]


@pytest.fixture(scope="module")
def flags(tmp_path_factory):
    """The flags of every run: three steps, a checkpoint after each."""
    folder = tmp_path_factory.mktemp("folder")
    base = tiny.qwen3_vl_folder(folder / "vlm")
    clicks, root = tiny.click_store(folder, rows=8)
    words = ["--vlm", base, "--clicks", clicks, "--root", root, "--lora-r", 4, "--use_cpu", "true"]
    words += ["--max_steps", 3, "--save_strategy", "steps", "--save_steps", 1, "--save_total_limit", 5]
    return list(map(str, words))


@pytest.fixture
def hub(monkeypatch):
    def make(**options):
        api = FakeHub(**options)
        monkeypatch.setattr(huggingface_hub, "HfApi", lambda: api)
        return api

    return make


def test_processor_and_card_are_there_from_the_first_checkpoint_on(flags, tmp_path, monkeypatch):
    output, steps, step = tmp_path / "run", [], ClickTrainer.training_step

    def stopped(self, *words, **options):
        steps.append(sorted(path.name for path in output.glob("*")))
        if len(steps) == 3:
            raise GeoClickError("stopped")
        return step(self, *words, **options)

    monkeypatch.setattr(ClickTrainer, "training_step", stopped)
    assert sft.main([*flags, "--output", str(output)]) == 1
    assert "README.md" not in steps[0]
    for folder in (steps[1], steps[2]):
        assert {"README.md", "tokenizer.json", "checkpoint-1"} <= set(folder)
    assert not (output / adapter.WEIGHTS).exists()
    assert AutoProcessor.from_pretrained(output).image_token == "<|image_pad|>"
    text = (output / "README.md").read_text()
    assert "| steps | 2 |" in text
    assert "| version of transformers |" in text
    assert {"trl", "sft", "geoclick"} <= set(ModelCard(text).data.tags)
    monkeypatch.setattr(ClickTrainer, "training_step", step)
    assert sft.main([*flags, "--output", str(output), "--resume"]) == 0
    text = (output / "README.md").read_text()
    assert "| steps | 3 |" in text
    assert text.count(card_text.MARK) == 1
    assert AutoPeftModel.from_pretrained(str(output)).peft_config["default"].r == 4


def test_a_card_of_the_user_remains(flags, tmp_path):
    output = tmp_path / "run"
    assert sft.main([*flags, "--output", str(output)]) == 0
    (output / "README.md").write_text("# Mine\n")
    assert sft.main([*flags, "--max_steps", "4", "--output", str(output), "--resume"]) == 0
    assert (output / "README.md").read_text() == "# Mine\n"


def test_a_finished_run_is_pushed_with_its_card_and_no_token(flags, tmp_path, hub, monkeypatch, capsys):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    api, output = hub(), tmp_path / "run"
    assert sft.main([*flags, *PUSH, "--hub_private_repo", "true", "--output", str(output)]) == 0
    assert api.repositories == {"me/clicks": True}
    assert {"adapter_model.safetensors", "geoclick.json", "README.md", "tokenizer.json"} <= api.files.keys()
    assert not any("checkpoint" in name or name == "config.yaml" for name in api.files)
    assert b"hf download me/clicks" in api.files["README.md"]
    assert str(tmp_path).encode() not in b"".join(api.files.values())
    for content in [*api.files.values(), *(p.read_bytes() for p in output.rglob("*") if p.is_file())]:
        assert TOKEN.encode() not in content
    printed = capsys.readouterr().out
    assert printed.rstrip().endswith("pushed: https://hub/me/clicks/commit/1")
    assert "geoclick card" not in printed
    assert adapter.read_record(output).config["push_to_hub"] is True


def test_a_hub_that_refuses_leaves_a_complete_run_and_says_how_to_push_it(flags, tmp_path, hub, capsys):
    hub(error=ConnectionError("no route"))
    output = tmp_path / "run"
    assert sft.main([*flags, *PUSH, "--output", str(output)]) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "is complete but could not be pushed to me/clicks" in error
    assert "geoclick card" in error
    assert adapter_runs.of(adapter.read_record(output))[0]["steps"] == 3


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            ["--push_to_hub", "true"],
            "push_to_hub in the command line has no effect without hub_model_id",
        ),
        (["--hub_private_repo", "true"], "has no effect without push_to_hub"),
        ([*PUSH[:3], "clicks"], "hub_model_id clicks has no namespace; give it as NAMESPACE/NAME"),
        ([*PUSH, "--hub_token", TOKEN], "use `hf auth login` or HF_TOKEN instead"),
        ([*PUSH, "--hub_strategy", "all_checkpoints"], "pushes the finished run, once"),
    ],
)
def test_what_cannot_be_pushed_is_refused_before_the_run(words, expected, flags, tmp_path, capsys):
    assert sft.main([*flags, *words, "--output", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert expected in error
    assert TOKEN not in error
    assert not (tmp_path / "run").exists()
