"""The options of `geoclick synth`, and which combinations of them are errors."""

from dataclasses import dataclass, fields
from typing import cast, get_args

from geoclick.components import AREA, DISTANCE, MAX_PARTS
from geoclick.config import option
from geoclick.data_synthesis.shards.job import OWN_CLICKS
from geoclick.data_synthesis.simulation.part_rules import DEFAULT_ORDER, Mode, Order, PartRules
from geoclick.data_synthesis.simulation.policies import POLICIES, Clicker, Tie
from geoclick.datasets import selection
from geoclick.datasets.reading import RASTER_TILE
from geoclick.errors import UsageError
from geoclick.options import DatasetOptions, EngineOptions, SegmenterOptions, VlmOptions

ON_POLICY = "on-policy"
"""The policy of stores whose sequences begin with the clicks of a model."""
OF_CLICKS = ("expert", "own_clicks", "show_masks")
OF_MODEL = ("adapter", "vlm", "min_pixels", "max_pixels", *OF_CLICKS)
"""Options that go with ON_POLICY."""
SHARD_SAMPLES = 2000
MAX_CLICKS = 16


@dataclass(frozen=True, kw_only=True)
class SynthOptions(EngineOptions, SegmenterOptions, VlmOptions, DatasetOptions):
    """Options of `geoclick synth`."""

    output: str = option(help="folder of the click store; the same command continues an interrupted job")
    split: str = option("train", help="name of the split")
    device: str = option("auto", help="auto, cpu, cuda or cuda:N")
    precision: str = option(
        "float32",
        help="data type of the segmenter; bfloat16 is fast on GPUs",
        choices=("float32", "bfloat16"),
    )
    compile: bool = option(
        False, help="compile the segmenter with torch.compile: takes minutes at first, then is faster"
    )
    policy: str = option(
        "center",
        help="where the clicks go: the center of the largest error region, any wrong pixel, human-like around the "
        "center, or where the segmenter's mask improves most; on-policy: a tuned model clicks first, and --expert "
        "corrects the mask that it got",
        choices=(*POLICIES, ON_POLICY),
    )
    adapter: str | None = option(None, help="adapter of the model that clicks first, for --policy on-policy")
    expert: str = option(
        "center", help="where the clicks go that correct the model's own", choices=tuple(POLICIES)
    )
    own_clicks: str = option(
        OWN_CLICKS[0],
        help="own clicks of the model that an answer begins with: those up to the highest IoU, all, or a random number",
        choices=OWN_CLICKS,
    )
    candidates: int = option(6, help="largest number of clicks that lookahead tries in one step", minimum=1)
    max_clicks: int = option(
        6,
        help=f"largest number of clicks of a sequence, 1 to {MAX_CLICKS}",
        minimum=1,
        deprecated=("clicks",),
    )
    iou_target: float = option(0.9, help="IoU at which a sequence ends")
    show_masks: bool = option(
        False,
        help="make a row for each click after the model's own, whose image shows the mask so far, and one that ends "
        "there: for --rounds of predict and evaluate",
    )
    keep_improving: bool = option(
        False, help="drop the first click that does not raise the IoU, and end the sequence there"
    )
    tie: str = option(
        "negative",
        help="sign of a click if the missed and the surplus region are equally deep",
        choices=get_args(Tie),
    )
    positive_only: bool = option(False, help="never click on surplus pixels")
    jitter: int = option(
        0,
        help="largest distance in pixels by which a click is moved at random, within its error region",
        minimum=0,
    )
    sequences: int = option(1, help="number of sequences of each mask; they differ at random", minimum=1)
    parts: str = option(
        "one",
        choices=get_args(Mode),
        help="prompts of a target of several components: one, one for each component (components), or the better of "
        f"both (auto); at most {MAX_PARTS}, of at most --max-clicks clicks each",
    )
    part_distance: float = option(
        DISTANCE,
        help="components are one part if their surroundings of half this many pixels touch",
        minimum=0,
    )
    part_area: int = option(AREA, help="parts of fewer pixels are left out, unless all are", minimum=1)
    part_order: str = option(
        DEFAULT_ORDER,
        choices=get_args(Order),
        help="order of the parts in the answer: by the x of their first click, or the largest first",
    )
    multimask: str = option(
        "first",
        help="clicks for which the best of three masks is used",
        choices=("first", "never", "always"),
    )
    feedback: bool = option(True, help="feed the logits of the last mask back with the next click")
    batch: int = option(32, help="prompts decoded together; changes rounding only", minimum=1)
    image_batch: int = option(4, help="images embedded together; changes rounding only", minimum=1)
    limit: int | None = option(
        None, help="size of a random pick of the split's samples, which depends on --seed", minimum=1
    )
    first: int | None = option(None, help="only the first samples of the split", minimum=1)
    shards: int | None = option(
        None, help=f"number of files of the store (default: one per {SHARD_SAMPLES} samples)", minimum=1
    )
    seed: int = option(0, help="random seed (clicks, choice of the sheet), recorded in every row", minimum=0)
    sheet: int = option(8, help="sequences on sheet.png; 0 for no sheet", minimum=0)
    allow_contradictions: bool = option(
        False, help="continue although many samples have the same image and query, and different targets"
    )

    @property
    def clicker(self) -> Clicker:
        """Where the clicks go; those after the model's own, if one clicks first."""
        values = {field.name: getattr(self, field.name) for field in fields(Clicker)}
        return Clicker(**values | {"policy": self.expert if self.is_on_policy else self.policy})

    @property
    def is_on_policy(self) -> bool:
        """Whether a model clicks first."""
        return self.policy == ON_POLICY

    @property
    def part_rules(self) -> PartRules:
        """How targets become parts."""
        mode, order = cast(Mode, self.parts), cast(Order, self.part_order)
        return PartRules(mode, self.part_distance, self.part_area, order)

    def check(self) -> None:
        """Raise UsageError for a number out of its range, or for options that exclude each other."""
        if self.max_clicks > MAX_CLICKS:
            raise UsageError(f"--max-clicks must be at most {MAX_CLICKS}, not {self.max_clicks}.")
        if self.sequences > 1 and not (
            self.clicker.is_random or (self.is_on_policy and self.own_clicks == "random")
        ):
            name, more = ("expert", " or --own-clicks random") if self.is_on_policy else ("policy", "")
            raise UsageError(
                f"--sequences {self.sequences} with --{name} {self.clicker.policy} would be equal; add --jitter{more}, "
                f"or use --{name} random, robust or lookahead."
            )
        self._check_on_policy()
        if not 0 < self.iou_target <= 1:
            raise UsageError(f"--iou-target must be above 0 and at most 1, not {self.iou_target}.")
        rules = (self.part_distance, self.part_area, self.part_order)
        if self.parts == "one" and rules != (DISTANCE, AREA, DEFAULT_ORDER):
            raise UsageError(
                "--part-distance, --part-area and --part-order are for --parts components or auto; add it."
            )
        selection.check(self.limit, self.first)
        self.reading()
        self.check_engine(self.device)

    def _check_on_policy(self) -> None:
        """Raise UsageError for options of a model without --policy on-policy, or for a model that cannot be asked."""
        if not self.is_on_policy:
            for field in fields(self):
                if field.name in OF_MODEL and getattr(self, field.name) != field.default:
                    flag = field.name.replace("_", "-")
                    raise UsageError(f"--{flag} is for --policy on-policy; add it.")
        elif self.adapter is None and self.vlm in (None, "embedded"):
            raise UsageError("--policy on-policy needs --adapter, the output of geoclick train sft.")
        elif self.engine == "ray":
            raise UsageError("--policy on-policy runs in the processes of a launcher; remove --engine ray.")

    def recorded(self) -> dict[str, object]:
        """The options that decide the store; an interrupted job can be continued with other values of the rest."""
        recorded = {
            RECORDED_NAMES.get(name, name): value
            for name, value in vars(self).items()
            # The model describes itself.
            if name not in CHANGEABLE and (name not in OF_MODEL or (name in OF_CLICKS and self.is_on_policy))
        }
        if self.tile is None:
            # As earlier versions recorded it for every dataset.
            return recorded | {"tile": RASTER_TILE}
        return recorded if self.dataset == "raster" else recorded | {"windows": True}


RECORDED_NAMES = {"max_clicks": "clicks"}
"""Names in the records of stores, where they differ from those of the options."""

CHANGEABLE = (
    *("root", "output", "checkpoint", "device", "compile", "batch", "image_batch", "sheet"),
    *("engine", "workers", "ray_address", "allow_contradictions"),
)
"""Options that do not change any click beyond rounding."""
