"""Tiny random SAMs and Qwen-VL folders, for tests that need an architecture but no skill."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessor,
    Qwen2VLProcessor,
    Qwen2VLVideoProcessor,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
)

from geoclick import images, masks, store
from geoclick.clicks import Click
from geoclick.segmenters.architectures import SamConfig
from geoclick.segmenters.sam import SamSegmenter, build
from geoclick.vlms.generation.answers import MAX_NEW_TOKENS, TOKENS_OF_CLICK

SAM = SamConfig(
    encoder_width=32,
    encoder_depth=1,
    encoder_heads=2,
    global_blocks=(0,),
    image_size=64,
    prompt_width=32,
    decoder_mlp=64,
    decoder_heads=4,
    score_hidden=32,
)
"""The smallest SAM of the tests; `dataclasses.replace` makes others of it."""

SPECIAL = [
    "<|pad|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
]
CHARACTERS = [chr(code) for code in range(32, 127)] + ["\n"]
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part['text'] }}{% endif %}{% endfor %}"
    "{% endif %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@contextmanager
def short_answers() -> Iterator[None]:
    """Limit default answers of this process to three clicks: a random model hardly ever ends one by itself."""
    with pytest.MonkeyPatch.context() as patch:
        for name, tokens in TOKENS_OF_CLICK.items():
            patch.setitem(MAX_NEW_TOKENS, name, 3 * tokens)
        yield


def sam_segmenter(name: str = "tiny") -> SamSegmenter:
    """A random SAM that sees images of 64 x 64 pixels, the same every time."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    return SamSegmenter(build(SAM), name=name, sha256="5a" * 32)


def tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer of single printable characters with Qwen's special tokens."""
    vocabulary = {token: index for index, token in enumerate([*SPECIAL, *CHARACTERS])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token=" "))
    inner.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    inner.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token="<|pad|>",
        eos_token="<|im_end|>",
        extra_special_tokens=SPECIAL[1:],
    )


def _text(layers: int, hidden: int, vocabulary: int) -> dict:
    return {
        "vocab_size": vocabulary,
        "hidden_size": hidden,
        "intermediate_size": 3 * hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": hidden // 16,
        "num_key_value_heads": hidden // 16,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 2, 2]},
        "pad_token_id": 0,
        "eos_token_id": 2,
        "bos_token_id": None,
    }


def _tokens(words: PreTrainedTokenizerFast) -> dict:
    names = {
        "image_token_id": "image_pad",
        "video_token_id": "video_pad",
        "vision_start_token_id": "vision_start",
    }
    names["vision_end_token_id"] = "vision_end"
    return {key: words.convert_tokens_to_ids(f"<|{name}|>") for key, name in names.items()}


def _save(folder: Path, model: torch.nn.Module, processor: object) -> Path:
    model.generation_config.eos_token_id = 2
    model.generation_config.pad_token_id = 0
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return Path(folder)


def _images(patch: int, pixels: int, **normal: list[float]) -> Qwen2VLImageProcessor:
    return Qwen2VLImageProcessor(
        patch_size=patch, merge_size=2, min_pixels=pixels, max_pixels=pixels, **normal
    )


def qwen3_vl_folder(
    folder: Path,
    *,
    hidden: int = 32,
    layers: int = 2,
    vision: int = 32,
    depth: int = 2,
    pixels: int = 64 * 64,
    seed: int = 0,
) -> Path:
    """Save a random Qwen3-VL (patch 16, merge 2) that sees images of `pixels` area; returns the folder."""
    torch.manual_seed(seed)
    words = tokenizer()
    text = _text(layers, hidden, len(words)) | {"head_dim": 16}
    text["rope_parameters"]["mrope_interleaved"] = True
    vision_config = {
        "depth": depth,
        "hidden_size": vision,
        "intermediate_size": 2 * vision,
        "num_heads": vision // 16,
        "patch_size": 16,
        "out_hidden_size": hidden,
        "num_position_embeddings": pixels // 256,
        "deepstack_visual_indexes": [0],
    }
    config = Qwen3VLConfig(
        text_config=text, vision_config=vision_config, tie_word_embeddings=True, **_tokens(words)
    )
    half = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    processor = Qwen3VLProcessor(
        _images(16, pixels, **half),
        words,
        Qwen3VLVideoProcessor(patch_size=16, merge_size=2),
        chat_template=TEMPLATE,
    )
    return _save(folder, Qwen3VLForConditionalGeneration(config), processor)


