"""Runs on several click stores and chats: shares, figures, resume, packing, and what is refused."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
import yaml
from safetensors.torch import load_file

from geoclick import store
from geoclick.train import sft
from geoclick.train.loop import checkpoints
from tests import tiny


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A tiny VLM, two click stores with their datasets, and a file of chats with and without images.

    The second store is one of on-policy clicks: the first click of each target is given.
    """
    folder = tmp_path_factory.mktemp("mixture")
    tiny.qwen3_vl_folder(folder / "vlm")
    for name, rows in (("a", 16), ("b", 6)):
        tiny.click_store(folder / name, rows=rows, seed=len(name))
    own = [replace(row, given=min(len(row.clicks), 1)) for row in store.read(folder / "b/clicks")]
    assert sum(row.given for row in own) > 3
    store.write_shard(folder / "b/clicks", 0, 1, own)
    shown = [[], ["0000.png"], ["0001.png", "0000.png"]]
    lines = [
        {
            "messages": [
                {"role": "user", "content": f"Question {n}?"},
                {"role": "assistant", "content": f"Answer {n}."},
            ],
            "images": shown[n % 3],
        }
        for n in range(6)
    ]
    path = folder / "a/data/train/images/talk.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.fixture(scope="module")
def flags(data):
    words = ["--vlm", data / "vlm", "--clicks", data / "a/clicks", data / "b/clicks"]
    words += ["--root", data / "a/data", data / "b/data", "--weights", 0.5, 0.2]
    words += ["--chats", data / "a/data/train/images/talk.jsonl", "--chat-weights", 0.3]
    words += ["--lora-r", 4, "--num_train_epochs", 2, "--learning_rate", 0.01, "--logging_steps", 1]
    words += ["--save_strategy", "steps", "--save_steps", 2, "--save_total_limit", 9, "--use_cpu", "true"]
    return [str(word) for word in words]


WAYS = {
    "padded": ["--per_device_train_batch_size", "2"],
    "packed": ["--packing-tokens", "300"],
    "augmented": ["--per_device_train_batch_size", "2", "--augment", "flip", "jitter"],
}


def run(flags, output, *more):
    return sft.main([*flags, "--output", str(output), *map(str, more)])


def metrics(output):
    return json.loads((output / "metrics.json").read_text())


def same_weights(one, two):
    one, two = (load_file(folder / "adapter_model.safetensors") for folder in (one, two))
    return one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)


