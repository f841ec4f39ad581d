import json
import shutil

import numpy as np
import pytest
import safetensors
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file, save_file
from transformers import Qwen3VLForConditionalGeneration

from geoclick import vlms
from geoclick.errors import GeoClickError, UsageError
from geoclick.inference.generative.settings import default_format
from geoclick.train import merge
from geoclick.train.publishing import merge_check
from geoclick.vlms import loading
from tests import tiny
from tests.train.adapters import random_adapter

QUESTIONS = merge_check.Questions(
    [np.random.default_rng(n).integers(0, 255, (64, 64, 3), dtype=np.uint8) for n in range(2)],
    ["the barn", "a pond"],
    "noise",
)


pytestmark = pytest.mark.usefixtures("short_answers")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny.qwen3_vl_folder(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tiny.click_store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def tuned(base, store, tmp_path_factory):
    return random_adapter(tmp_path_factory.mktemp("lora") / "run", base, clicks=store[0], root=store[1])


@pytest.fixture(scope="module")
def merged(tuned, tmp_path_factory):
    """A model that the command merged."""
    output = tmp_path_factory.mktemp("merged") / "model"
    with tiny.short_answers():
        assert merge.main([str(tuned), "--output", str(output), "--check-samples", "2"]) == 0
    return output


@pytest.fixture
def quick(monkeypatch):
    """Constant answers, for tests that are not about the check."""
    monkeypatch.setattr(merge_check, "from_scenes", lambda count: QUESTIONS)
    answers = merge_check.Answers(["a", "b"], torch.zeros(2, 4))
    monkeypatch.setattr(merge_check, "ask", lambda *args, **options: answers)


def logits(vlm):
    with torch.no_grad():
        return merge_check.ask(vlm, QUESTIONS, answer_format="compact").logits


def failure(capsys, arguments, code=1):
    assert merge.main([str(argument) for argument in arguments]) == code
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if line.startswith("error: ")] == [lines[-1]]
    return lines[-1]


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_the_merged_model_has_the_logits_of_the_adapter(family, tmp_path):
    base = tiny.FOLDERS[family](tmp_path / "base")
    tuned = random_adapter(tmp_path / "lora", base)
    output = tmp_path / "merged"
    assert merge.main([str(tuned), "--output", str(output), "--check-samples", "1"]) == 0
    alone = logits(vlms.load(str(output), device="cpu"))
    torch.testing.assert_close(
        alone, logits(vlms.load(str(base), adapter=tuned, device="cpu")), atol=1e-4, rtol=1e-4
    )
    assert (alone - logits(vlms.load(str(base), device="cpu"))).abs().max() > 1e-2


@pytest.mark.parametrize("lora", [{"use_dora": True}, {"use_rslora": True, "lora_alpha": 16}])
def test_other_kinds_of_lora_merge_too(base, lora, quick, tmp_path, monkeypatch):
    tuned = random_adapter(tmp_path / "lora", base, **lora)
    assert merge.main([str(tuned), "--output", str(tmp_path / "merged")]) == 0
    monkeypatch.undo()
    expected = logits(vlms.load(str(base), adapter=tuned, device="cpu"))
    torch.testing.assert_close(
        logits(vlms.load(str(tmp_path / "merged"), device="cpu")), expected, atol=1e-4, rtol=1e-4
    )


def test_a_merged_model_has_the_answer_format_and_pixel_limits_of_its_adapter(tuned, merged):
    vlm = vlms.load(str(merged), device="cpu")
    assert default_format(vlm) == "compact"
    assert vlm.record.adapter.config["lora_r"] == 4
    assert loading.pixel_limits(vlm.processor) == (vlm.record.min_pixels, vlm.record.max_pixels)
    assert loading.pixel_limits(loading.load_processor(merged)) == (vlm.record.min_pixels,) * 2
    with pytest.raises(UsageError, match="was trained with max_pixels"):
        vlms.load(str(merged), max_pixels=99999)
    with pytest.raises(GeoClickError, match="is a merged model, not an adapter"):
        vlms.load(str(merged), adapter=merged)
    with pytest.raises(GeoClickError, match="is an adapter, not a model"):
        vlms.load(str(tuned))


def test_the_record_has_the_check_and_the_data_and_no_path(merged, store):
    text = (merged / "geoclick.json").read_text()
    record = json.loads(text)
    assert record["check"]["questions"] == record["check"]["same_answers"] == 2
    assert record["check"]["largest_logit_difference"] < 1e-3
    assert record["data"]["rows"] == 8
    assert record["training"]["rows_left_out"] == {"below min_iou": 2}
    assert record["adapter"]["config"]["clicks"] == store[0].name
    assert str(store[0].parent) not in text
    card = ModelCard.load(merged / "README.md")
    assert card.data.library_name == "transformers"
    assert str(store[0].parent) not in card.text


