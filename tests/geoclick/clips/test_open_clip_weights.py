import open_clip
import pytest
import torch
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg, CustomTextCLIP

from geoclick.clips import architectures, loading, open_clip_weights
from geoclick.errors import GeoClickError, UsageError
from tests import tiny_clips

A = tiny_clips.ARCHITECTURE
VISION = CLIPVisionCfg(
    layers=A.layers, width=A.width, head_width=64, patch_size=A.patch_size, image_size=A.image_size
)
TEXT = CLIPTextCfg(width=A.text_width, heads=A.text_heads, layers=A.text_layers)
TEXTS = ["a photo of a building.", "water", "low vegetation, seen from above"]


def random_open_clip(quick_gelu=False, custom=False):
    model = (CustomTextCLIP if custom else CLIP)(A.dim, VISION, TEXT, quick_gelu=quick_gelu).eval()
    tiny_clips.random_weights(model)
    return model


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setitem(architectures.ARCHITECTURES, "ViT-tiny", A)
    return "ViT-tiny"


@torch.no_grad()
def check_equal(theirs, clip, size):
    """Equal normalized embeddings of images and texts."""
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))
    expected = theirs.encode_image(images, normalize=True)
    embeddings = torch.nn.functional.normalize(clip.model.get_image_features(images).pooler_output, dim=-1)
    assert (embeddings - expected).abs().max() < 1e-5
    expected = theirs.encode_text(open_clip.get_tokenizer("ViT-B-32")(TEXTS), normalize=True)
    tokens = clip.tokenizer(TEXTS, padding="longest", return_tensors="pt")["input_ids"]
    embeddings = torch.nn.functional.normalize(clip.model.get_text_features(tokens).pooler_output, dim=-1)
    assert (embeddings - expected).abs().max() < 1e-5
    assert torch.equal(clip.model.logit_scale, theirs.logit_scale)


@pytest.mark.parametrize("quick_gelu", [False, True])
@pytest.mark.parametrize("custom", [False, True])
def test_embeddings_of_images_and_texts_equal_those_of_open_clip(quick_gelu, custom, tiny, tmp_path):
    theirs = random_open_clip(quick_gelu, custom)
    torch.save({"epoch": 1, "state_dict": theirs.state_dict()}, tmp_path / "epoch_20.pt")
    name = tiny + "-quickgelu" * quick_gelu
    clip = loading.load_clip(name, tmp_path / "epoch_20.pt", device="cpu")
    check_equal(theirs, clip, A.image_size)
    other = loading.load_clip(name, tmp_path / "epoch_20.pt", device="cpu", quick_gelu=not quick_gelu)
    assert other.fingerprint != clip.fingerprint
    with pytest.raises(AssertionError):
        check_equal(theirs, other, A.image_size)


@pytest.mark.slow
def test_the_real_vit_b_32_of_remoteclip_has_quick_gelu(tmp_path):
    theirs = open_clip.create_model("ViT-B-32-quickgelu").eval()
    path = tmp_path / "RemoteCLIP-ViT-B-32.pt"
    torch.save(theirs.state_dict(), path)
    clip = loading.load_clip("ViT-B-32", path, device="cpu")
    check_equal(theirs, clip, 224)
    assert clip.image_size == 224


@pytest.mark.parametrize(
    ("name", "path", "quick_gelu"),
    [
        ("ViT-B-32", "RemoteCLIP-ViT-B-32.pt", True),
        ("ViT-L-14", "RemoteCLIP-ViT-L-14.pt", True),
        ("ViT-B/32", "weights/RS5M_ViT-B-32.pt", True),
        ("ViT-H-14", "weights/RS5M_ViT-H-14.pt", False),
        ("ViT-L-14", "SkyCLIP_ViT_L14_top30pct/epoch_20.pt", True),
        ("ViT-B-32", "SkyCLIP_ViT_B32_top50pct/epoch_20.pt", False),
        ("ViT-B-16", "laion2b_s34b_b88k.bin", False),
        ("ViT-B-16-quickgelu", "metaclip_fullcc.pt", True),
    ],
)
def test_the_activation_of_released_files(name, path, quick_gelu, tmp_path):
    assert architectures.uses_quick_gelu(name, tmp_path / path) is quick_gelu


@pytest.mark.parametrize("name", architectures.ARCHITECTURES)
def test_the_architectures_are_those_of_open_clip(name):
    config = open_clip.get_model_config(name)
    ours, vision, text = architectures.ARCHITECTURES[name], config["vision_cfg"], config["text_cfg"]
    heads = vision["width"] // vision.get("head_width", 64)
    mlp = int(vision["width"] * vision.get("mlp_ratio", 4.0))
    assert (ours.image_size, ours.patch_size) == (vision["image_size"], vision["patch_size"])
    assert (ours.width, ours.layers, ours.heads, ours.mlp) == (vision["width"], vision["layers"], heads, mlp)
    assert (ours.text_width, ours.text_layers, ours.text_heads) == (
        text["width"],
        text["layers"],
        text["heads"],
    )
    assert ours.dim == config["embed_dim"]


def test_a_checkpoint_of_another_architecture_names_the_right_one(tiny, tmp_path):
    torch.save(random_open_clip().state_dict(), tmp_path / "model.pt")
    with pytest.raises(
        GeoClickError, match=r"does not fit ViT-B-16 \(.* is .*, not .*\); use --clip ViT-tiny"
    ) as e:
        loading.load_clip("ViT-B-16", tmp_path / "model.pt", device="cpu")
    assert "\n" not in str(e.value)


def test_other_models_are_errors(tiny, tmp_path):
    path = tmp_path / "model.pt"
    torch.save({"visual.layer1.0.conv1.weight": torch.ones(1)}, path)
    with pytest.raises(GeoClickError, match="ResNet"):
        loading.load_clip("ViT-B-32", path, device="cpu")
    torch.save({"image_encoder.pos_embed": torch.ones(1)}, path)
    with pytest.raises(GeoClickError, match=r"is missing.*give an open_clip checkpoint"):
        loading.load_clip(tiny, path, device="cpu")
    torch.save(random_open_clip().state_dict() | {"visual.extra": torch.ones(1)}, path)
    with pytest.raises(GeoClickError, match=r"visual.extra is not part of it"):
        loading.load_clip(tiny, path, device="cpu")


def test_name_and_checkpoint_go_together(tmp_path):
    with pytest.raises(UsageError, match="needs --clip-checkpoint"):
        loading.load_clip("ViT-B-32", device="cpu")
    with pytest.raises(UsageError, match="needs an architecture of open_clip, not 'ViT-X'"):
        loading.load_clip("ViT-X", tmp_path / "model.pt", device="cpu")
    with pytest.raises(GeoClickError, match="does not exist"):
        loading.load_clip("ViT-B-32", tmp_path / "model.pt", device="cpu")


def test_old_entries_that_are_no_weights_are_ignored(tiny, tmp_path):
    extra = {
        "input_resolution": torch.tensor(224),
        "context_length": torch.tensor(77),
        "attn_mask": torch.ones(2),
    }
    torch.save(random_open_clip().state_dict() | extra, tmp_path / "model.pt")
    model = open_clip_weights.load_checkpoint(tiny, tmp_path / "model.pt")
    assert not any(parameter.requires_grad for parameter in model.parameters())
