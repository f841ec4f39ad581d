import json

import pytest

from geoclick.datasets.benchmarks import BENCHMARKS
from geoclick.errors import GeoClickError, UsageError
from geoclick.inference.evaluation import dataset_classes

SEMANTIC = [name for name, benchmark in BENCHMARKS.items() if benchmark.task == "semantic"]


@pytest.mark.parametrize("name", SEMANTIC)
def test_a_benchmark_has_its_published_prompts_background_and_threshold(name):
    benchmark = BENCHMARKS[name]
    found = dataset_classes.of_benchmark(benchmark)
    if len(benchmark.classes) == 1:
        assert found.names == ("background", *benchmark.names)
        assert found.prompts.synonyms == (("background",), *benchmark.classes)
        assert found.prompts.background == 0
    else:
        assert found.names == benchmark.names
        assert found.prompts.synonyms == benchmark.prompts
        assert found.prompts.background == benchmark.background
    assert len(set(found.prompts.colors)) == len(found.names)
    assert found.threshold == benchmark.threshold
    assert found.chosen_threshold(None, name) == (benchmark.threshold, "published")
    assert found.chosen_threshold(benchmark.threshold, name)[1] == "published"
    assert found.chosen_threshold(0.55, name) == (0.55, "tuned")
    assert found.class_bias == (0.0 if name == "xbd" else None)


def test_the_background_may_have_another_name():
    for name, number in (("vaihingen", 5), ("potsdam", 5), ("udd5", 4), ("vdd", 0)):
        assert dataset_classes.of_benchmark(BENCHMARKS[name]).prompts.background == number


def legend(folder, classes, ignore=()):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "classes.json").write_text(json.dumps({"classes": classes, "ignore": list(ignore)}))


def test_a_folder_has_the_classes_and_colors_of_its_legend(tmp_path):
    legend(tmp_path, {"Road": [1, 2, 3], "Building": [4, 5, 6], "None": [0, 0, 0]}, [[0, 0, 0]])
    found = dataset_classes.of_folder(tmp_path, "test")
    assert found.names == ("Road", "Building")
    assert found.prompts.synonyms == (("road",), ("building",))
    assert found.prompts.colors == ((1, 2, 3), (4, 5, 6))
    assert found.prompts.background is None
    assert found.chosen_threshold(None, "folder") == (0.0, "none")
    assert found.chosen_threshold(0.0, "folder") == (0.0, "tuned")
    with pytest.raises(UsageError, match="`background`, which folder lacks; remove it, or set it to 0"):
        found.chosen_threshold(0.3, "folder")
    legend(tmp_path / "test", {"Background": [9, 9, 9], "Water": [0, 0, 255]})
    of_split = dataset_classes.of_folder(tmp_path, "test")
    assert of_split.names == ("Background", "Water")
    assert of_split.chosen_threshold(0.3, "folder") == (0.3, "tuned")


def test_legends_that_make_no_map(tmp_path):
    legend(tmp_path, {"Road": [1, 2, 3]})
    with pytest.raises(UsageError, match="has one class only"):
        dataset_classes.of_folder(tmp_path, "test")
    (tmp_path / "classes.json").write_text("[]")
    with pytest.raises(GeoClickError, match=r"classes\.json must hold"):
        dataset_classes.of_folder(tmp_path, "test")
