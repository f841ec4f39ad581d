import json

from benchmarks import dense_clip
from geoclick.clips.architectures import ARCHITECTURES
from tests import tiny_clips


def test_all_ways_give_the_same_logits(tmp_path, monkeypatch, capsys):
    tiny = tiny_clips.Architecture(patch_size=32, width=64, layers=2, heads=1, mlp=64, text_width=64, dim=24)
    monkeypatch.setitem(ARCHITECTURES, "ViT-B-16", tiny)
    words = ["--output", str(tmp_path / "out"), "--runs", "1", "--long-side", "300", "--device", "cpu"]
    assert dense_clip.main(words) == 0
    ways = json.loads((tmp_path / "out" / "dense.json").read_text())["ways"]
    assert list(ways) == ["plain", "single", "batched"]
    assert all(row["largest_difference"] < 1e-5 and row["cpu_seconds"] > 0 for row in ways.values())
    assert "images/s" in capsys.readouterr().out
