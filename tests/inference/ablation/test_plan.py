"""Which settings an ablation measures, and how its options become them."""

from dataclasses import replace

import pytest

from geoclick.errors import UsageError
from geoclick.inference.ablation import options as ablation_options
from geoclick.inference.ablation.options import AblateOptions
from geoclick.inference.ablation.plan import AXES, ORACLE, Model, Setting, shown, steps, title
from geoclick.inference.contrastive import regions
from geoclick.inference.contrastive.settings import ContrastiveSettings
from geoclick.inference.evaluation import dataset_classes
from geoclick.options import SELECTIONS

BASE = Setting(
    clip=Model("embedded"), segmenter=Model("embedded"), select="vote", settings=ContrastiveSettings()
)


def options(**given):
    return AblateOptions(output="out", **given)


def without_background():
    classes = dataset_classes.of_benchmark(dataset_classes.BENCHMARKS["loveda"])
    prompts = replace(classes.prompts, synonyms=(("a",), ("b",), ("c",)), other=None)
    return replace(classes, names=("a", "b", "c"), prompts=prompts)


def test_one_axis_at_a_time_with_an_oracle_for_each_set_of_proposals():
    plan = steps(BASE, {"threshold": [0.1, 0.2], "points-per-side": [8, 29]}, {})
    assert [(title(step.place), step.is_oracle) for step in plan] == [
        ("base", False),
        ("threshold 0.1", False),
        ("threshold 0.2", False),
        ("points-per-side 8", False),
        ("points-per-side 29", False),
        ("base", True),
        ("points-per-side 8", True),
        ("points-per-side 29", True),
    ]
    assert plan[1].setting == BASE.at("threshold", 0.1)
    assert plan[1].setting.settings.threshold == 0.1
    assert plan[6].setting == BASE.at("points-per-side", 8).at("select", ORACLE)


def test_a_grid_has_all_products_and_the_oracles_of_its_proposals():
    plan = steps(BASE, {}, {"predicted-iou": [0.2, 0.8], "threshold": [0.0, 0.5]})
    assert len(plan) == 1 + 4 + 3
    assert title(plan[4].place) == "predicted-iou 0.8, threshold 0.5"
    assert (plan[4].setting.settings.predicted_iou, plan[4].setting.settings.threshold) == (0.8, 0.5)
    assert [title(step.place) for step in plan if step.is_oracle] == [
        "base",
        "predicted-iou 0.2",
        "predicted-iou 0.8",
    ]


@pytest.mark.parametrize("axis", AXES)
def test_a_setting_moves_along_each_axis_alone(axis):
    values = {"clip": Model("a"), "segmenter": Model("b"), "select": "pool", "overlaps": "margin"}
    value = values.get(axis, "nearest" if axis == "uncovered" else 0.25)
    moved = BASE.at(axis, value)
    assert moved.value(axis) == value != BASE.value(axis)
    assert all(moved.value(other) == BASE.value(other) for other in AXES if other != axis)


def test_the_options_name_all_rules():
    assert ablation_options.OVERLAPS == regions.OVERLAPS
    assert ablation_options.UNCOVERED == regions.UNCOVERED
    assert options().selections == ("dense", *SELECTIONS)
    for axis in AXES.values():
        assert isinstance(getattr(options(), axis.option), tuple)


def test_values_are_in_order_and_hold_that_of_the_base():
    given = options(points=(16, 8), clips=("ViT-B-32=/w/a.pt", "embedded"))
    classes = dataset_classes.of_benchmark(dataset_classes.BENCHMARKS["loveda"])
    assert ablation_options.values(given, "points-per-side", classes, BASE) == [8, 16, 29]
    models = ablation_options.values(given, "clip", classes, BASE)
    assert models == [Model("ViT-B-32", "/w/a.pt"), Model("embedded")]
    assert ablation_options.values(given, "uncovered", classes, BASE) == ["dense", "background", "nearest"]
    assert ablation_options.values(given, "uncovered", without_background(), BASE) == ["dense", "nearest"]
    assert [shown(Model("ViT-B-32", "/w/a.pt")), shown(Model("/m/clip/")), shown(0.50), shown(8)] == [
        "ViT-B-32 (a.pt)",
        "clip",
        "0.5",
        "8",
    ]
    with pytest.raises(UsageError, match="'ViT-B-32=' is no model; write NAME, or NAME=FILE"):
        ablation_options.model("ViT-B-32=")


def test_axes_without_a_meaning_are_left_out_or_refused():
    drone = dataset_classes.of_benchmark(dataset_classes.BENCHMARKS["loveda"])
    without = without_background()
    names, notes = ablation_options.varied(options(), without, BASE)
    assert names == [axis for axis in AXES if axis not in ("threshold", "clip", "segmenter")]
    assert notes == (
        "The axis threshold is left out: the dataset has no background for the pixels below it.",
        "The rule background for uncovered pixels is left out: the dataset has no background.",
    )
    names, notes = ablation_options.varied(options(), drone, BASE, siglip=True)
    assert "class-bias" not in names
    assert notes == ("The axis class-bias is left out: a SigLIP has no class token.",)
    assert ablation_options.varied(options(grid=("scale",)), drone, BASE) == ([], ())
    assert ablation_options.varied(options(axes=("scale", "scale")), drone, BASE)[0] == ["scale"]
    with pytest.raises(UsageError, match="axis threshold cannot be varied: the dataset has no background"):
        ablation_options.varied(options(axes=("threshold",)), without, BASE)
    with pytest.raises(UsageError, match="axis clip cannot be varied: there is no --clips to compare"):
        ablation_options.varied(options(grid=("clip",)), drone, BASE)
    one = dataset_classes.of_benchmark(dataset_classes.BENCHMARKS["wbs-si"])
    (note,) = ablation_options.varied(options(axes=("overlaps",)), one, BASE)[1]
    assert note.endswith("overlaps change the oracle only.")
