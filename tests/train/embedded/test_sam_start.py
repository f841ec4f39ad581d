"""The training of the embedded SAM from finished weights, and the stages in its model card."""

import dataclasses
import shutil

import pytest
import torch

from geoclick import embedded
from geoclick.config import read_yaml
from geoclick.errors import GeoClickError
from geoclick.files import sha256
from geoclick.segmenters.embedded import read_folder, write_folder
from geoclick.segmenters.sam import build
from geoclick.train.embedded.sam import main
from geoclick.train.embedded.sam_card import earlier_stages, model_card
from geoclick.train.embedded.sam_model import ARCHITECTURE, read_start
from geoclick.train.embedded.sam_options import EmbeddedSamOptions
from geoclick.train.embedded.sam_trainer import SamTrainer
from tests.paths import REPO

FIGURES = {f"iou@{n}": 0.1 * n for n in range(1, 7)} | {
    **{"objects": 5, "box": 0.777, "chosen": 0.5, "best": 0.6, "any": 0.4, "rank_correlation": 0.3}
}


def test_the_first_weights_are_those_of_the_folder_and_those_of_a_resumed_run_are_its_own(tmp_path):
    start = embedded.folder("sam")
    trainer = SamTrainer(EmbeddedSamOptions(output=str(tmp_path), start_from=str(start)))
    expected = read_folder(start).state_dict()
    for sam in (trainer.sam, trainer.average):
        torch.testing.assert_close(sam.state_dict(), expected, rtol=0, atol=0)
    assert all(parameter.requires_grad for parameter in trainer.sam.mask_decoder.parameters())
    trainer.average.mask_decoder.iou_token.weight.fill_(3)
    trainer.save()
    resumed = SamTrainer(EmbeddedSamOptions(output=str(tmp_path), start_from=str(tmp_path / "gone")))
    assert resumed.average.mask_decoder.iou_token.weight.eq(3).all()
    assert resumed.earlier == trainer.earlier != ""


def test_the_result_is_a_weighted_mean_with_the_start(tmp_path):
    start = tmp_path / "start"
    shutil.copytree(embedded.folder("sam"), start)
    options = EmbeddedSamOptions(output=str(tmp_path / "run"), start_from=str(start), start_share=0.25)
    trainer = SamTrainer(options)
    before = {k: v.clone() for k, v in trainer.average.named_parameters()}
    for weight in trainer.average.parameters():
        weight.add_(0.4)
    for name, weight in trainer.result().named_parameters():
        torch.testing.assert_close(weight, before[name] + 0.3)
    for name, weight in trainer.average.named_parameters():
        torch.testing.assert_close(weight, before[name] + 0.4)
    (start / "README.md").write_text("other")
    with pytest.raises(GeoClickError, match="has changed since the run started from it"):
        trainer.result()


def test_a_folder_that_does_not_fit_is_refused_before_any_scene_is_rendered(tmp_path, capsys):
    config = dataclasses.replace(ARCHITECTURE, decoder_heads=2)
    write_folder(build(config), config, tmp_path / "other")
    sam = build(ARCHITECTURE)
    sam.mask_decoder.iou_token.weight.data[0, 0] = torch.nan
    write_folder(sam, ARCHITECTURE, tmp_path / "nan")
    with pytest.raises(GeoClickError, match=r"decoder_heads is 2 instead of 4"):
        read_start(tmp_path / "other")
    with pytest.raises(GeoClickError, match=r"not finite \(mask_decoder\.iou_token\.weight\)"):
        read_start(tmp_path / "nan")
    run = ["--output", str(tmp_path / "run"), "--cache", str(tmp_path / "cache")]
    assert main([*run, "--start-from", str(tmp_path / "missing")]) == 1
    message = capsys.readouterr().err
    assert "does not hold a complete SAM" in message
    assert "Traceback" not in message
    assert main([*run, "--scenes_version", "3"]) == 2
    assert not (tmp_path / "cache").exists()


def test_the_card_lists_the_stages_and_the_ious_of_boxes(tmp_path):
    start = tmp_path / "start"
    shutil.copytree(embedded.folder("sam"), start)
    first = "## Training\n3000 steps in\n99 minutes, 21 November 2026\n"
    (start / "README.md").write_text(f"# A model\n\n{first}\n## Evaluation\nnothing\n")
    earlier = earlier_stages(start)
    assert earlier.startswith("### Stage 1\n3000 steps in\n99 minutes, 21 November 2026\n")
    assert sha256(start / "model.safetensors") in earlier
    options = EmbeddedSamOptions(start_from=str(start), scenes_version="2")
    card = model_card(options, {"scenes-v2": FIGURES}, steps=9, minutes=2.0, earlier=earlier)
    assert "(version 1 and 2)" in card
    assert "### Stage 2\nStarted from these weights." in card
    assert "    start_from: start\n" in card
    assert "| scenes-v2 | 5 | 0.100 | 0.200 | 0.300 | 0.400 | 0.500 | 0.600 | 0.777 |" in card
    (start / "README.md").write_text(card)
    third = model_card(options, {"scenes": FIGURES}, steps=9, minutes=2.0, earlier=earlier_stages(start))
    assert [third.count(f"### Stage {n}\n") for n in (1, 2, 3, 4)] == [1, 1, 1, 0]
    (start / "README.md").unlink()
    assert "Unknown" in earlier_stages(start)


def test_the_second_recipe_starts_from_the_result_of_the_first():
    recipe, first = (read_yaml(REPO / f"configs/embedded_sam/{name}.yaml") for name in ("boxes", "default"))
    assert recipe["start_from"] == f"{first['output']}/model"
    assert {**recipe}.keys() <= {field.name for field in dataclasses.fields(EmbeddedSamOptions)}
