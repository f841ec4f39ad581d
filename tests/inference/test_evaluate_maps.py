"""`geoclick evaluate` with predictors of maps on the embedded models, on small crops of the copy of LoveDA."""

import json

import numpy as np
import pytest

from geoclick import images, masks
from geoclick.datasets.benchmarks import BENCHMARKS
from geoclick.datasets.class_maps import IGNORED
from geoclick.inference import evaluate
from geoclick.inference.evaluation import answering, map_predictors, run_folder
from geoclick.scenes.copies.semantic import paint
from geoclick.scoring import records
from tests import tiny_sam3
from tests.inference.reports.test_evaluation_report import section

FILES = ("predictions.jsonl", "metrics.json", "protocol.json", "model-index.yaml")
GRID = ("--points-per-side", 5)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two images of the layout of LoveDA, 160 pixels wide."""
    root = tmp_path_factory.mktemp("loveda")
    for index in range(2):
        image, truth = (np.asarray(one)[:512:4, :640:4] for one in paint("loveda", 0, index))
        values = np.where(truth == IGNORED, 0, truth + 1).astype(np.uint8)
        for folder, array in (("img_dir", image), ("ann_dir", values)):
            (root / folder / "val").mkdir(parents=True, exist_ok=True)
            images.write_png(root / folder / "val" / f"{index}.png", np.ascontiguousarray(array))
    return root


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """The same for all tests."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def run(data, tmp_path, capsys):
    """Runs evaluate on `data` and returns its exit code and its lines."""

    def call(*words, output="out", dataset="loveda", root=data):
        places = ("--dataset", dataset, "--root", root, "--output", tmp_path / output)
        code = evaluate.main([*map(str, (*places, *words))])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return code, (captured.out + captured.err).strip().splitlines()

    return call


def loaded(folder):
    return json.loads((folder / "metrics.json").read_text())


def label_maps(folder):
    """True and predicted classes of each image, from the masks of its records."""
    names = BENCHMARKS["loveda"].names
    found = {}
    for record in records.read(folder / "predictions.jsonl"):
        size = tuple(record["size"])
        truth, labels = found.setdefault(record["image"], (np.full(size, IGNORED), np.full(size, IGNORED)))
        truth[masks.decode_rle(record["target"])] = names.index(record["category"])
        mask = masks.decode_rle(record["mask"])
        assert (labels[mask] == IGNORED).all()
        labels[mask] = names.index(record["category"])
    return found


def test_a_map_of_all_classes_in_records_metrics_and_report(run, tmp_path, cache):
    code, lines = run("--predictor", "contrastive", *GRID, "--cache", cache)
    assert code == 0
    folder = tmp_path / "out"
    summary, maps = loaded(folder), label_maps(folder)
    matrix = np.zeros((7, 7), int)
    for truth, labels in maps.values():
        assert (labels != IGNORED).all()
        np.add.at(matrix, (truth[truth != IGNORED], labels[truth != IGNORED]), 1)
    assert summary["confusion"]["pixels"] == matrix.tolist()
    both, union = np.diag(matrix), matrix.sum(0) + matrix.sum(1) - np.diag(matrix)
    assert summary["scores"]["miou"] == pytest.approx((both[union > 0] / union[union > 0]).mean(), abs=1e-9)
    assert summary["scores"]["miou"] > 0.3
    assert 0 < summary["coverage"]["mean"] < 1
    expected = {
        "predictor": "contrastive",
        "method": "contrastive",
        "features": "clearclip",
        "templates": "aerial",
        "select": "vote",
        "overlaps": "small-on-top",
        "uncovered": "dense",
        "threshold": 0.3,
        "threshold_source": "published",
        "points_per_side": 5,
        "proposal_window": 1024,
        "clip_sees": "complete images",
        "batches": "complete images with all their classes",
        "clip": "embedded",
        "segmenter": "embedded",
    }
    protocol = summary["protocol"]
    assert protocol | expected == protocol
    assert protocol["classes"]["building"]["prompts"] == ["building", "roof", "house"]
    assert len(protocol["segmenter_sha256"]) == 64
    assert len(protocol["clip_fingerprint"]) > 64
    page = (folder / "report.html").read_text()
    assert "covered by proposals" in page
    assert section(page, "Confusion matrix").count("pixels of water predicted as") == 7
    assert section(page, "Maps, from the best to the worst image").count("<img") == 6
    assert any("this run (contrastive)" in line for line in lines)
    # From the stored proposals and features: the same bytes.
    made = sorted(cache.rglob("*.cached"))
    assert made
    assert run("--predictor", "contrastive", *GRID, "--cache", cache, output="again")[0] == 0
    assert sorted(cache.rglob("*.cached")) == made
    for name in FILES:
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "again" / name).read_bytes(), name


