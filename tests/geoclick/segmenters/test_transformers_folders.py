"""The SAM classes of transformers load from folders and from the hub, and wrong models are refused in one sentence."""

import json
from dataclasses import replace
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from geoclick import segmenters
from geoclick.clicks import Click
from geoclick.errors import GeoClickError, UsageError
from geoclick.files import sha256
from geoclick.segmenters.architectures import mask_side
from geoclick.segmenters.base import Prompt
from geoclick.segmenters.sam import SamSegmenter, build
from geoclick.segmenters.transformers_sam import TransformersSam
from tests import tiny, tiny_sams

IMAGES = [np.random.default_rng(0).integers(0, 256, (*s, 3), dtype=np.uint8) for s in ((64, 40), (90, 133))]
PROMPT = Prompt((Click(20, 30), Click(5, 60, False)))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    torch.set_num_threads(1)
    made = {}

    def of(kind):
        if kind not in made:
            made[kind] = tiny_sams.folder(tmp_path_factory.mktemp("models") / kind, kind)
        return made[kind]

    return of


@pytest.fixture
def folder(folders, tmp_path):
    """A copy of a SAM 2, to be damaged."""
    for path in folders("sam2").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def masks(segmenter):
    embeddings = segmenter.embed(IMAGES)
    decoded = segmenter.decode(embeddings, [PROMPT] * 2, multimask=True)
    return torch.stack([answer.low_res for answer in decoded])


@pytest.mark.parametrize("kind", tiny_sams.CLASSES)
def test_a_folder_gives_the_masks_of_its_model(kind, folders):
    loaded = segmenters.load(str(folders(kind)), device="cpu")
    assert isinstance(loaded, TransformersSam)
    assert (loaded.name, loaded.sha256) == (str(folders(kind)), sha256(folders(kind) / "model.safetensors"))
    family, processor = loaded.family, tiny_sams.processor(kind).image_processor
    own = TransformersSam(tiny_sams.model(kind), processor, family, name="own")
    torch.testing.assert_close(masks(loaded), masks(own))
    assert mask_side(loaded.name) == masks(loaded).shape[-1]


def convert(state):
    """The weights of segment-anything's SAM with transformers' names, as its conversion script renames them."""
    names = {
        "image_encoder": "vision_encoder",
        "patch_embed.proj": "patch_embed.projection",
        "blocks": "layers",
        "pe_layer.positional_encoding_gaussian_matrix": "shared_embedding.positional_embedding",
        "point_embeddings": "point_embed",
        ".norm": ".layer_norm",
        "neck.0": "neck.conv1",
        "neck.1": "neck.layer_norm1",
        "neck.2": "neck.conv2",
        "neck.3": "neck.layer_norm2",
        "mask_downscaling.0": "mask_embed.conv1",
        "mask_downscaling.1": "mask_embed.layer_norm1",
        "mask_downscaling.3": "mask_embed.conv2",
        "mask_downscaling.4": "mask_embed.layer_norm2",
        "mask_downscaling.6": "mask_embed.conv3",
        "output_upscaling.0": "upscale_conv1",
        "output_upscaling.1": "upscale_layer_norm",
        "output_upscaling.3": "upscale_conv2",
    }
    layers = {"layers.0": "proj_in", "layers.1": "layers.0", "layers.2": "proj_out"}
    converted = {}
    for key, value in state.items():
        own = layers if "_mlps" in key or "prediction_head" in key else {}
        for old, new in (names | own).items():
            if old in key:
                key = key.replace(old, new)
                if old in own:
                    break
        converted[key] = value
    shared = "prompt_encoder.shared_embedding.positional_embedding"
    return converted | {"shared_image_embedding.positional_embedding": converted[shared]}


def test_sam_gives_the_same_masks_in_both_layouts(tmp_path):
    config = replace(tiny.SAM, encoder_depth=2, global_blocks=(1,), window_size=3)
    torch.manual_seed(0)
    sam = build(config)
    for name, weight in sam.named_parameters():
        if "rel_pos" in name or "pos_embed" in name:
            torch.nn.init.normal_(weight, std=0.3)
    model = tiny_sams.model("sam")
    left, unknown = model.load_state_dict(convert(sam.state_dict()), strict=False)
    assert (left, unknown) == ([], [])
    both = [segmenters.load(str(tiny_sams.folder(tmp_path, "sam", model)), device="cpu")]
    both.append(SamSegmenter(sam, name="segment-anything"))
    for multimask in (True, False):
        for images in ([IMAGES[0]], IMAGES):
            embeddings = [own.embed(images) for own in both]
            prompts = [PROMPT] * len(images)
            answers = [
                own.decode(e, prompts, multimask=multimask) for own, e in zip(both, embeddings, strict=True)
            ]
            for mine, theirs in zip(*answers, strict=True):
                # The libraries resize with other code: single pixels differ by a level of 255.
                near = 1e-4 if len(images) == 1 else 5e-3
                spread = theirs.low_res.abs().max()
                torch.testing.assert_close(mine.low_res, theirs.low_res, atol=near * spread, rtol=0)
                torch.testing.assert_close(mine.scores, theirs.scores, atol=near, rtol=0)


