"""What answers images for `geoclick predict`: the pipeline of `--text`, or the maps of `--classes`."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from geoclick.inference.predictions.inputs import Input
from geoclick.inference.predictions.output_files import Names
from geoclick.yaml_file import Yaml

Named = tuple[Input, Names]
"""An image with its texts and the names of its outputs."""


class Done(NamedTuple):
    """An image whose outputs are written, or that failed.

    Attributes:
        named: the image.
        errors: the reason for each text that failed.
        lines: what was found, for the user.
    """

    named: Named
    errors: dict[str, str]
    lines: list[str]


class Models(Protocol):
    """Loaded models, which answer images and write their outputs."""

    @property
    def about(self) -> Mapping[str, Yaml]:
        """All that decides an answer besides the image and the text."""
        ...

    def answer(self, named: Sequence[Named], folder: Path) -> Iterator[Done]:
        """Answer images, in batches that hold several of them, and write their outputs to a folder, the records last.

        An image that fails does not stop the others; errors of the disk do.
        """
        ...
