"""A tiny random SAM in place of the embedded one, a random Qwen3-VL, and a dataset of four samples."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from geoclick import images, masks, segmenters, store
from geoclick.clicks import Click
from geoclick.scenes.copies.semantic import write
from tests import tiny

SIZE = (48, 64)
HOSTILE = '<script>alert("x")</script> & the <b>road</b>'
CLICKS = [(Click(20, 20), Click(50, 40, False)), (Click(40, 30),), (Click(5, 5), Click(8, 8)), ()]


@pytest.fixture(scope="module", autouse=True)
def single_thread():
    """Figures of models depend on the number of threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def segmenter():
    return tiny.sam_segmenter("embedded")


@pytest.fixture
def tiny_segmenter(segmenter, monkeypatch):
    monkeypatch.setattr(segmenters, "load", lambda *args, **options: segmenter)
    return segmenter


@pytest.fixture(scope="session")
def vlm_folder(tmp_path_factory):
    return tiny.qwen3_vl_folder(tmp_path_factory.mktemp("vlm") / "base", pixels=64 * 64)


@pytest.fixture
def dataset(tmp_path):
    """Four samples on three images: two referring, one with HTML as query; one reasoning; one without target."""
    folder = tmp_path / "data" / "test"
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(3):
        images.write_png(folder / f"images/{i}.png", rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8))
    tasks = ["referring", "referring", "reasoning", "no_target"]
    queries = ["the tank", HOSTILE, "where planes land", "the harbour"]
    lines = []
    for i, (task, query) in enumerate(zip(tasks, queries, strict=True)):
        mask = np.zeros(SIZE, bool)
        if task != "no_target":
            mask[4 * i : 4 * i + 24, 8:40] = True
        lines.append(
            {
                "sample_id": f"s{i}",
                "task": task,
                "query": query,
                "image": f"images/{min(i, 2)}.png",
                "size": list(SIZE),
                "mask": masks.encode_rle(mask),
                "category": "" if task == "no_target" else ["tank", "road"][i % 2],
            }
        )
    (folder / "samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder.parent


@pytest.fixture(scope="session")
def loveda(tmp_path_factory):
    """The root of a dataset in LoveDA's layout: two images of 200x160 pixels with ignored pixels."""
    root = tmp_path_factory.mktemp("loveda")
    write("loveda", root, 2, 0)
    for path in root.rglob("*.png"):
        with Image.open(path) as image:
            cut = image.crop((0, 200, 400, 520)).resize((200, 160), Image.Resampling.NEAREST)
        if "ann_dir" in path.parts:
            cut.paste(0, (0, 0, 200, 6))
        cut.save(path)
    return root


@pytest.fixture
def stored_clicks():
    return CLICKS


@pytest.fixture
def click_store(dataset, tmp_path):
    """A click store of `dataset` with CLICKS."""
    rows = []
    for line, clicks in zip((dataset / "test/samples.jsonl").read_text().splitlines(), CLICKS, strict=True):
        entry = json.loads(line)
        rows.append(
            store.Row(
                sample_id=entry["sample_id"],
                dataset="folder",
                split="test",
                task=entry["task"],
                image=f"test/{entry['image']}",
                width=SIZE[1],
                height=SIZE[0],
                query=entry["query"],
                mask=entry["mask"],
                clicks=clicks,
                ious=(0.5,) * len(clicks),
                segmenter="embedded",
                segmenter_sha256="5a" * 32,
                policy="multimask-first+feedback",
                seed=0,
                category=entry["category"],
            )
        )
    folder = tmp_path / "clicks"
    store.write_shard(folder, 0, 1, rows)
    store.write_manifest(folder, {"samples": len(rows)})
    return folder