def test_a_model_for_videos_contains_one_for_images(folders, folder):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_type": "sam2_video"}))
    weights = load_file(folder / "model.safetensors")
    save_file(weights | {"memory_encoder.x": torch.zeros(2)}, folder / "model.safetensors", {"format": "pt"})
    video, image = (segmenters.load(str(own), device="cpu") for own in (folder, folders("sam2")))
    assert torch.equal(masks(video), masks(image))


def test_without_a_processor_images_are_prepared_for_the_side_of_the_model(folders, tmp_path):
    for kind in ("sam", "sam2"):
        own = tiny_sams.folder(tmp_path / kind, kind)
        (own / "processor_config.json").unlink()
        bare, complete = (segmenters.load(str(path), device="cpu") for path in (own, folders(kind)))
        assert torch.equal(masks(bare), masks(complete))


def test_a_model_on_the_hub_is_recorded_with_its_commit(folders, monkeypatch, tmp_path):
    commit = "0123abcd" * 5
    snapshot = tmp_path / "snapshots" / commit
    snapshot.mkdir(parents=True)
    for path in folders("sam2").iterdir():
        (snapshot / path.name).symlink_to(path)
    requests = []

    def snapshot_download(name, **options):
        requests.append((name, options["revision"], options["allow_patterns"]))
        return str(snapshot)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    names = [segmenters.load(name).name for name in ("facebook/sam2", "facebook/sam2@main")]
    assert names == [f"facebook/sam2@{commit}"] * 2
    patterns = ["*.safetensors", "*.json"]
    assert requests == [("facebook/sam2", None, patterns), ("facebook/sam2", "main", patterns)]


def refused(folder: Path, words: str):
    with pytest.raises(GeoClickError, match=words) as error:
        segmenters.load(str(folder), device="cpu")
    assert "\n" not in str(error.value)


def test_wrong_models_are_refused_in_one_sentence(folder):
    weights, config = folder / "model.safetensors", folder / "config.json"
    state, numbers = load_file(weights), json.loads(config.read_text())
    first = next(iter(state))
    save_file(state | {first: state[first] * float("nan")}, weights, {"format": "pt"})
    refused(folder, f"The weights {first} in .* are not finite; download")
    save_file({key: value for key, value in state.items() if key != first}, weights, {"format": "pt"})
    refused(folder, f"1 weights in .* do not match its config.json, such as {first}")
    save_file(state | {first: torch.zeros(3, 3)}, weights, {"format": "pt"})
    refused(folder, "SAM 2 in .* cannot be loaded|do not match its config.json")
    weights.write_bytes(weights.read_bytes()[:1000])
    refused(folder, "SAM 2 in .* cannot be loaded")
    weights.unlink()
    torch.save(state, folder / "pytorch_model.bin")
    refused(folder, r"no .safetensors weights, and others are not read")
    save_file(state, weights, {"format": "pt"})
    config.write_text(json.dumps(numbers | {"model_type": "clip"}))
    refused(
        folder, r"type clip, which is no segmenter; supported: SAM \(SamModel\), SAM-HQ \(.*EdgeTamModel\)\.$"
    )
    config.write_text("{")
    refused(folder, "cannot be read as JSON")


def test_a_processor_of_another_size_is_refused(folder):
    path = folder / "processor_config.json"
    numbers = json.loads(path.read_text())
    numbers["image_processor"]["size"] = {"height": 32, "width": 32}
    path.write_text(json.dumps(numbers))
    refused(folder, r"resizes images to {'height': 32, 'width': 32}, but the model takes 64 pixels")
    path.write_text("[")
    refused(folder, "image processor in .* cannot be loaded")


def test_edgetam_without_timm_names_the_package(folders, monkeypatch):
    monkeypatch.setattr("geoclick.segmenters.transformers_folders.find_spec", lambda name: None)
    refused(folders("edgetam"), "EdgeTAM needs timm .* pip install timm")


def test_names_that_are_none_are_usage_errors(folders, tmp_path):
    with pytest.raises(
        UsageError, match=r"Unknown segmenter 'sam2'; use one of embedded, .*, a folder, or a hub"
    ):
        segmenters.load("sam2")
    with pytest.raises(UsageError, match="takes no checkpoint"):
        segmenters.load(str(folders("sam2")), checkpoint="sam.pth")
    with pytest.raises(GeoClickError, match=r"does not exist; give an existing folder, or a hub id"):
        segmenters.load(str(tmp_path / "none"))


def test_the_side_of_masks_without_a_configuration_is_that_of_sam():
    assert mask_side("somebody/unknown@main") == mask_side("../no/folder") == 256
