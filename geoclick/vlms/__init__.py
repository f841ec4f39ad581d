"""Qwen-VL models: families, loading, adapters and their provenance, prompts as tokens.

`Vlm`, `load` and `resized_size` come from `geoclick.vlms.loading`, which is imported (and torch with it) on first use.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from geoclick.vlms.loading import Vlm, load, resized_size

__all__ = ["Vlm", "load", "resized_size"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from geoclick.vlms import loading

    return getattr(loading, name)
