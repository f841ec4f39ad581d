"""Options that several commands share, one dataclass per subject; the options of a command inherit from them."""

from dataclasses import dataclass, fields
from importlib.util import find_spec
from typing import TYPE_CHECKING

from geoclick.backend_options import BACKENDS_OF, AnswerOptions, BackendOptions
from geoclick.clips.templates import TEMPLATES
from geoclick.config import option
from geoclick.datasets import BUILT_IN, OWN_DATA, ReadOptions
from geoclick.datasets.benchmarks import BENCHMARKS
from geoclick.datasets.reading import QUESTIONS
from geoclick.errors import UsageError
from geoclick.geo.reading import PixelOptions
from geoclick.jobs import processes

if TYPE_CHECKING:
    from geoclick.segmenters import Segmenter


STRETCHES = {"percentile": (2.0, 98.0), "minmax": (0.0, 100.0), "none": ()}
"""Names of percentiles; the last one shows the values as they are, clipped to 0 to 255."""


DENSE_METHODS = ("clip", "maskclip", "sclip", "gem", "clearclip", "segearth-ov")
"""How CLIP labels pixels."""

METHODS = ("contrastive", *DENSE_METHODS)
"""Classes of SAM's proposals, or CLIP's labels alone."""

MAP_METHODS = (*METHODS, "sam3")
"""What makes a map of classes: also SAM 3 without CLIP."""

SELECTIONS = ("vote", "soft-vote", "pool", "crop", "crop-blurred", "crop-mean")
"""How a proposal takes its class."""


@dataclass(frozen=True, kw_only=True)
class PixelRule:
    """How the values of image files become 8-bit RGB."""

    bands: tuple[int, ...] = option(
        (), help="bands of an image file used as red, green and blue, counted from 1", minimum=1
    )
    stretch: tuple[float, ...] = option(
        STRETCHES["percentile"],
        help="percentiles that are mapped to black and white in images of more than 8 bits; percentile (2 98), "
        "minmax (0 100), or none to clip the values to 0 to 255",
        minimum=0,
        named=STRETCHES,
    )

    def pixels(self) -> PixelOptions:
        """The options of the image reader; raises UsageError for values that it does not accept."""
        if len(self.bands) not in (0, 1, 3):
            raise UsageError(f"--bands takes one band or three, not {len(self.bands)}.")
        if self.stretch and (len(self.stretch) != 2 or not self.stretch[0] < self.stretch[1] <= 100):
            raise UsageError(
                "--stretch takes two percentiles, the lower first, such as 2 98; or percentile, minmax or none."
            )
        return PixelOptions(self.bands, self.stretch)


@dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """What runs a job: this process, or the workers of a Ray cluster."""

    engine: str = option(
        "local",
        help="local: this process, and in synth and evaluate others that a launcher has started; ray: a Ray cluster",
        choices=("local", "ray"),
    )
    workers: int | None = option(
        None,
        help="workers of --engine ray, each with its own models (default: one per GPU, or one per CPU without GPUs)",
        minimum=1,
    )
    ray_address: str | None = option(
        None,
        help="HOST:PORT of the Ray cluster's head (default: the cluster of this machine, or a new one for the job)",
    )

    def check_engine(self, device: str, backend: str = "local") -> None:
        """Raise UsageError for options that do not fit the engine, or if Ray is missing.

        Args:
            device: the value of `--device`.
            backend: that of `--backend`.
        """
        if self.engine == "local":
            if self.workers or self.ray_address:
                raise UsageError("--workers and --ray-address are options of --engine ray; add it.")
            return
        if backend == "openai":
            raise UsageError(
                "--engine ray has no use for --backend openai, which sends many requests at once; remove --engine ray "
                "and raise --concurrency."
            )
        if backend == "vllm":
            raise UsageError("--backend vllm runs in one process; remove --engine ray.")
        if find_spec("ray") is None:
            raise UsageError('--engine ray needs Ray; install it with: pip install "geoclick[ray]".')
        if processes.count() > 1:
            raise UsageError(
                "--engine ray starts its own workers; run the command without accelerate or torchrun."
            )
        if device not in ("auto", "cpu", "cuda"):
            raise UsageError(
                f"With --engine ray, --device must be auto, cpu or cuda, not {device}: Ray assigns the GPUs."
            )


