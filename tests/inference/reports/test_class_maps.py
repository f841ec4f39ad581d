import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from geoclick import images
from geoclick.datasets.class_maps import IGNORED
from geoclick.geo.reading import DEFAULT
from geoclick.inference.reports import class_maps
from geoclick.inference.reports.class_maps import ImageIndex
from tests.inference.evaluation.test_confusion import SIZE, records_of

COLORS = {"background": (0, 0, 0), "building": (200, 0, 0)}


def write(folder, found):
    path = folder / "predictions.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in found))
    return path


def array(picture):
    data = base64.b64decode(picture.source.partition(",")[2])
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def test_rows_are_shares_of_the_true_class():
    rows = class_maps.confusion_rows(
        {"classes": ["a", "b"], "pixels": [[3000, 1000], [0, 0]], "accuracy": 0.75, "images": 1}
    )
    assert [(name, total) for name, total, _ in rows] == [("a", 4000), ("b", 0)]
    assert [cell.text for cell in rows[0][2]] == ["75.0", "25.0"]
    assert rows[0][2][1].title == "1,000 pixels of a predicted as b"
    assert [cell.share for cell in rows[1][2]] == [0, 0]


def test_images_are_shown_from_the_best_to_the_worst():
    found = [ImageIndex(n, 1, right, 10) for n, right in enumerate([3, 9, 5, 1, 7])]
    assert [image.right for image in class_maps.select(found, 3)] == [9, 5, 1]
    assert [image.right for image in class_maps.select(found, 9)] == [9, 7, 5, 3, 1]
    assert class_maps.select(found, 0) == class_maps.select([], 3) == []
    assert class_maps.select([ImageIndex(0, 1, 0, 0)], 2)[0].accuracy == 0


@pytest.mark.parametrize(("name", "asked"), [("whu-aerial", ["building"]), ("whu-aerial", None)])
def test_pictures_show_the_true_and_the_predicted_classes(tmp_path, name, asked):
    truth, labels = np.zeros(SIZE, int), np.zeros(SIZE, int)
    truth[:10], truth[-4:], labels[:, :20] = 1, IGNORED, 1
    wrong = np.where(truth == IGNORED, IGNORED, 1 - truth)
    path = write(tmp_path, records_of(name, [(wrong, truth % 2), (truth, labels)], asked))
    index = class_maps.index_images(path, list(COLORS))
    scored = SIZE[0] * SIZE[1] - 4 * SIZE[1]
    assert [(image.right, image.total) for image in index] == [
        (0, scored),
        (int((truth == labels).sum()), scored),
    ]
    images.write_png(tmp_path / "1.png", np.full((*SIZE, 3), 90, np.uint8))
    (figure,) = class_maps.figures(path, COLORS, tmp_path, DEFAULT, count=1)
    assert figure.query == "1.png"
    assert [picture.label for picture in figure.pictures] == ["image", "truth", "prediction"]
    shown, true, predicted = map(array, figure.pictures)
    height, width = shown.shape[:2]
    assert true.shape == predicted.shape == shown.shape
    assert abs(int(shown.mean()) - 90) < 3
    assert tuple(true[2, 2]) == (200, 0, 0)
    assert tuple(true[height // 2, 2]) == (0, 0, 0)
    assert tuple(true[-2, 2]) == class_maps.NOT_SCORED
    assert tuple(predicted[-2, 2]) == (200, 0, 0)
    assert tuple(predicted[2, width - 3]) == (0, 0, 0)


def test_the_classes_of_a_protocol_as_text():
    about = {"Water": ["water"], "building": ["building", "roof"], "wall": ["facade"]}
    classes = {name: {"prompts": prompts, "color": [0, 0, 0]} for name, prompts in about.items()}
    assert class_maps.listed(classes) == "water; building, roof; wall: facade"


def test_without_a_matrix_there_are_no_maps(tmp_path):
    assert class_maps.of_run({}, None, tmp_path / "none", tmp_path, DEFAULT, count=3) is None
