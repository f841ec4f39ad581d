import json

import numpy as np

from benchmarks import proposal_limits


def test_limits_are_measured(tmp_path, capsys):
    words = ["--images", "1", "--points", "4", "--predicted-iou", "0.2", "--stability", "0.8", "0.95"]
    assert proposal_limits.main([*words, "--output", str(tmp_path), "--device", "cpu"]) == 0
    rows = json.loads((tmp_path / "limits.json").read_text())
    assert list(rows) == ["dense", "0.2/0.8", "0.2/0.95"]
    assert 0 < rows["dense"]["miou"] < 1
    assert rows["0.2/0.8"]["coverage"] >= rows["0.2/0.95"]["coverage"]
    assert "oracle" in capsys.readouterr().out


def test_mean_iou_of_a_confusion_matrix():
    confusion = proposal_limits.Confusion(4)
    truth = np.array([[0, 0, 1], [1, 255, 1]])
    confusion.add(np.array([[0, 1, 1], [1, 3, 0]]), truth)
    assert confusion.mean_iou() == round((1 / 3 + 2 / 4) / 2, 4)
