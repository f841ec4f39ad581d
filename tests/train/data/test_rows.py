import numpy as np
import pytest

from geoclick import codec, store, vlms
from geoclick.errors import GeoClickError
from geoclick.train.data import rows
from tests import tiny
from tests.train.texts import with_texts


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tiny.click_store(tmp_path_factory.mktemp("data"), rows=10, side=100)


def build(data, vlm, **options):
    return rows.build(*data, vlm, **{"answer_format": "compact", "max_clicks": 6, "min_iou": 0.0} | options)


@pytest.mark.parametrize("family", tiny.FOLDERS)
@pytest.mark.parametrize("answer_format", ["json", "compact"])
def test_completions_decode_to_the_stored_clicks(family, answer_format, data, tmp_path):
    vlm = vlms.load(str(tiny.FOLDERS[family](tmp_path)))
    dataset, left_out = build(data, vlm, answer_format=answer_format)
    assert left_out == {}
    for row, stored in zip(dataset, store.read(data[0]), strict=True):
        row = with_texts(vlm, row)
        text = row["completion"].removesuffix("<|im_end|>")
        size = (stored.height, stored.width)
        resized = vlms.resized_size(vlm.processor, size)
        answer = codec.decode(
            text, family=family, answer_format=answer_format, image_size=size, resized_size=resized
        )
        assert len(answer.clicks) == len(stored.clicks)
        assert answer.status == ("ok" if stored.clicks else "empty")
        quantum = max(np.array(size) / resized if family == "qwen2_5_vl" else np.array(size) / 1000)
        for read, written in zip(answer.clicks, stored.clicks, strict=True):
            assert abs(read.x - written.x) <= quantum
            assert abs(read.y - written.y) <= quantum
            assert read.positive == written.positive
        assert stored.query in row["prompt"]
        assert row["prompt"].endswith("<|im_start|>assistant\n")


def test_click_cap_and_iou_filter_keep_rows_without_target(data, tmp_path):
    vlm = vlms.load(str(tiny.qwen3_vl_folder(tmp_path)))
    capped, _ = build(data, vlm, max_clicks=1)
    assert max(with_texts(vlm, row)["completion"].count("(") for row in capped) == 1
    stored = list(store.read(data[0]))
    kept, left_out = build(data, vlm, min_iou=0.65)
    good = sum(not row.clicks or row.ious[-1] >= 0.65 for row in stored)
    assert len(kept) == good
    assert left_out == {"below min_iou": len(stored) - good}
    assert "none<|im_end|>" in [with_texts(vlm, row)["completion"] for row in kept]


def test_a_missing_image_or_wrong_root_is_one_sentence(data, tmp_path):
    vlm = vlms.load(str(tiny.qwen3_vl_folder(tmp_path / "vlm")))
    with pytest.raises(GeoClickError, match="does not exist though the click store names it"):
        build((data[0], tmp_path), vlm)


def test_no_row_left_is_an_error(tmp_path):
    vlm = vlms.load(str(tiny.qwen3_vl_folder(tmp_path / "vlm")))
    data = tiny.click_store(tmp_path, rows=2)
    with pytest.raises(GeoClickError, match="no row to train on"):
        build(data, vlm, min_iou=0.99)