@pytest.mark.parametrize("way", [pytest.param("padded", marks=pytest.mark.slow), "packed", "augmented"])
def test_a_mixture_trains_with_figures_by_source_and_resumes_to_the_same_weights(
    flags, tmp_path, way, capsys
):
    output, again = tmp_path / "run", tmp_path / "again"
    assert run(flags, output, *WAYS[way], "--feature-memory-gb", 0) == 0
    printed, found = capsys.readouterr().out, metrics(output)
    names = [source["name"] for source in found["sources"]]
    assert [name.endswith("/a/clicks") for name in names] == [True, False, False]
    assert names[2] == "talk.jsonl"
    assert [source["rows"] for source in found["sources"]] == [16, 6, 6]
    # 6 rows of b and 6 chats: the chats end first, at 6 / 0.3 = 20 rows.
    assert [source["rows_an_epoch"] for source in found["sources"]] == [10, 4, 6]
    assert [source["weight"] for source in found["sources"]] == pytest.approx([0.5, 0.2, 0.3])
    for source in found["sources"]:
        logged = [entry[key] for entry in found["loss"] if (key := f"loss_{source['name']}") in entry]
        assert [source["first_loss"], source["last_loss"]] == [logged[0], logged[-1]]
        assert min(logged) > 1
        line = f"loss {source['first_loss']:.3f} at first, {source['last_loss']:.3f} at last"
        assert any(source["name"] in text and line in text for text in printed.splitlines())
    assert {key for entry in found["loss"] for key in entry if key.startswith("loss_")} == {
        f"loss_{name}" for name in names
    }
    if way != "packed":
        assert found["steps"] == 20
        losses = [entry["loss"] for entry in found["loss"]]
        assert sum(losses[-5:]) < sum(losses[:5])

    shutil.copytree(output, again)
    config = (again / "config.yaml").read_text().replace(str(output), str(again))
    (again / "config.yaml").write_text(config)
    (again / "adapter_model.safetensors").unlink()
    steps = sorted(int(folder.name.rpartition("-")[2]) for folder in again.glob("checkpoint-*"))
    for step in steps[len(steps) // 2 :]:
        shutil.rmtree(again / f"checkpoint-{step}")
    assert checkpoints.last_complete(again)
    assert run(flags, again, *WAYS[way], "--feature-memory-gb", 0, "--resume") == 0
    assert same_weights(output, again)
    assert metrics(again)["loss"] == found["loss"]


def test_all_repeats_the_shorter_sources(flags, tmp_path):
    assert run(flags, tmp_path / "run", "--stopping", "all", "--max_steps", 1) == 0
    # The rows of the first store end last, at 16 / 0.5 = 32 rows.
    assert [source["rows_an_epoch"] for source in metrics(tmp_path / "run")["sources"]] == [16, 6, 10]


def without(flags, *names):
    """Flags without some and their values."""
    kept, skip = [], False
    for word in flags:
        skip = word in names if word.startswith("--") else skip
        kept += [] if skip else [word]
    return kept


def test_without_weights_an_epoch_has_all_rows(flags, tmp_path):
    words = without(flags, "--weights", "--chat-weights")
    assert run(words, tmp_path / "run", "--max_steps", 1) == 0
    found = metrics(tmp_path / "run")
    assert [source["rows_an_epoch"] for source in found["sources"]] == [16, 6, 6]
    assert found["rows"] == 28


def test_a_store_in_two_formats_and_one_root_for_all(flags, data, tmp_path):
    words = without(flags, "--clicks", "--root", "--weights", "--chats", "--chat-weights")
    words += ["--clicks", str(data / "b/clicks"), str(data / "b/clicks"), "--root", str(data / "b/data")]
    output = tmp_path / "run"
    assert run(words, output, "--store-formats", "compact", "json", "--max_steps", 1) == 0
    assert [s["name"] for s in metrics(output)["sources"]] == ["clicks (compact)", "clicks (json)"]
    config = yaml.safe_load((output / "config.yaml").read_text())
    assert config["clicks"] == [str(data / "b/clicks")] * 2
    assert config["root"] == str(data / "b/data")


@pytest.mark.usefixtures("short_answers")
def test_images_of_an_evaluation_are_in_no_source(flags, data, tmp_path):
    """The same images are in the first store and in the chats."""
    words = ["--evaluate-every", 1, "--evaluate-samples", 6, "--segmenter", "embedded", "--max_steps", 1]
    assert run(flags, tmp_path / "run", *words) == 0
    found = metrics(tmp_path / "run")
    first, second, talk = (source["rows_left_out"].get("held out", 0) for source in found["sources"])
    assert first >= 3
    assert second >= 3
    images = {row.image for row in store.read(data / "a/clicks")}
    assert len(images) == 8
    assert talk in (0, 2, 4)
    assert found["evaluations"][0]["eval_miou"] >= 0


@pytest.mark.parametrize(
    ("more", "code", "sentence"),
    [
        (["--weights", "0.5"], 2, "--weights has 1 values, but --clicks has 2; give one value for each."),
        (["--chat-weights", "1", "1"], 2, "--chat-weights has 2 values, but --chats has 1"),
        (["--weights", "0.5", "0"], 2, "A weight is a number above 0, not 0"),
        (
            ["--root", "x", "x", "x"],
            2,
            "--root has 3 values, but --clicks has 2; give one value for each or one",
        ),
        (["--store-formats", "json"], 2, "--store-formats has 1 values"),
        (["--chat-root", "x", "x"], 2, "--chat-root has 2 values, but --chats has 1"),
        (["--chats", "gone.jsonl"], 1, "gone.jsonl does not exist"),
        (["--train_sampling_strategy", "sequential"], 2, "weights define an order of their own"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_sentence(flags, tmp_path, capsys, more, code, sentence):
    words = without(flags, more[0])
    assert run(words, tmp_path / "run", *more) == code
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_store_that_is_given_twice_or_stopping_without_weights_is_refused(flags, data, tmp_path, capsys):
    words = without(flags, "--clicks", "--weights", "--chat-weights")
    twice = [*words, "--clicks", str(data / "a/clicks"), str(data / "a/clicks")]
    assert run(twice, tmp_path / "run") == 2
    assert "is given twice" in capsys.readouterr().err
    words = without(flags, "--weights", "--chat-weights")
    assert run(words, tmp_path / "run", "--stopping", "all") == 2
    assert "--stopping needs --weights" in capsys.readouterr().err


def test_other_weights_do_not_resume(flags, tmp_path, capsys):
    output = tmp_path / "run"
    assert run(flags, output, "--max_steps", 2) == 0
    words = [*without(flags, "--weights"), "--weights", "0.4", "0.3"]
    assert run(words, output, "--max_steps", 4, "--resume") == 2
    assert "was started with weights [0.5, 0.2], not [0.4, 0.3]" in capsys.readouterr().err


@pytest.mark.parametrize("way", ["packed", "augmented"])
@pytest.mark.parametrize("where", ["here", "h100-80gb"])
def test_the_dry_run_shows_the_sources(flags, tmp_path, way, where, capsys):
    assert run(flags, tmp_path / "run", *WAYS[way], "--dry-run", where) == 0
    lines = capsys.readouterr().out.splitlines()
    (line,) = [line for line in lines if line.startswith("source 3")]
    assert line.split(maxsplit=2)[2] == "talk.jsonl: 6 rows, 6 an epoch (weight 0.3)"
    assert any(line.startswith("memory") for line in lines)
    assert not (tmp_path / "run").exists()
