"""The variants of the training benchmark train on the same rows, one at a time, so that times are comparable."""

import json
import threading
import time

import pytest
import torch

from benchmarks import random_models, training, training_options
from benchmarks.interleaved import Measurement, OtherVariantFailed, RoundRobin
from tests import tiny


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    folder = tmp_path_factory.mktemp("speed")
    clicks, root = tiny.click_store(folder, rows=8)
    arguments = [
        "--clicks",
        clicks,
        "--root",
        root,
        "--output",
        folder / "out",
        "--batch",
        "4",
        "--turns",
        "1",
    ]
    assert training.main([*map(str, arguments), "--steps", "2", "--side", "64", "--device", "cpu"]) == 0
    return json.loads((folder / "out" / "training.json").read_text())


def test_variants_train_on_equally_many_rows_and_trls_batches_equal_ours(result):
    ways = result["ways"]
    assert list(ways) == list(training_options.VARIANTS)
    assert {way["samples_per_step"] for way in ways.values()} == {4.0}
    assert ways["padded"]["loss_of_first_turn"] == pytest.approx(ways["trl"]["loss_of_first_turn"], rel=1e-5)
    assert ways["padded"]["padding"] == ways["trl"]["padding"] > 0
    assert ways["packed"]["padding"] == ways["packed_features"]["padding"] == 0
    assert result["loss_packed_against_alone"] < 1e-5


def test_the_tower_encodes_each_image_of_a_pack_once_and_none_with_features(result):
    patches = {name: way["patches_per_sample"] for name, way in result["ways"].items()}
    assert patches["trl"] == patches["padded"] > patches["packed"] > patches["packed_features"] == 0


def test_ratios_are_those_of_the_samples_per_second(result):
    speeds = {name: way["samples_per_second"] for name, way in result["ways"].items()}
    for name, way in result["ways"].items():
        assert way["times_trl"] == pytest.approx(speeds[name] / speeds["trl"], abs=0.006)
        assert way["samples_per_second"] * way["seconds"] == pytest.approx(8, rel=0.01)


def test_turns_never_overlap_and_a_failure_ends_all_threads():
    turns, busy, order = RoundRobin(3), threading.Lock(), []

    def work(place, fails_at):
        with turns.last_turn():
            for count in range(4):
                turns.wait(place)
                with busy:
                    order.append(place)
                    time.sleep(0.001)
                    if count == fails_at:
                        raise ValueError
                if count < 3:
                    turns.end_turn()

    def start(fails_at=None):
        turns.turn, turns.failed = 0, False
        errors = []

        def guarded(place):
            try:
                work(place, fails_at if place == 1 else None)
            except (ValueError, OtherVariantFailed) as error:
                errors.append(type(error))

        threads = [threading.Thread(target=guarded, args=(place,)) for place in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=30)
        assert not any(thread.is_alive() for thread in threads)
        return errors

    assert start() == []
    assert order == [0, 1, 2] * 4
    errors = start(fails_at=2)
    assert sorted(error.__name__ for error in errors) == ["OtherVariantFailed"] * 2 + ["ValueError"]


def test_padded_and_packed_batches_are_counted():
    measured = Measurement()
    mask = torch.tensor([[1, 1, 1], [1, 0, 0]])
    measured.count({"input_ids": mask, "attention_mask": mask, "pixel_values": torch.zeros(8, 2)})
    ones = torch.ones(1, 5, dtype=torch.long)
    bounds = torch.tensor([0, 2, 4, 5])
    measured.count({"input_ids": ones, "attention_mask": ones, "cu_seq_lens": bounds})
    assert (measured.samples, int(measured.tokens)) == (5, 9)
    assert (measured.padded_tokens, measured.patches) == (11, 8)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    """A tokenizer from a tiktoken file of bytes, two pairs and fillers up to Qwen's control tokens."""
    import base64

    folder = tmp_path_factory.mktemp("tokenizer")
    tokens = [bytes([n]) for n in range(256)] + [b"ab", b"abc"]
    tokens += [b"\xff" + str(n).encode() for n in range(len(tokens), random_models.SPECIAL["<|endoftext|>"])]
    lines = [f"{base64.b64encode(token).decode()} {rank}" for rank, token in enumerate(tokens)]
    (folder / "qwen.tiktoken").write_text("\n".join(lines) + "\n")
    return random_models.load_tokenizer(folder)


def test_a_tiktoken_file_gives_its_ranks_and_qwens_control_tokens(tokenizer):
    ids = tokenizer("abcab<|image_pad|>b", add_special_tokens=False)["input_ids"]
    assert ids == [257, 256, random_models.SPECIAL["<|image_pad|>"], ord("b")]
    assert tokenizer.decode(ids) == "abcab<|image_pad|>b"


@pytest.mark.parametrize(("name", "millions"), [("qwen3_vl_2b", 2127.5), ("qwen2_5_vl_7b", 8292.2)])
def test_architectures_have_the_size_of_their_checkpoints(tokenizer, name, millions):
    vlm = random_models.build(name, tokenizer, dtype=torch.bfloat16, device=torch.device("meta"), seed=0)
    assert sum(p.numel() for p in vlm.model.parameters()) / 1e6 == pytest.approx(millions, abs=0.1)
    assert vlm.model.dtype == torch.bfloat16


def test_an_architecture_without_a_tokenizer_is_refused(tmp_path, capsys):
    clicks, root = tiny.click_store(tmp_path, rows=4)
    flags = [
        "--clicks",
        str(clicks),
        "--root",
        str(root),
        "--output",
        str(tmp_path / "out"),
        "--device",
        "cpu",
    ]
    assert training.main([*flags, "--model", "qwen3_vl_2b"]) == 2
    assert "needs --tokenizer" in capsys.readouterr().err
    assert training.main([*flags, "--model", "qwen3_vl_2b", "--tokenizer", str(tmp_path)]) == 1
    assert "neither tokenizer.json nor qwen.tiktoken" in capsys.readouterr().err
