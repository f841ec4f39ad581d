import json

import pytest

from geoclick import demo, demo_results
from geoclick.errors import GeoClickError

OPTIONS = demo.DemoOptions(output="runs/demo")


def write_log(path, steps, seconds):
    path.write_text(json.dumps({"config": steps, "seconds": seconds}), encoding="utf-8")
    return path


def test_steps_that_finished_are_not_run_again(tmp_path):
    steps = demo.commands(OPTIONS)
    assert demo.finished_steps(tmp_path / "finished.json", steps) == {}
    log = write_log(tmp_path / "finished.json", steps, {"base": 2.5})
    assert demo.finished_steps(log, steps) == {"base": 2.5}


def test_a_log_that_names_the_recipe_by_its_path_is_read(tmp_path):
    steps = demo.commands(OPTIONS)
    earlier = steps | {
        "adapter": [word.replace(demo.RECIPE, "/src/configs/sft/embedded.yaml") for word in steps["adapter"]]
    }
    assert earlier != steps
    assert demo.finished_steps(write_log(tmp_path / "finished.json", earlier, {"base": 1}), steps) == {
        "base": 1
    }


def test_a_log_of_an_earlier_version_with_fewer_steps_is_continued(tmp_path):
    steps = demo.commands(OPTIONS)
    earlier = {name: words for name, words in steps.items() if name not in ("land-cover", "maps")}
    log = write_log(tmp_path / "finished.json", earlier, dict.fromkeys(earlier, 1.0))
    assert demo.finished_steps(log, steps) == dict.fromkeys(earlier, 1.0)


def test_a_log_with_other_options_or_a_damaged_one_is_one_sentence(tmp_path):
    steps = demo.commands(OPTIONS)
    log = write_log(tmp_path / "finished.json", demo.commands(demo.DemoOptions(seed=1)), {})
    with pytest.raises(GeoClickError, match="other options"):
        demo.finished_steps(log, steps)
    for text in ("{", "[]", '{"config": 3, "seconds": {}}', '{"config": {"base": 4}, "seconds": {}}'):
        log.write_text(text, encoding="utf-8")
        with pytest.raises(GeoClickError, match="damaged"):
            demo.finished_steps(log, steps)


def test_a_seed_that_a_step_would_refuse_is_refused_before_the_first_one(tmp_path, capsys):
    assert demo.main(["--seed", "-1", "--output", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.startswith("error: --seed must be 0 or more")
    assert not (tmp_path / "out").exists()


def test_the_table_names_the_upper_bound_and_shows_missing_tasks_as_nan():
    scores = {
        "scores": {"miou": 0.95, "n": 3},
        "by_task": {"referring": {"miou": 0.9}},
        "no_target": {"accuracy": None},
        "mean_clicks": 1.25,
    }
    *_, last = demo_results.table(dict.fromkeys(demo_results.RUNS, scores)).splitlines()
    assert last.split() == ["upper", "bound", "0.950", "0.900", *["nan"] * 5, "1.25"]
    summary = demo_results.summarize(dict.fromkeys(demo_results.RUNS, scores), {"base": 1.5, "lora": 2.0}, {})
    assert summary["miou"]["upper_bound"] == 0.95
    assert (summary["samples"], summary["seconds"]) == (3, 3.5)


def test_the_table_of_maps_has_each_method_and_the_oracle(tmp_path):
    (tmp_path / "maps").mkdir()
    rows = [
        {"setting": {"features": name, "select": select}, "miou": miou}
        for name, select, miou in [
            ("clip", "dense", 0.25),
            ("clip", "vote", 0.5),
            ("gem", demo_results.ORACLE, 0.75),
        ]
    ]
    (tmp_path / "maps" / "metrics.json").write_text(json.dumps({"rows": rows}))
    header, clip, *_, oracle = demo_results.map_table(demo_results.read_maps(tmp_path)).splitlines()
    assert header.split() == ["CLIP", "alone", "with", "SAM"]
    assert clip.split() == ["clip", "0.250", "0.500"]
    assert oracle.split() == ["oracle-proposals", "0.750"]
