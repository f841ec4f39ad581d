"""Tiny random CLIPs and SigLIPs, the same every time, and folders and checkpoint files of them."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    PreTrainedTokenizerFast,
    SiglipConfig,
    SiglipImageProcessor,
    SiglipModel,
)

from geoclick.clips.architectures import Architecture

ARCHITECTURE = Architecture(
    image_size=32,
    patch_size=8,
    width=128,
    layers=8,
    heads=2,
    mlp=512,
    text_width=64,
    text_layers=2,
    text_heads=1,
    dim=24,
)
"""Small enough for the tests; more blocks than GEM replaces. open_clip's heads have 64 channels."""


def random_weights(model: torch.nn.Module, seed: int = 0) -> None:
    """Weights of a size at which attention differs between tokens, and biases that are not zero."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        spread = 0.2 if parameter.ndim < 2 else 1.5 * parameter[0].numel() ** -0.5
        parameter.data = torch.randn(parameter.shape, generator=generator) * spread
    for module in model.modules():
        if isinstance(module, torch.nn.LayerNorm):
            module.weight.data += 1


def clip(*, image_size: int = 32, patch_size: int = 8, seed: int = 0) -> CLIPModel:
    """A CLIP of 8 blocks."""
    text = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 8, "num_attention_heads": 4}
    vision |= {"image_size": image_size, "patch_size": patch_size}
    text |= {"vocab_size": 200, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=24))
    random_weights(model, seed)
    return model.eval().requires_grad_(False)


def siglip(*, image_size: int = 32, patch_size: int = 8, seed: int = 0) -> SiglipModel:
    """A SigLIP of 8 blocks."""
    shared = {"hidden_size": 32, "intermediate_size": 64}
    text = shared | {"num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 200}
    text |= {"max_position_embeddings": 16, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    vision = shared | {"num_hidden_layers": 8, "num_attention_heads": 4}
    vision |= {"image_size": image_size, "patch_size": patch_size}
    model = SiglipModel(SiglipConfig(text_config=text, vision_config=vision))
    random_weights(model, seed)
    return model.eval().requires_grad_(False)


def tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer of single characters."""
    vocabulary = {"<s>": 0, "</s>": 1} | {chr(code): code - 30 for code in range(32, 127)}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token=" "))
    inner.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    ends = [("<s>", 0), ("</s>", 1)]
    inner.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=ends)
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<s>", eos_token="</s>", pad_token="</s>"
    )


def folder(path: Path, model: CLIPModel | SiglipModel) -> Path:
    """A model in transformers' layout, with a tokenizer and an image processor."""
    model.save_pretrained(path)
    tokenizer().save_pretrained(path)
    processor = CLIPImageProcessor() if isinstance(model, CLIPModel) else SiglipImageProcessor()
    processor.save_pretrained(path)
    return path
