"""segment-anything's model classes, imported without the rest of that package.

Its __init__.py also imports the predictor and the mask generator, and with them torchvision and torch._dynamo, which
take twice as long as PyTorch itself. Here the package is a module that runs its __init__.py when one of these
names is asked for, so that `from segment_anything import SamPredictor` still works, before and after.
"""

import importlib.util
import sys
from types import ModuleType

NAME = "segment_anything"


class _LazyPackage(ModuleType):
    """A package whose submodules can be imported before its __init__.py has run."""

    def __getattr__(self, name: str) -> object:
        self.__class__ = ModuleType  # type: ignore[assignment]
        if self.__spec__ and self.__spec__.loader:
            self.__spec__.loader.exec_module(self)
        return getattr(self, name)


def _register() -> None:
    """Make the package importable by parts, unless it is imported already."""
    spec = None if NAME in sys.modules else importlib.util.find_spec(NAME)
    if spec is not None:
        package = importlib.util.module_from_spec(spec)
        package.__class__ = _LazyPackage
        sys.modules[NAME] = package


_register()

from segment_anything.modeling import (  # noqa: E402
    ImageEncoderViT,
    MaskDecoder,
    PromptEncoder,
    Sam,
    TwoWayTransformer,
    image_encoder,
    transformer,
)

__all__ = [
    "ImageEncoderViT",
    "MaskDecoder",
    "PromptEncoder",
    "Sam",
    "TwoWayTransformer",
    "image_encoder",
    "transformer",
]
