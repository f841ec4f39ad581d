"""The option of the dry run, which both trainers have."""

from dataclasses import dataclass

from geoclick.config import option
from geoclick.train.loop.cards import CARDS

HERE = "here"
"""The dry run on this machine."""


@dataclass(frozen=True, kw_only=True)
class DryRunOptions:
    """Whether the run is only checked and measured."""

    dry_run: str | None = option(
        None,
        help="check everything, print what the run would need, and write nothing: here, after a few steps, or "
        "estimated for a card",
        choices=(HERE, *CARDS),
        bare=HERE,
    )

    @property
    def estimates(self) -> bool:
        """Whether the dry run is for a card that is not here."""
        return self.dry_run in CARDS
