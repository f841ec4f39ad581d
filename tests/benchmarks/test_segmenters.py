"""Both ways of the benchmark simulate the same clicks, on a tiny model."""

import json

import pytest
from transformers import Sam2Model

from benchmarks import segmenters
from geoclick.segmenters.transformers_folders import SAM2
from geoclick.segmenters.transformers_sam import TransformersSam
from tests import tiny_sams


def test_both_ways_simulate_the_same_clicks(tmp_path, monkeypatch, capsys):
    processor = tiny_sams.processor("sam2")
    segmenter = TransformersSam(tiny_sams.model("sam2"), processor.image_processor, SAM2, name="tiny")
    assert isinstance(segmenter.model, Sam2Model)
    model = tiny_sams.model("sam2")
    monkeypatch.setattr(segmenters, "load", lambda device, seed: (model, processor, segmenter))
    flags = ["--output", str(tmp_path), "--images", "2", "--objects", "3", "--side", "96"]
    assert segmenters.main(flags) == 0
    result = json.loads((tmp_path / "segmenters.json").read_text())
    assert result["objects"] == result["same_sequences"] == 6
    assert result["cpu_ratio"] == pytest.approx(
        result["transformers"]["cpu_seconds"] / result["geoclick"]["cpu_seconds"]
    )
    assert "6 equal sequences" in capsys.readouterr().out
