"""What all shards of a job share: how they are made, and which samples each has."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from geoclick.data_synthesis.shards.student import Student
    from geoclick.data_synthesis.simulation.part_rules import PartRules
    from geoclick.data_synthesis.simulation.policies import Clicker
    from geoclick.datasets import Sample
    from geoclick.segmenters.base import Segmenter
    from geoclick.segmenters.clicking import Prompting


class LoadSegmenter(Protocol):
    """Loads the segmenter of a job; Ray sends it to its workers."""

    def __call__(self, *, device: str) -> "Segmenter":
        """The segmenter on a device."""
        ...


OWN_CLICKS = ("best", "all", "random")
"""Own clicks of a model that a sequence begins with: those up to the highest IoU, all, or a random number of them."""


@dataclass(frozen=True)
class Job:
    """How every shard is made.

    Attributes:
        segmenter: decodes the clicks.
        max_clicks: largest number of clicks of a sequence.
        iou_target: IoU at which a sequence ends.
        prompting: how the segmenter is prompted.
        seed: random seed, recorded with every row.
        batch: number of prompts that are decoded together.
        image_batch: number of images that are embedded together.
        clicker: where the clicks go.
        sequences: number of sequences of each mask.
        parts: how targets become parts.
        student: the model whose own clicks are corrected; None for sequences from the beginning.
        own_clicks: how many of its clicks a sequence begins with, one of OWN_CLICKS.
        show_masks: whether a sequence becomes a row for each click after the model's own, with the mask so far.
    """

    segmenter: "Segmenter"
    max_clicks: int
    iou_target: float
    prompting: "Prompting"
    seed: int
    batch: int
    image_batch: int
    clicker: "Clicker"
    sequences: int
    parts: "PartRules"
    student: "Student | None" = None
    own_clicks: str = "best"
    show_masks: bool = False

    @property
    def policy_name(self) -> str:
        """The click policy, the prompting and the switches that differ from their defaults, as rows record them."""
        shown = "show-masks+" if self.show_masks else ""
        own = f"on-policy-{self.own_clicks}+{shown}" if self.student else ""
        return f"{own}{self.clicker.rule}+{self.prompting.name}{self.clicker.switches}{self.parts.name}"

    @property
    def sequences_at_once(self) -> int:
        """Number of sequences that are clicked on together: each needs a prompt for every candidate of a step."""
        return max(1, self.batch // (self.clicker.candidates if self.clicker.policy == "lookahead" else 1))


def row_id(sample_id: str, number: int) -> str:
    """The id of sequence `number`, from 1, of a sample in the store: `#2` and so on from the second one."""
    return sample_id if number == 1 else f"{sample_id}#{number}"


def split_shards(samples: "Sequence[Sample]", count: int) -> "list[list[Sample]]":
    """Samples in `count` shards of about the same size, in order; those of one image are in one shard.

    So each image is embedded once in a job. A shard may be empty if images have many samples.
    """
    shard_of: dict[str, int] = {}
    shards: list[list[Sample]] = [[] for _ in range(count)]
    for index, sample in enumerate(samples):
        shard = shard_of.setdefault(sample.image, index * count // len(samples))
        shards[shard].append(sample)
    return shards