@dataclass(frozen=True, kw_only=True)
class DatasetOptions(PixelRule):
    """The dataset and how it is read."""

    dataset: str = option(
        "folder",
        help=f"dataset: {', '.join(OWN_DATA)} (layouts of your own data); {', '.join(BUILT_IN)} (built in); "
        f"or a public benchmark: {', '.join(BENCHMARKS)}",
    )
    root: str | None = option(
        None, help="folder of the dataset; scenes-v1 and scenes-v2 are generated in runs/ if it is omitted"
    )
    query: str = option("the object", help="query for masks without classes")
    min_area: int = option(
        256,
        help="smallest component of a color mask (--components), or piece cut by a tile border, in pixels",
        minimum=0,
    )
    max_area_fraction: float = option(
        0.5, help="largest component of a color mask (--components), as a fraction of the image"
    )
    tile: int | None = option(
        None,
        help="side in pixels of the windows that large images are cut to, each with samples of its own (default: 1024 "
        "for the GeoTIFFs of --dataset raster; other images are not cut)",
        minimum=1,
    )
    overlap: int = option(128, help="smallest overlap of neighboring tiles in pixels", minimum=0)
    question: str | None = option(
        None,
        choices=QUESTIONS,
        help="which of several queries of one target are used (default: all, or that of --mode)",
    )
    question_seed: int = option(0, help="seed of --question random", minimum=0)
    components: bool = option(
        False, help="make each connected component of a color mask a sample (default: each class of an image)"
    )
    by_class: bool = option(
        False,
        help="make each class of an image a sample, the union of its COCO annotations or of the polygons on a GeoTIFF "
        "(default: each annotation or polygon is a sample, and those of a class ask the same question)",
    )
    crowds: bool = option(
        False, help="use COCO annotations with iscrowd, such as CVAT's brush masks, as targets"
    )
    empty_images: bool = option(
        False, help="make COCO images without annotations samples without target, one per category"
    )

    def reading(self) -> "ReadOptions":
        """The options of the reader; raises UsageError for values that no reader accepts."""
        if not 0 < self.max_area_fraction <= 1:
            raise UsageError(
                f"--max-area-fraction must be above 0 and at most 1, not {self.max_area_fraction}."
            )
        self.pixels()
        # Only evaluations have a mode.
        values = {field.name: getattr(self, field.name, None) for field in fields(ReadOptions)}
        return ReadOptions(**{name: value for name, value in values.items() if value is not None})


@dataclass(frozen=True, kw_only=True)
class SegmenterOptions:
    """The frozen segmenter."""

    segmenter: str = option(
        "embedded",
        help="embedded; sam_vit_b, sam_vit_l, sam_vit_h with --segmenter-checkpoint; or a folder or hub id of a SAM, "
        "SAM-HQ, SAM 2, SAM 3 or EdgeTAM in transformers' layout, such as facebook/sam2.1-hiera-small",
    )
    checkpoint: str | None = option(
        None,
        help="weights of sam_vit_b, sam_vit_l or sam_vit_h (.pth file); --checkpoint is the same",
        name="segmenter_checkpoint",
    )


@dataclass(frozen=True, kw_only=True)
class DecodingOptions(SegmenterOptions):
    """The frozen segmenter and how it decodes clicks."""

    decode: str = option(
        "replay",
        choices=("replay", "joint", "first"),
        help="replay: click by click with mask feedback; joint: all clicks of a part in one prompt; first: only the "
        "first click of an answer, to see what the others add",
    )


@dataclass(frozen=True, kw_only=True)
class VlmOptions:
    """The vision-language model and the size of its input images."""

    vlm: str | None = option(
        None,
        help="embedded, a hub id, or a local folder (default: the model that the adapter was trained on, else "
        "embedded)",
    )
    min_pixels: int | None = option(
        None, help="smallest area of a resized image in pixels (default: the checkpoint's)", minimum=1
    )
    max_pixels: int | None = option(
        None, help="largest area of a resized image in pixels (default: the checkpoint's)", minimum=1
    )