def qwen2_5_vl_folder(folder: Path, *, hidden: int = 32, pixels: int = 56 * 56, seed: int = 0) -> Path:
    """Save a random Qwen2.5-VL (patch 14, merge 2, absolute coordinates); returns the folder."""
    torch.manual_seed(seed)
    words = tokenizer()
    vision_config = {
        "depth": 2,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_heads": 2,
        "out_hidden_size": hidden,
        "window_size": 56,
        "fullatt_block_indexes": [1],
    }
    config = Qwen2_5_VLConfig(
        text_config=_text(2, hidden, len(words)),
        vision_config=vision_config,
        tie_word_embeddings=True,
        **_tokens(words),
    )
    processor = Qwen2_5_VLProcessor(
        _images(14, pixels), words, Qwen2VLVideoProcessor(), chat_template=TEMPLATE
    )
    return _save(folder, Qwen2_5_VLForConditionalGeneration(config), processor)


def qwen2_vl_folder(folder: Path, *, hidden: int = 32, pixels: int = 56 * 56, seed: int = 0) -> Path:
    """Save a random Qwen2-VL (patch 14, merge 2); returns the folder."""
    torch.manual_seed(seed)
    words = tokenizer()
    vision_config = {"depth": 2, "embed_dim": 32, "hidden_size": hidden, "num_heads": 2, "mlp_ratio": 2}
    config = Qwen2VLConfig(
        text_config=_text(2, hidden, len(words)),
        vision_config=vision_config,
        tie_word_embeddings=True,
        **_tokens(words),
    )
    processor = Qwen2VLProcessor(_images(14, pixels), words, Qwen2VLVideoProcessor(), chat_template=TEMPLATE)
    return _save(folder, Qwen2VLForConditionalGeneration(config), processor)


FOLDERS = {"qwen2_vl": qwen2_vl_folder, "qwen2_5_vl": qwen2_5_vl_folder, "qwen3_vl": qwen3_vl_folder}

FAMILIES = [pytest.param("qwen2_vl", marks=pytest.mark.slow), "qwen2_5_vl", "qwen3_vl"]
"""The same as parameters of longer tests: Qwen2-VL has the language model of Qwen2.5-VL, and is slow."""


def click_store(folder: Path, *, rows: int = 8, side: int = 64, seed: int = 0) -> tuple[Path, Path]:
    """Write a click store over noisy images, two rows an image, every fifth without a target.

    Returns the store's folder and the dataset's root.
    """
    random = np.random.default_rng(seed)
    root, clicks = folder / "data", folder / "clicks"
    (root / "train" / "images").mkdir(parents=True)
    found = []
    for index in range(rows):
        name = f"train/images/{index // 2:04d}.png"
        if index % 2 == 0:
            images.write_png(root / name, random.integers(0, 255, (side, side, 3), dtype=np.uint8))
        empty = index % 5 == 4
        mask = np.zeros((side, side), bool)
        mask[10:30, 10:30] = not empty
        points = random.integers(0, side, (0 if empty else 1 + index % 3, 2))
        found.append(
            store.Row(
                sample_id=f"s{index}",
                dataset="folder",
                split="train",
                task="no_target" if empty else "referring",
                image=name,
                width=side,
                height=side,
                query=f"the barn {index}",
                mask=masks.encode_rle(mask),
                clicks=tuple(Click(float(x), float(y), n == 0) for n, (x, y) in enumerate(points)),
                ious=tuple(0.5 + 0.1 * n for n in range(len(points))),
                segmenter="tiny",
                segmenter_sha256="",
                policy="center",
                seed=seed,
            )
        )
    store.write_shard(clicks, 0, 1, found)
    store.write_manifest(clicks, {"rows": rows})
    return clicks, root