def test_other_weights_than_the_recorded_ones_are_refused(merged, tmp_path):
    copy = shutil.copytree(merged, tmp_path / "copy")
    weights = load_file(copy / "model.safetensors")
    save_file(
        {key: value + 1 for key, value in weights.items()}, copy / "model.safetensors", {"format": "pt"}
    )
    with pytest.raises(GeoClickError, match="are not those that its geoclick"):
        vlms.load(str(copy))
    (copy / "geoclick.json").unlink()
    assert vlms.load(str(copy)).record is None


def test_weights_that_changed_in_a_single_value_of_any_row_are_refused(merged, tmp_path):
    copy = shutil.copytree(merged, tmp_path / "copy")
    before = loading.fingerprint(copy)
    weights = load_file(copy / "model.safetensors")
    largest = max(weights.values(), key=lambda weight: weight.numel())
    largest[-1, -1] += 1
    save_file(weights, copy / "model.safetensors", {"format": "pt"})
    assert loading.fingerprint(copy) == before
    with pytest.raises(GeoClickError, match="are not those that its geoclick"):
        vlms.load(str(copy))


def test_a_merged_model_of_an_earlier_version_loads(merged, tmp_path):
    copy = shutil.copytree(merged, tmp_path / "copy")
    record = json.loads((copy / "geoclick.json").read_text())
    del record["weights_sha256"]
    (copy / "geoclick.json").write_text(json.dumps(record))
    assert vlms.load(str(copy)).record.weights_sha256 == ""


def test_an_adapter_on_a_merged_model_has_its_own_record(merged, quick, tmp_path):
    second = random_adapter(tmp_path / "second", merged)
    vlm = vlms.load(str(merged), adapter=second, device="cpu")
    assert vlm.record.base == str(merged)
    assert merge.main([str(second), "--output", str(tmp_path / "twice")]) == 0
    assert vlms.load(str(tmp_path / "twice")).record.adapter.base == merged.name


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_weights_are_written_in_the_requested_dtype(base, quick, tmp_path, dtype):
    tuned = random_adapter(tmp_path / "lora", base)
    output = tmp_path / "merged"
    flags = [] if dtype == "float32" else ["--dtype", dtype]
    assert merge.main([str(tuned), "--output", str(output), *flags]) == 0
    assert {str(w.dtype) for w in load_file(output / "model.safetensors").values()} == {f"torch.{dtype}"}
    assert json.loads((output / "geoclick.json").read_text())["dtype"] == dtype


def test_auto_writes_the_dtype_of_the_base(base, quick, tmp_path, capsys):
    half = shutil.copytree(base, tmp_path / "half")
    weights = {key: value.bfloat16() for key, value in load_file(half / "model.safetensors").items()}
    save_file(weights, half / "model.safetensors", {"format": "pt"})
    config = json.loads((half / "config.json").read_text())
    config["dtype"] = config["text_config"]["dtype"] = "bfloat16"
    (half / "config.json").write_text(json.dumps(config))
    tuned = random_adapter(tmp_path / "lora", half)
    flags = ["--dtype", "auto", "--compute-dtype", "bfloat16"]
    assert merge.main([str(tuned), "--output", str(tmp_path / "merged"), *flags]) == 0
    written = load_file(tmp_path / "merged" / "model.safetensors")
    assert {weight.dtype for weight in written.values()} == {torch.bfloat16}
    count = sum(weight.numel() for weight in weights.values())
    output = capsys.readouterr().out
    assert f"\nmemory: the model has {count / 1e9:.3g} billion weights" in output
    assert "GiB in bfloat16" in output
    assert "2 of 2 answers in bfloat16 equal" in output
    assert "merged model (bfloat16, for transformers 4.57 or later)" in output


