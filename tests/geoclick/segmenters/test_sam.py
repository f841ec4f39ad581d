"""The segment-anything segmenter gives the results of SamPredictor, in batches, and refuses wrong files."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from segment_anything import SamPredictor

from geoclick import segmenters
from geoclick.clicks import Click
from geoclick.errors import GeoClickError, UsageError
from geoclick.files import sha256
from geoclick.segmenters import checkpoints, clicking
from geoclick.segmenters.base import Prompt
from geoclick.segmenters.embedded import load_embedded, write_folder
from geoclick.segmenters.sam import SamSegmenter, build
from tests import tiny

TINY = replace(tiny.SAM, encoder_depth=2, global_blocks=(1,), image_size=128, window_size=4)
SIZES = [(128, 128), (60, 200), (333, 97), (128, 64)]
CLICKS = [
    (Click(3, 5),),
    (Click(10, 59), Click(199, 0, False), Click(100, 30)),
    (Click(96, 332, False), Click(0, 0)),
    (Click(63, 127),),
]


@pytest.fixture(scope="module")
def sam():
    torch.set_num_threads(1)
    torch.manual_seed(0)
    built = build(TINY)
    for name, weight in built.named_parameters():
        # segment-anything initializes them to zero, and they would have no effect.
        if "rel_pos" in name or "pos_embed" in name:
            torch.nn.init.normal_(weight, std=0.3)
    return built


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in SIZES]


@pytest.mark.parametrize("multimask", [True, False])
@pytest.mark.parametrize("feedback", [True, False])
@pytest.mark.parametrize("prompt_batch", [64, 2])
def test_a_mixed_batch_equals_sam_predictor_one_by_one(sam, images, multimask, feedback, prompt_batch):
    # The segmenter changes the layers of its model: the reference must have those of segment-anything.
    segmenter = SamSegmenter(copy.deepcopy(sam), name="tiny", image_batch=3, prompt_batch=prompt_batch)
    embeddings = segmenter.embed(images)
    generator = torch.Generator().manual_seed(1)
    # Each image twice, and not in order: prompts of one image need not be neighbors.
    order = [0, 1, 2, 3, 2, 0]
    low_res = [torch.randn(1, 32, 32, generator=generator) * 5 if feedback else None for _ in order]
    low_res[1] = None
    prompts = [Prompt(CLICKS[i], logits) for i, logits in zip(order, low_res, strict=True)]
    decoded = segmenter.decode([embeddings[i] for i in order], prompts, multimask=multimask)

    predictor = SamPredictor(sam)
    for i, prompt, answer in zip(order, prompts, decoded, strict=True):
        predictor.set_image(images[i])
        masks, scores, logits = predictor.predict(
            np.array([[c.x, c.y] for c in prompt.clicks]),
            np.array([int(c.positive) for c in prompt.clicks]),
            mask_input=None if prompt.low_res is None else prompt.low_res.numpy(),
            multimask_output=multimask,
            return_logits=True,
        )
        np.testing.assert_allclose(answer.low_res, logits, atol=1e-5)
        np.testing.assert_allclose(answer.scores, scores, atol=1e-5)
        full = segmenter.masks(answer.low_res, embeddings[i]).numpy()
        assert full.shape == masks.shape == ((3 if multimask else 1), *SIZES[i])
        sure = np.abs(masks) > 1e-4
        np.testing.assert_array_equal(full[sure], masks[sure] > 0)
        assert sure.mean() > 0.99


@pytest.mark.parametrize("clicks", [(), CLICKS[0]])
def test_a_box_is_decoded_as_sam_predictor_does(sam, images, clicks):
    segmenter = SamSegmenter(copy.deepcopy(sam), name="x")
    boxes = [(3, 2, 40, 30), (0, 0, 7, 9)]
    embeddings = segmenter.embed(images[:2])
    prompts = [Prompt(tuple(clicks), box=box) for box in boxes]
    between = Prompt(CLICKS[0])
    images_of = [embeddings[0], embeddings[0], embeddings[1]]
    decoded = segmenter.decode(images_of, [prompts[0], between, prompts[1]], multimask=False)[::2]
    masks = None if clicks else clicking.boxed(segmenter, embeddings, boxes)
    predictor = SamPredictor(sam)
    for i, (box, answer) in enumerate(zip(boxes, decoded, strict=True)):
        predictor.set_image(images[i])
        coords = np.array([[c.x, c.y] for c in clicks]) if clicks else None
        labels = np.array([int(c.positive) for c in clicks]) if clicks else None
        expected, _, logits = predictor.predict(
            coords, labels, box=np.array(box), multimask_output=False, return_logits=True
        )
        np.testing.assert_allclose(answer.low_res, logits, atol=1e-5)
        if masks:
            sure = np.abs(expected[0]) > 1e-4
            np.testing.assert_array_equal(masks[i][sure], expected[0][sure] > 0)


def test_one_more_padding_point_would_change_the_mask(sam, images):
    """Why prompts are grouped by length instead of padded to the longest."""
    prompt_encoder = sam.prompt_encoder
    point, label = torch.tensor([[[3.0, 5.0]]]), torch.ones(1, 1)
    padded = torch.cat([point, torch.zeros(1, 1, 2)], 1), torch.cat([label, -torch.ones(1, 1)], 1)
    features = sam.image_encoder(torch.randn(1, 3, 128, 128))
    masks = []
    for points in ((point, label), padded):
        sparse, dense = prompt_encoder(points=points, boxes=None, masks=None)
        masks.append(sam.mask_decoder(features, prompt_encoder.get_dense_pe(), sparse, dense, False)[0])
    assert (masks[0] - masks[1]).abs().max() > 1e-4


def test_autocast_stays_near_float32(sam, images):
    exact, quick = (SamSegmenter(copy.deepcopy(sam), name="a", dtype=d) for d in (None, torch.bfloat16))
    answers = [
        s.decode(s.embed(images[:1]), [Prompt(CLICKS[0])], multimask=True)[0].low_res for s in (exact, quick)
    ]
    assert answers[1].dtype == torch.float32
    spread = (answers[0].max() - answers[0].min()).item()
    assert (answers[0] - answers[1]).abs().max() < 0.1 * spread


@pytest.mark.slow
def test_compiled_equals_eager(sam, images):
    written, compiled = (SamSegmenter(copy.deepcopy(sam), name="x") for _ in range(2))
    answers = []
    for segmenter in (written, compiled.compile()):
        embeddings = segmenter.embed(images)
        decoded = segmenter.decode(embeddings, [Prompt(clicks) for clicks in CLICKS], multimask=True)
        answers.append(torch.stack([d.low_res for d in decoded]))
    torch.testing.assert_close(*answers, atol=1e-4, rtol=1e-4)


def test_folder_round_trip_in_half_precision(sam, tmp_path, images):
    write_folder(sam, TINY, tmp_path / "sam")
    loaded = load_embedded(folder=tmp_path / "sam")
    assert loaded.name == "embedded"
    assert loaded.sha256 == sha256(tmp_path / "sam" / "model.safetensors")
    for mine, theirs in zip(loaded.sam.state_dict().values(), sam.state_dict().values(), strict=True):
        assert mine.dtype == torch.float32
        torch.testing.assert_close(mine, theirs.half().float())
    content = (tmp_path / "sam" / "model.safetensors").read_bytes()
    (tmp_path / "sam" / "model.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(GeoClickError, match="not hold a complete SAM"):
        load_embedded(folder=tmp_path / "sam")


@pytest.fixture
def official(monkeypatch):
    wide = replace(TINY, encoder_width=64)
    monkeypatch.setattr(checkpoints, "OFFICIAL", {"sam_vit_b": TINY, "sam_vit_l": wide})


def test_official_checkpoint_loads_as_segment_anything_saves_it(official, sam, images, tmp_path):
    path = tmp_path / "sam.pth"
    torch.save(sam.state_dict(), path)
    loaded = segmenters.load("sam_vit_b", checkpoint=path, device="cpu")
    assert (loaded.name, loaded.sha256) == ("sam_vit_b", sha256(path))
    torch.testing.assert_close(
        loaded.embed(images[:1])[0].features,
        SamSegmenter(copy.deepcopy(sam), name="x").embed(images[:1])[0].features,
    )


def test_wrong_checkpoints_are_refused_in_one_sentence(official, sam, tmp_path):
    path = tmp_path / "sam.pth"
    torch.save(sam.state_dict(), path)
    with pytest.raises(GeoClickError, match=r"does not fit sam_vit_l .*; use --segmenter sam_vit_b\.$"):
        segmenters.load("sam_vit_l", checkpoint=path)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(GeoClickError, match="damaged"):
        segmenters.load("sam_vit_b", checkpoint=path)
    path.write_bytes(b"")
    with pytest.raises(GeoClickError, match="damaged"):
        segmenters.load("sam_vit_b", checkpoint=path)
    with pytest.raises(GeoClickError, match="does not exist"):
        segmenters.load("sam_vit_b", checkpoint=tmp_path / "none.pth")
    path.write_text("root: x\nsegmenter: embedded\n")
    with pytest.raises(GeoClickError, match="no PyTorch weight file"):
        segmenters.load("sam_vit_b", checkpoint=path)
    torch.save({"layer.weight": torch.zeros(2)}, path)
    with pytest.raises(GeoClickError, match="give a released segment-anything checkpoint"):
        segmenters.load("sam_vit_b", checkpoint=path)
    torch.save({"model": sam.state_dict(), "epoch": 3}, path)
    with pytest.raises(GeoClickError, match="no named weights"):
        segmenters.load("sam_vit_b", checkpoint=path)


def test_a_pickle_that_runs_code_is_not_run(official, tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    torch.save({"weight": Trap()}, tmp_path / "trap.pth")
    with pytest.raises(GeoClickError, match="holds code or objects besides weights"):
        segmenters.load("sam_vit_b", checkpoint=tmp_path / "trap.pth")
    assert not (tmp_path / "sprung").exists()


def test_names_and_missing_checkpoints_are_usage_errors():
    with pytest.raises(UsageError, match=r"embedded, sam_vit_b, sam_vit_l, sam_vit_h"):
        segmenters.load("vit_b")
    with pytest.raises(UsageError, match="needs --segmenter-checkpoint"):
        segmenters.load("sam_vit_b")
    with pytest.raises(UsageError, match="takes no checkpoint"):
        segmenters.load("embedded", checkpoint="sam.pth")


def test_official_architectures_equal_those_of_segment_anything():
    """Millions of parameters: a quarter of the released files' 375, 1249 and 2564 megabytes of float32."""
    counts = []
    for config in checkpoints.OFFICIAL.values():
        with torch.device("meta"):
            counts.append(sum(p.numel() for p in build(config).parameters()))
    assert [round(count / 1e6) for count in counts] == [94, 312, 641]


@pytest.mark.parametrize(
    ("device", "message"), [("gpu", "Unknown device 'gpu'"), ("cuda:99", "cuda:99 does not exist")]
)
def test_a_missing_device_is_a_usage_error(device, message):
    with pytest.raises(UsageError, match=message):
        segmenters.load("embedded", device=device)