def test_an_interrupted_run_continues_with_the_next_image(run, tmp_path, monkeypatch):
    assert run("--predictor", "clearclip")[0] == 0
    answer = answering.answer_batch
    asked = []

    def interrupted(options, predictor, batch):
        if len(asked) == 1:
            raise KeyboardInterrupt
        asked.append(batch)
        return answer(options, predictor, batch)

    monkeypatch.setattr(answering, "answer_batch", interrupted)
    assert run("--predictor", "clearclip", output="stopped")[0] != 0
    assert run_folder.count(tmp_path / "stopped") == 7
    monkeypatch.setattr(answering, "answer_batch", answer)
    assert run("--predictor", "clearclip", output="stopped")[0] == 0
    assert json.loads((tmp_path / "stopped/run.json").read_text())["resumed"] == 7
    for name in FILES:
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "stopped" / name).read_bytes()


def test_the_upper_bound_uses_the_truth_and_is_not_the_papers_oracle(run, tmp_path, cache):
    words = (*GRID, "--cache", cache)
    assert run("--predictor", "oracle-proposals", *words)[0] == 0
    assert run("--predictor", "contrastive", *words, output="selected")[0] == 0
    bound, selected = loaded(tmp_path / "out"), loaded(tmp_path / "selected")
    assert bound["scores"]["miou"] > selected["scores"]["miou"]
    assert bound["coverage"] == selected["coverage"]
    assert bound["protocol"]["select"] == "majority true class"
    assert bound["protocol"]["uncovered"] == "dense"
    published = section((tmp_path / "out/report.html").read_text(), "Published scores")
    assert "uses the ground truth: a reference, not a result" in published
    assert "the majority true class of each proposal, not the Oracle of the paper" in published
    assert "Oracle (arXiv 2602.17799, not defined there)" in published


def test_a_tuned_threshold_is_kept_apart(run, tmp_path, cache):
    code, lines = run("--predictor", "clip", "--threshold", 0.5, "--cache", cache)
    assert code == 0
    protocol = loaded(tmp_path / "out")["protocol"]
    assert (protocol["threshold"], protocol["threshold_source"]) == (0.5, "tuned")
    page = section((tmp_path / "out/report.html").read_text(), "Published scores")
    apart = "With a tuned threshold, apart from the published protocol"
    assert 0 < page.index(apart) < page.index("this run (clip)")
    assert "threshold 0.3, here 0.5" in page
    assert lines.index(f"{apart}:") + 1 == next(n for n, line in enumerate(lines) if "this run" in line)
    code, lines = run("--predictor", "clip", "--cache", cache, output="published")
    assert "tuned" not in (tmp_path / "published/report.html").read_text()
    assert not any(apart in line for line in lines)


@pytest.mark.parametrize("flag", ["--limit", "--first"])
def test_a_part_of_the_dataset_is_complete_images(run, tmp_path, cache, flag):
    words = ("--predictor", "maskclip", "--cache", cache, flag)
    code, lines = run(*words, 3)
    assert code == 0
    assert f"{flag} 3 gives 7 samples: maskclip predicts complete images with all their classes." in lines
    found = list(records.read(tmp_path / "out/predictions.jsonl"))
    assert len(found) == 7
    assert len({record["image"] for record in found}) == 1
    assert not any("gives 14 samples" in line for line in run(*words, 14, output="exact")[1])


def test_sam3(run, data, tmp_path):
    """Published thresholds are those of CLIP; a tiny random model."""
    words = ("--predictor", "sam3", "--sam3", tiny_sam3.folder(tmp_path / "sam3"))
    assert run(*words)[0] == 0
    protocol = loaded(tmp_path / "out")["protocol"]
    assert (protocol["threshold"], protocol["threshold_source"]) == (0.5, "default")
    assert len(protocol["sam3_sha256"]) == 64
    assert "clip" not in protocol
    assert all((labels != IGNORED).all() for _, labels in label_maps(tmp_path / "out").values())
    assert run(*words, "--threshold", 0.3, output="tuned")[0] == 0
    assert loaded(tmp_path / "tuned")["protocol"]["threshold_source"] == "tuned"


def test_images_that_are_too_small_are_named_and_the_others_scored(run, data, tmp_path):
    root = tmp_path / "data"
    for folder, value in (("img_dir", 90), ("ann_dir", 2)):
        (root / folder / "val").mkdir(parents=True)
        (root / folder / "val/0.png").write_bytes((data / folder / "val/0.png").read_bytes())
        images.write_png(root / folder / "val/1.png", np.full((8, 30), value, np.uint8))
    code, lines = run("--predictor", "clip", root=root)
    assert code == 0
    message = "An image of 30x8 pixels is smaller than a patch of 16x16; give a larger image."
    assert f"  img_dir/val/1.png: {message}" in lines
    assert "failed and scored 0: 7 samples on 1 images" in lines
    summary = loaded(tmp_path / "out")
    assert summary["confusion"]["images"] == 1
    assert "Images that failed are not counted here" in (tmp_path / "out/report.html").read_text()


