"""Every command with a segmenter takes the SAM classes of transformers, and records which one it was."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from geoclick import images, masks, segmenters, store, vlms
from geoclick.data_synthesis import run as synth
from geoclick.datasets import Sample
from geoclick.files import sha256
from geoclick.inference import evaluate, predict
from geoclick.inference.backends import local
from geoclick.inference.contrastive import proposals
from geoclick.segmenters import clicking
from geoclick.train.loop.monitor import Monitor
from geoclick.train.reinforcement import rewards
from geoclick.train.reinforcement.embedding_cache import EmbeddingCache
from geoclick.vlms.generation.answers import Generated
from tests import tiny, tiny_sams

SIZE = (48, 70)
POLICIES = {
    "sam": ["--policy", "center"],
    "sam_hq": ["--policy", "random"],
    "sam2": ["--policy", "robust"],
    "sam3_tracker": ["--policy", "lookahead", "--candidates", "2"],
    "edgetam": ["--parts", "auto"],
}
"""Options of synth by class: each policy once, and several parts."""


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Three samples on two images, the last one without target."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("data")
    rng, lines = np.random.default_rng(0), []
    for number in range(3):
        name = f"images/{number // 2}.png"
        (folder / "test/images").mkdir(parents=True, exist_ok=True)
        images.write_png(folder / "test" / name, rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8))
        mask = np.zeros(SIZE, bool)
        if number < 2:
            mask[4:30, 5 + 20 * number : 30 + 20 * number] = mask[38:47, 50:69] = True
        line = {"sample_id": f"s{number}", "query": f"thing {number}", "image": name, "size": list(SIZE)}
        line |= {"task": "referring" if number < 2 else "no_target", "mask": masks.encode_rle(mask)}
        lines.append(json.dumps(line))
    (folder / "test/samples.jsonl").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def vlm_folder(tmp_path_factory):
    return tiny.qwen3_vl_folder(tmp_path_factory.mktemp("vlm") / "base", pixels=64 * 64)


@pytest.fixture(
    scope="module",
    params=[pytest.param(k, marks=[] if k == "sam2" else pytest.mark.slow) for k in tiny_sams.CLASSES],
)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def folder(kind, tmp_path_factory):
    return tiny_sams.folder(tmp_path_factory.mktemp("segmenter") / kind, kind)


@pytest.fixture(scope="module")
def clicks(kind, folder, root, tmp_path_factory):
    """A click store that the class made."""
    output = tmp_path_factory.mktemp("clicks") / kind
    assert synth.main([*words(root, folder, output), *POLICIES[kind]]) == 0
    return output


def words(root, folder, output):
    return ["--root", str(root), "--split", "test", "--segmenter", str(folder), "--output", str(output)]


def test_synthetic_clicks_decode_to_their_recorded_ious(clicks, folder, kind, root):
    segmenter = segmenters.load(str(folder), device="cpu")
    rows = list(store.read(clicks))
    assert len(rows) == 3
    for row in rows:
        assert (row.segmenter, row.segmenter_sha256) == (str(folder), sha256(folder / "model.safetensors"))
        if kind == "edgetam" or not row.clicks:
            continue
        image = np.asarray(Image.open(root / row.image))
        history = clicking.replay(segmenter, segmenter.embed([image]), [row.clicks])[0]
        ious = [masks.iou(mask, masks.decode_rle(row.mask)) for mask in history]
        assert ious == pytest.approx(row.ious, abs=2e-3)


def test_another_segmenter_does_not_continue_a_store(clicks, folder, kind, root, tmp_path, capsys):
    assert synth.main([*words(root, folder, clicks), *POLICIES[kind]]) == 0
    assert synth.main([*words(root, "embedded", clicks), *POLICIES[kind]]) == 2
    assert "was started with segmenter" in capsys.readouterr().err
    weights = folder / "model.safetensors"
    content = weights.read_bytes()
    state = load_file(weights)
    first = next(iter(state))
    save_file(state | {first: state[first] + 1}, weights, {"format": "pt"})
    assert synth.main([*words(root, folder, clicks), *POLICIES[kind]]) == 2
    assert "The file of the segmenter's weights has changed" in capsys.readouterr().err
    weights.write_bytes(content)


@pytest.mark.parametrize("predictor", ["oracle", "box"])
def test_evaluate(clicks, folder, root, tmp_path, predictor):
    own = ["--clicks", str(clicks)] if predictor == "oracle" else []
    assert evaluate.main([*words(root, folder, tmp_path / "run"), "--predictor", predictor, *own]) == 0
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    protocol = metrics["protocol"]
    assert protocol["segmenter"] == str(folder)
    assert protocol["segmenter_sha256"] == sha256(folder / "model.safetensors")
    assert metrics["scores"]["n"] == 3
    if predictor == "oracle":
        best = [row.ious[-1] if row.clicks else 1.0 for row in store.read(clicks)]
        assert metrics["scores"]["miou"] == pytest.approx(np.mean(best), abs=5e-3)


def test_predict_decodes_boxes_and_points(folder, root, vlm_folder, tmp_path, monkeypatch):
    answer = '[{"bbox_2d": [100, 100, 500, 600], "label": "target"}, {"point_2d": [300, 400], "label": "positive"}]'

    def generate(vlm, images, queries, **options):
        return [Generated(answer) for _ in queries]

    monkeypatch.setattr(local, "generate", generate)
    image = root / "test/images/0.png"
    flags = ["--text", "a barn", "--vlm", str(vlm_folder), "--segmenter", str(folder)]
    assert predict.main([str(image), *flags, "--output", str(tmp_path / "out")]) == 0
    record = json.loads((tmp_path / "out/0.json").read_text())
    assert record["segmenter"] == str(folder)
    assert record["segmenter_sha256"] == sha256(folder / "model.safetensors")
    assert record["boxes"]
    assert images.read_gray(tmp_path / "out/0.mask.png").shape == SIZE


def test_proposals(folder, root):
    segmenter = segmenters.load(str(folder), device="cpu")
    image = np.asarray(Image.open(root / "test/images/0.png"))
    found = proposals.propose(
        segmenter, image, points_per_side=2, predicted_iou=0.0, stability=0.0, box_nms=1.0
    )
    assert len(found) > 0
    assert all(proposal.mask.shape == SIZE for proposal in found)


def test_rewards_and_evaluations_during_training(root, vlm_folder, tmp_path):
    segmenter = segmenters.load(str(tiny_sams.folder(tmp_path / "sam2", "sam2")), device="cpu")
    vlm = vlms.load(str(vlm_folder), device="cpu")
    samples = [
        Sample(
            sample_id=line["sample_id"],
            dataset="folder",
            split="test",
            task=line["task"],
            query=line["query"],
            root=root / "test",
            image=line["image"],
            size=SIZE,
            rle=line["mask"],
        )
        for line in map(json.loads, (root / "test/samples.jsonl").read_text().splitlines())
    ]
    cache = EmbeddingCache(segmenter, 1e9)
    texts = ["+(300,300)", "+(300,300)-(900,900)", "none"]
    scored = rewards.score_completions(
        vlm, segmenter, cache, samples, texts, answer_format="compact", decode="replay"
    )
    assert len(scored) == 3
    assert cache.computed == 1  # the answer `none` needs no image
    watch = Monitor(vlm, segmenter, samples, "compact", False, every=1, patience=0)
    assert len(watch.evaluate(vlm.model, 0, 1)) == 3