def test_different_answers_leave_no_output(tuned, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(merge_check, "from_scenes", lambda count: QUESTIONS)
    answers = [["+(1,1)", "none"], ["+(1,1)", "+(2,2)"]]
    monkeypatch.setattr(
        merge_check,
        "ask",
        lambda *args, **options: merge_check.Answers(answers.pop(0), torch.zeros(2, 4)),
    )
    message = failure(capsys, [tuned, "--output", tmp_path / "merged"])
    assert "1 of 2 answers differ" in message
    assert "--min-same 0.5" in message
    assert list(tmp_path.iterdir()) == []


def test_min_same_accepts_a_share_of_different_answers(tuned, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(merge_check, "from_scenes", lambda count: QUESTIONS)
    answers = [["+(1,1)", "none"], ["+(1,1)", "+(2,2)"]]
    monkeypatch.setattr(
        merge_check,
        "ask",
        lambda *args, **options: merge_check.Answers(answers.pop(0), torch.zeros(2, 4)),
    )
    assert merge.main([str(tuned), "--output", str(tmp_path / "merged"), "--min-same", "0.5"]) == 0
    assert "1 of 2 answers in float32 equal the adapter's" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (safetensors.SafetensorError("Error while serializing: I/O error: No space left"), "free space"),
        (OSError(28, "No space left on device"), "free space"),
        (KeyboardInterrupt(), "Interrupted"),
    ],
)
def test_a_full_disk_or_an_interrupt_leaves_no_output(
    tuned, quick, error, message, monkeypatch, tmp_path, capsys
):
    def save(self, folder, *args, **options):
        (folder / "model.safetensors").write_bytes(b"half")
        raise error

    monkeypatch.setattr(Qwen3VLForConditionalGeneration, "save_pretrained", save)
    assert message in failure(capsys, [tuned, "--output", tmp_path / "merged"])
    assert list(tmp_path.iterdir()) == []


def test_the_folder_of_a_killed_merge_is_removed(tmp_path):
    output = tmp_path / "merged"
    (tmp_path / "merged.partial").mkdir()
    (tmp_path / "merged.partial" / merge.MARK).touch()
    (tmp_path / "merged.partial" / "half").touch()
    with merge.fresh_folder(output) as folder:
        assert [path.name for path in folder.iterdir()] == [merge.MARK]
        (folder / "complete").write_text("x")
        assert not output.exists()
    assert [path.name for path in output.iterdir()] == ["complete"]
    assert list(tmp_path.iterdir()) == [output]


def test_other_folders_are_not_touched(tuned, tmp_path, capsys):
    other = tmp_path / "merged.partial"
    other.mkdir()
    (other / "thesis").touch()
    assert "is in the way" in failure(
        capsys, [tuned, "--output", tmp_path / "merged", "--check-samples", 1], 2
    )
    assert (other / "thesis").exists()
    assert "is not empty" in failure(capsys, [tuned, "--output", other], 2)
    assert "is not empty" in failure(capsys, [tuned, "--output", tuned], 2)
    assert (tuned / "adapter_model.safetensors").exists()


def test_wrong_requests_are_errors(tuned, base, store, tmp_path, capsys):
    output = ["--output", tmp_path / "merged"]
    assert "--min-same is a share" in failure(capsys, [tuned, *output, "--min-same", 2], 2)
    assert "has no namespace" in failure(capsys, [tuned, *output, "--push", "model"], 2)
    assert "is not a valid name on the hub" in failure(capsys, [tuned, *output, "--push", "me/a b"], 2)
    assert "add --push" in failure(capsys, [tuned, *output, "--private"], 2)
    assert "give it by --root" in failure(capsys, [tuned, *output, "--clicks", store[0]], 2)
    assert "holds no geoclick.json" in failure(capsys, [base, *output])
    other = tiny.qwen3_vl_folder(tmp_path / "other", seed=1)
    assert "not those that it was trained on" in failure(capsys, [tuned, *output, "--vlm", other])
    assert not (tmp_path / "merged").exists()


@pytest.mark.parametrize("name", ["geoclick.json", "metrics.json", "README.md"])
def test_an_adapter_with_a_token_in_a_file_is_not_pushed(tuned, tmp_path, capsys, name):
    copy = shutil.copytree(tuned, tmp_path / "copy")
    if name == "README.md":
        (copy / name).write_text("push with hf_abcdefghijklmnopqrst")
    else:
        values = json.loads((copy / name).read_text()) | {"hub_token": "hf_abcdefghijklmnopqrst"}
        (copy / name).write_text(json.dumps(values))
    message = failure(capsys, [copy, "--output", tmp_path / "merged", "--push", "me/clicks"], 2)
    assert f"{copy / name} holds a secret" in message
    assert "abcdefgh" not in message
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy"]


def test_the_result_is_pushed_when_it_is_complete(tuned, quick, tmp_path, monkeypatch, capsys):
    from geoclick.train.publishing import hub

    pushes = []

    def push(folder, name, *, private):
        pushes.append((name, private, vlms.load(str(folder)).record.kind))
        return "address"

    monkeypatch.setattr(hub, "push", push)
    arguments = [tuned, "--output", tmp_path / "merged", "--push", "me/clicks", "--private"]
    assert merge.main([str(argument) for argument in arguments]) == 0
    assert pushes == [("me/clicks", True, "merged")]
    assert "--vlm me/clicks" in (tmp_path / "merged" / "README.md").read_text()
    assert "pushed: address" in capsys.readouterr().out
