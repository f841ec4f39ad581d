"""Rows are found by everything that decides them; a damaged file is measured again."""

import json

import pytest

from geoclick.inference.ablation.plan import ORACLE, Model, Setting, Step
from geoclick.inference.ablation.rows import Measured, RowFiles, Table

SETTING = Setting(clip=Model("embedded"), segmenter=Model("embedded"), select="vote", settings=None)


def row(miou, **changes):
    scores = {"miou": miou, "miou_interval": [0.1, 0.2], "per_class": {"road": miou, "water": None}}
    rest = {"coverage": 0.5, "proposals": 10.0, "images": 2, "seconds": 1.0, "cpu_seconds": 1.5}
    return (
        {"setting": {"select": "vote", "scale": miou}} | scores | rest | {"computed": 0, "read": 4} | changes
    )


def table():
    places = [(), (("scale", 10.0),), (("points-per-side", 8),), (("scale", 10.0), ("points-per-side", 8))]
    measured = [Measured(Step(place, SETTING), row(0.3 + number / 10)) for number, place in enumerate(places)]
    oracle = Setting(clip=SETTING.clip, segmenter=SETTING.segmenter, select=ORACLE, settings=None)
    oracles = [(places[0], 0.9), (places[2], 0.8)]
    return Table([*measured, *(Measured(Step(place, oracle), row(miou)) for place, miou in oracles)])


def test_a_row_is_read_for_the_same_setting_and_data_only(tmp_path):
    files = RowFiles(tmp_path, {"pixels": "a"})
    files.write(row(0.3))
    assert files.read({"select": "vote", "scale": 0.3}) == row(0.3)
    assert files.read({"scale": 0.3, "select": "vote"}) == row(0.3)
    assert files.read({"select": "vote", "scale": 0.4}) is None
    assert RowFiles(tmp_path, {"pixels": "b"}).read({"select": "vote", "scale": 0.3}) is None


@pytest.mark.parametrize("damage", ["", "{", "[]", "{}", json.dumps(row(0.3))[:-1]])
def test_a_damaged_row_is_said_and_not_read(tmp_path, capsys, damage):
    files = RowFiles(tmp_path, {})
    files.write(row(0.3))
    (path,) = (tmp_path / "rows").iterdir()
    path.write_text(damage)
    assert files.read({"select": "vote", "scale": 0.3}) is None
    assert capsys.readouterr().out == f"{path} is damaged; its row is measured again.\n"


def test_the_best_row_is_no_oracle_and_each_place_has_the_oracle_of_its_proposals():
    found = table()
    assert found.base["miou"] == 0.3
    assert found.best().row["miou"] == pytest.approx(0.6)
    assert found.oracle_of((("scale", 10.0),))["miou"] == 0.9
    assert found.oracle_of((("scale", 10.0), ("points-per-side", 8)))["miou"] == 0.8
    assert found.of_axis("scale", [5.0, 10.0]) == [(10.0, row(0.4))]
