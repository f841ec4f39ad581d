import numpy as np
import pytest

from geoclick import cli, masks, store
from geoclick.data_synthesis.run import run
from geoclick.errors import GeoClickError
from tests.data_synthesis.disc_segmenter import DiscSegmenter
from tests.data_synthesis.test_run import make_root, read_lines, settings, store_bytes, write_lines


def ask_again(root, count, of=0):
    """Add `count` samples with the image and query of sample `of` and other targets."""
    lines = read_lines(root / "train/samples.jsonl")
    for index in range(count):
        mask = np.zeros((40, 50), bool)
        mask[2 : 9 + index, 30:45] = True
        changes = {"sample_id": f"again{index}", "mask": masks.encode_rle(mask)}
        lines.append({**lines[of], **changes, "task": "referring"})
    write_lines(root, lines)


def test_contradicting_samples_stop_the_job_before_it_writes_anything(tmp_path, capsys):
    root, output = make_root(tmp_path / "data"), tmp_path / "out"
    ask_again(root, 3)
    with pytest.raises(
        GeoClickError, match=r"4 of 15 rows \(26\.7 %\) contradict others.*--allow-contradict"
    ):
        run(settings(root, output), DiscSegmenter())
    assert not output.exists()
    run(settings(root, output, allow_contradictions=True), DiscSegmenter())
    assert "warning: 4 of 15 rows (26.7 %) contradict others: 1 question" in capsys.readouterr().out
    assert store.read_manifest(output)["samples"] == 15
    # The complete store needs no permission, which is not part of what it was made with.
    run(settings(root, output), DiscSegmenter())
    assert "is complete already" in capsys.readouterr().out
    assert "allow_contradictions" not in store.read_manifest(output)


def test_a_query_with_and_without_target_is_a_contradiction(tmp_path):
    root = make_root(tmp_path / "data")
    # Sample 4 has no target.
    ask_again(root, 1, of=4)
    with pytest.raises(GeoClickError, match="2 of 13 rows"):
        run(settings(root, tmp_path / "out"), DiscSegmenter())


def test_few_contradictions_are_a_warning(tmp_path, capsys):
    root = make_root(tmp_path / "data", count=39)
    ask_again(root, 1)
    run(settings(root, tmp_path / "out"), DiscSegmenter())
    assert "warning: 2 of 40 rows (5.0 %) contradict others" in capsys.readouterr().out


def test_samples_without_contradictions_are_not_mentioned(tmp_path, capsys):
    root = make_root(tmp_path / "data")
    for name, changes in (("a", {}), ("b", {"allow_contradictions": True})):
        run(settings(root, tmp_path / name, **changes), DiscSegmenter())
    assert "contradict" not in capsys.readouterr().out
    assert store_bytes(tmp_path / "a") == store_bytes(tmp_path / "b")


def test_the_error_is_one_line_of_the_command(tmp_path, capsys):
    root = make_root(tmp_path / "data")
    ask_again(root, 3)
    argv = ["synth", "--root", str(root), "--split", "train", "--output", str(tmp_path / "out")]
    assert cli.main(argv) == 1
    assert capsys.readouterr().err.strip().splitlines()[-1].startswith("error: 4 of 15 rows (26.7 %)")
