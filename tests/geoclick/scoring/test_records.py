import json

import pytest

from geoclick.scoring import records

MASK = {"size": [4, 5], "counts": "d0"}
RECORD = {
    **dict.fromkeys(("task", "category", "query", "image", "text"), "b"),
    **{
        "sample_id": "a",
        "size": [4, 5],
        "iou": 0.5,
        "boundary_iou": 1,
        "intersection": 1,
        "union": 2,
        "area": 1,
    },
    **{"mask": MASK, "target": MASK, "valid": None, "status": "ok", "clicks": [[1, 2.5, True]]},
}


def read(folder, **changes):
    (folder / "predictions.jsonl").write_text(json.dumps(RECORD | changes) + "\n")
    return list(records.read(folder / "predictions.jsonl"))


def test_a_record_is_read_as_it_is(tmp_path):
    assert read(tmp_path) == [RECORD]
    assert read(tmp_path, status="unparsable", union=0, intersection=0)[0]["iou"] == 0


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        *(({"iou": iou}, "iou of a is not from 0 to 1") for iou in (float("nan"), 7, -1, None, "x")),
        ({"boundary_iou": float("inf")}, "boundary_iou of a is not from 0 to 1"),
        *(({"union": union}, "union of a is no number of pixels") for union in (-1, 1.5, 10**20, None)),
        ({"intersection": 3}, "intersection of a is larger than its union"),
        *(
            ({name: mask}, f"{name} of a has not the size of its image")
            for name in ("mask", "target", "valid")
            for mask in ({"size": [3, 3], "counts": "9"}, {"counts": "9"}, "mask.png", 7)
        ),
        *(
            ({"clicks": clicks}, "a click of a is not x, y and its sign")
            for clicks in (
                ["a"],
                [[1, 2]],
                [[1, 2, 1]],
                [[float("nan"), 2, True]],
                [[2**63, 2, True]],
                [["1", 2, True]],
                {},
                None,
            )
        ),
        *(({name: None}, f"{name} of a has not the size") for name in ("mask", "target")),
        *(({"image": image}, "image of a lies outside") for image in ("../a.png", "/a.png")),
        *(
            ({name: value}, f"{name} of .* is no text")
            for name in records.TEXTS
            for value in (7, None, ["a"])
        ),
        ({"size": [10**9, 10**9]}, "mask of a has not the size of its image"),
    ],
)
def test_an_impossible_value_is_refused(tmp_path, changes, reason):
    with pytest.raises(ValueError, match=reason):
        read(tmp_path, **changes)


@pytest.mark.parametrize("missing", ["sample_id", "query", "text"])
def test_a_record_without_a_text_is_refused(tmp_path, missing):
    left = {name: value for name, value in RECORD.items() if name != missing}
    (tmp_path / "predictions.jsonl").write_text(json.dumps(left) + "\n")
    with pytest.raises(ValueError, match=f"{missing} of .* is no text"):
        list(records.read(tmp_path / "predictions.jsonl"))


def test_a_line_that_is_no_object_is_refused(tmp_path):
    (tmp_path / "predictions.jsonl").write_text("null\n")
    with pytest.raises(ValueError, match="a line is no record"):
        list(records.read(tmp_path / "predictions.jsonl"))