@dataclass(frozen=True, kw_only=True)
class ClipOptions:
    """CLIP, how it labels pixels, and how the proposals of a segmenter take their classes."""

    clip: str = option(
        "embedded",
        help="CLIP or SigLIP: embedded, a local folder, a hub id, or with --clip-checkpoint an architecture of "
        "open_clip, such as ViT-B-32",
    )
    clip_checkpoint: str | None = option(
        None, help="weight file of open_clip, such as RemoteCLIP-ViT-B-32.pt"
    )
    templates: str | None = option(
        None,
        choices=tuple(TEMPLATES),
        help="sentences around the class names (default: aerial for the embedded CLIP, else imagenet)",
    )
    features: str | None = option(
        None,
        choices=DENSE_METHODS,
        help="features of the method contrastive (default: clearclip for the embedded CLIP, else segearth-ov)",
    )
    class_bias: float | None = option(
        None,
        help="factor of the class token's cosines, which are added to those of the patches (default: -0.3 for "
        "segearth-ov with a CLIP of your own, else 0)",
    )
    upsample: str | None = option(
        None, help="weights of SegEarth-OV's feature upsampler (xclip_jbu_one_million_aid.ckpt)"
    )
    threshold: float | None = option(
        None,
        help="pixels become background if no class has at least this probability, from 0 to 1 (default: 0, for "
        "sam3 0.5 if there is a background; in evaluate and ablate that of the published evaluation of a benchmark)",
        minimum=0,
        maximum=1,
    )
    select: str = option(
        "vote",
        choices=SELECTIONS,
        help="how a proposal takes its class: most pixel labels (vote), highest mean probability (soft-vote), nearest "
        "to its mean feature (pool), or nearest to a crop of it whose surroundings are visible (crop), blurred or of "
        "the mean color",
    )
    points_per_side: int = option(
        29, help="clicks along each side of an image, from which proposals are made", minimum=1
    )
    predicted_iou: float | None = option(
        None,
        help="IoU that proposals must exceed by the segmenter's estimate (default: 0.2 for the embedded SAM, else "
        "0.88)",
        minimum=0,
        maximum=1,
    )
    stability_score: float | None = option(
        None,
        help="stability that proposals need (default: 0.8 for the embedded SAM, else 0.95)",
        minimum=0,
        maximum=1,
    )


@dataclass(frozen=True, kw_only=True)
class GenerationOptions(AnswerOptions, BackendOptions, VlmOptions, DecodingOptions):
    """Both models of the generative pipeline and how answers are generated and decoded."""

    adapter: str | None = option(None, help="adapter folder made by geoclick train")
    answer_format: str | None = option(
        None, choices=("json", "compact"), help="format of the answers (default: the adapter's, else json)"
    )
    max_new_tokens: int | None = option(
        None, help="maximum length of an answer in tokens (default: depends on the answer format)", minimum=1
    )
    device: str = option("auto", help="auto, cpu, cuda or cuda:N")
    quantise: str = option(
        "auto",
        choices=("auto", "nf4", "none"),
        help="nf4 loads the VLM in 4 bits with bitsandbytes; auto does if the adapter was trained so",
    )

    def check_backend(self) -> None:
        """Raise UsageError for options that do not fit the backend."""
        defaults = {field.name: field.default for field in fields(self)}
        for name, backends in BACKENDS_OF.items():
            if self.backend not in backends and getattr(self, name) != defaults[name]:
                flag = name.replace("_", "-")
                raise UsageError(f"--{flag} goes with --backend {' or '.join(backends)}; remove it.")
        if self.gpu_memory_utilization > 1:
            raise UsageError(f"--gpu-memory-utilization is at most 1, not {self.gpu_memory_utilization:g}.")
        self.check_answers(self.backend)
        if self.backend != "openai":
            return
        if self.vlm in (None, "embedded"):
            raise UsageError(
                "--backend openai needs --vlm, the name of a model of the server, such as gpt-5."
            )
        if (self.price_input is None) != (self.price_output is None):
            raise UsageError("--price-input and --price-output go together; give both or none.")
        if self.budget is not None and self.price_input is None:
            raise UsageError("--budget needs --price-input and --price-output, from which costs are counted.")
        if self.prompt == "zero-shot" and self.answer_format == "compact":
            raise UsageError(
                "The zero-shot prompt asks for json; give --prompt trained for answers in the format compact."
            )

    def load_segmenter(self) -> "Segmenter":
        """The frozen segmenter."""
        from geoclick import segmenters

        return segmenters.load(self.segmenter, checkpoint=self.checkpoint, device=self.device)
