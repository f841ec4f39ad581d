"""Features of CLIP stored by content: image, weights, method and windows, without the queries.

Features instead of logits: they serve every class list, every set of templates and every class bias, and they are
smaller than the logits at the size of the resized image: 3.6 MB against 0.8 MB for each query, for ViT-B/16. They are
stored in the model's dtype, so that results with and without the cache are equal bit by bit.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from geoclick.clips.loading import Clip
from geoclick.inference.contrastive import dense, region_crops
from geoclick.inference.contrastive.cache import Cache, Stored, image_key, key
from geoclick.inference.contrastive.dense import WindowFeatures, WindowOptions
from geoclick.inference.contrastive.region_crops import Background
from geoclick.inference.contrastive.regions import Region
from geoclick.yaml_file import Yaml

VERSION = 1
"""Changes when the same image, weights and settings give other features."""


def windows(
    cache: Cache | None, clip: Clip, image: np.ndarray, method: str, options: WindowOptions
) -> WindowFeatures:
    """As `dense.window_features`, read from a cache, or computed and written to it; None computes them."""
    about = {} if cache is None else _content(clip, image) | _of_windows(method, options)
    compute = dense.window_features
    return WINDOWS.value(cache, about, lambda: compute(clip.model, image, method, options))


def whole(cache: Cache | None, clip: Clip, image: np.ndarray, method: str, options: WindowOptions) -> Tensor:
    """As `dense.whole_features`, likewise."""
    about = (
        {} if cache is None else _content(clip, image) | {"method": method, "long_side": options.long_side}
    )
    return TENSORS.value(
        cache, about | {"kind": "whole"}, lambda: dense.whole_features(clip.model, image, method, options)
    )


def crops(
    cache: Cache | None, clip: Clip, image: np.ndarray, proposals: Sequence[Region], background: Background
) -> Tensor:
    """As `region_crops.crop_embeddings`, likewise."""
    compute = region_crops.crop_embeddings
    about: dict[str, Yaml] = {}
    if cache is not None:
        rles = [one.rle for one in proposals]
        masks = key(
            {str(n): {"size": list(rle["size"]), "counts": rle["counts"]} for n, rle in enumerate(rles)}
        )
        about = _content(clip, image) | {"masks": masks, "background": background}
    return TENSORS.value(
        cache, about | {"kind": "crops"}, lambda: compute(clip, image, proposals, background=background)
    )


def _content(clip: Clip, image: np.ndarray) -> dict[str, Yaml]:
    return {
        "version": VERSION,
        "clip": clip.fingerprint,
        "dtype": str(clip.model.dtype),
        "mean": list(clip.mean),
        "std": list(clip.std),
        **image_key(image),
    }


def _of_windows(method: str, options: WindowOptions) -> dict[str, Yaml]:
    """What decides the features of windows; the class bias does not."""
    settings = dataclasses.asdict(options)
    return {"kind": "windows", "method": method} | {
        name: settings[name] for name in ("long_side", "window", "stride")
    }


def _encode_windows(value: WindowFeatures) -> bytes:
    return _encode({"features": value.features} | ({} if value.tokens is None else {"tokens": value.tokens}))


def _decode_windows(stored: bytes) -> WindowFeatures:
    tensors = _decode(stored)
    return WindowFeatures(tensors["features"], tensors.get("tokens"))


def _encode(tensors: dict[str, Tensor]) -> bytes:
    from safetensors.torch import save

    return save({name: tensor.contiguous().cpu() for name, tensor in tensors.items()})


def _decode(stored: bytes) -> dict[str, Tensor]:
    from safetensors.torch import load

    return load(stored)


WINDOWS = Stored("features", _encode_windows, _decode_windows)
TENSORS = Stored("features", lambda value: _encode({"value": value}), lambda stored: _decode(stored)["value"])
