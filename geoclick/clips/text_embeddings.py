"""Text embeddings of queries, each averaged over prompt templates and computed once."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from geoclick import files
from geoclick.clips.loading import Clip
from geoclick.devices import BatchSize
from geoclick.errors import GeoClickError

BATCH = 64
"""Texts in one batch."""


@torch.inference_mode()
def text_embeddings(
    clip: Clip, queries: Sequence[str], templates: Sequence[str], *, cache: Path | None = None
) -> Tensor:
    """The embedding of each query: normalized for each template, averaged, and normalized again.

    Args:
        clip: the model. It remembers the embeddings.
        queries: such as the names of classes.
        templates: sentences with `{}` in place of the query, see templates.py.
        cache: folder of embeddings, in files named by their content (weights, templates, query); None for no files.

    Returns:
        float32 [Q, D] on the model's device.

    Raises:
        GeoClickError: a query is too long for the model.
    """
    results = []
    for query in queries:
        key = _key(clip, query, templates)
        if key not in clip.embeddings:
            clip.embeddings[key] = _computed_once(clip, query, templates, cache and cache / f"{key}.npy")
        results.append(clip.embeddings[key])
    return torch.stack(results)


def _key(clip: Clip, query: str, templates: Sequence[str]) -> str:
    """What an embedding depends on, as a file name."""
    content = [clip.fingerprint, str(clip.model.dtype), list(templates), query]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _computed_once(clip: Clip, query: str, templates: Sequence[str], path: Path | None) -> Tensor:
    if path is not None and path.is_file():
        try:
            return torch.from_numpy(np.load(path, allow_pickle=False)).to(clip.model.device)
        except (OSError, ValueError, EOFError):
            pass  # damaged: it is computed and written again
    embedding = _embed(clip, query, templates)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with files.whole(path) as partial, partial.open("wb") as file:
            np.save(file, embedding.cpu().numpy())
    return embedding


def _embed(clip: Clip, query: str, templates: Sequence[str]) -> Tensor:
    texts = [template.replace("{}", query) for template in templates]
    outputs = BatchSize(BATCH, "texts of the CLIP model").run(
        texts, lambda batch: _encode(clip, batch, query)
    )
    embeddings = functional.normalize(torch.cat(list(outputs)), dim=-1)
    return functional.normalize(embeddings.mean(dim=0), dim=-1)


def _encode(clip: Clip, texts: Sequence[str], query: str) -> Tensor:
    """The projected embeddings float32 [N, D]."""
    length = clip.model.config.text_config.max_position_embeddings
    if clip.is_siglip:
        # SigLIP was trained on lower case, and its embedding is that of the last token, padding or not.
        texts = [text.lower() for text in texts]
        encoded = clip.tokenizer(list(texts), padding="max_length", max_length=length, return_tensors="pt")
    else:
        encoded = clip.tokenizer(list(texts), padding="longest", return_tensors="pt")
    tokens = encoded["input_ids"].to(clip.model.device)
    if tokens.shape[1] > length:
        raise GeoClickError(
            f"The query {query!r} has {tokens.shape[1]} tokens with its template, but the CLIP reads {length}; "
            "shorten it."
        )
    return clip.model.get_text_features(tokens).pooler_output.float()