def test_a_folder_with_a_legend(run, data, tmp_path):
    root = tmp_path / "own"
    for name in ("images", "masks"):
        (root / "test" / name).mkdir(parents=True)
    (root / "test/images/0.png").write_bytes((data / "img_dir/val/0.png").read_bytes())
    mask = np.zeros((128, 160, 3), np.uint8)
    mask[:40], mask[100:] = (0, 0, 255), (9, 9, 9)
    images.write_png(root / "test/masks/0.png", mask)
    legend = {"classes": {"Water": [0, 0, 255], "Bare land": [0, 0, 0]}, "ignore": [[9, 9, 9]]}
    (root / "classes.json").write_text(json.dumps(legend))
    assert run("--predictor", "sclip", dataset="folder", root=root)[0] == 0
    summary = loaded(tmp_path / "out")
    protocol = summary["protocol"]
    assert protocol["mode"] == "semantic"
    assert protocol["classes"]["Water"] == {"prompts": ["water"], "color": [0, 0, 255]}
    assert (protocol["threshold"], protocol["threshold_source"], protocol["background"]) == (
        0.0,
        "none",
        None,
    )
    assert list(map(sum, summary["confusion"]["pixels"])) == [40 * 160, 60 * 160]
    code, lines = run("--predictor", "sclip", "--threshold", 0.3, dataset="folder", root=root, output="other")
    assert (code, "`background`, which folder lacks" in lines[-1]) == (2, True)
    code, lines = run("--predictor", "sclip", "--components", dataset="folder", root=root, output="other")
    assert (code, "leave --components out" in lines[-1]) == (2, True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--predictor", "clip", "--adapter", "x"],
            "--adapter has no meaning for --predictor clip; remove it",
        ),
        (
            ["--predictor", "generative", "--select", "pool"],
            "--select has no meaning for --predictor generative",
        ),
        (["--predictor", "noisy", "--threshold", "0.3"], "--threshold has no meaning for --predictor noisy"),
        (["--predictor", "box", "--adapter", "x"], "--adapter has no meaning for --predictor box"),
        (
            ["--predictor", "center-point", "--clicks", "x"],
            "--clicks has no meaning for --predictor center-point",
        ),
        (["--clicks", "x"], "--clicks has no meaning for --predictor generative"),
        (["--predictor", "box", "--cache", "x"], "--cache has no meaning for --predictor box"),
        (
            ["--predictor", "oracle-proposals", "--select", "pool"],
            "--select has no meaning for --predictor oracle-",
        ),
        (
            ["--predictor", "clip", "--points-per-side", "5"],
            "points_per_side goes with the method contrastive",
        ),
        (
            ["--predictor", "contrastive", "--points-per-side", "0"],
            "--points-per-side must be 1 or more, not 0",
        ),
        (["--predictor", "gem", "--features", "clip"], "has its own features"),
        (["--predictor", "clip", "--threshold", "2"], "--threshold must be from 0 to 1, not 2.0"),
        (["--predictor", "clip", "--sam3", "x"], "--sam3 has no meaning for --predictor clip"),
        (["--predictor", "sam3"], "--predictor sam3 needs --sam3, a folder or a hub id"),
        (["--predictor", "sam3", "--sam3", "x", "--clip", "y"], "--clip has no meaning for --predictor sam3"),
        (["--predictor", "clip", "--clip", "ViT-B-32"], "needs --clip-checkpoint"),
    ],
)
def test_wrong_usage_is_one_sentence(run, tmp_path, words, message):
    code, lines = run(*words)
    assert code == 2
    assert message in lines[-1]
    assert not (tmp_path / "out").exists()


def test_datasets_without_classes_are_refused(run, tmp_path):
    for dataset in ("rrsis-d", "folder", "coco"):
        code, lines = run("--predictor", "contrastive", dataset=dataset, root=tmp_path)
        assert code == 2
        assert (
            f"--predictor contrastive makes a map of a dataset's classes, but {dataset} has none" in lines[-1]
        )


def test_the_published_class_bias_of_xbd(monkeypatch):
    """SegEarth-OV subtracts no class token there."""
    from geoclick.inference.contrastive import pipeline
    from geoclick.inference.evaluation.options import EvaluateOptions, resolve

    settings = []

    class Loaded:
        def describe(self):
            return {}

    def load(classes, method, **given):
        settings.append(given["settings"])
        return Loaded()

    monkeypatch.setattr(pipeline, "load", load)
    for dataset, more in (
        ("xbd", {}),
        ("loveda", {}),
        ("xbd", {"class_bias": -0.3}),
        ("xbd", {"features": "sclip"}),
    ):
        options = EvaluateOptions(output="out", root="data", predictor="contrastive", dataset=dataset, **more)
        map_predictors.load(resolve(options), None)
    assert [one.class_bias for one in settings] == [0.0, None, -0.3, None]
    assert [one.threshold for one in settings] == [0.0, 0.3, 0.0, 0.0]
