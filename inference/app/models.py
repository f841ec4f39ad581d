"""The models of the app, which all users share; they hold nothing of a user."""

from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

from geoclick import devices
from geoclick.clips.loading import Clip, load_clip
from geoclick.errors import GeoClickError, UsageError
from geoclick.geo.reading import PixelOptions
from geoclick.inference import pipeline as pipelines
from geoclick.inference.app import sources
from geoclick.inference.app.options import AppOptions
from geoclick.inference.app.session import ClassMap, EncodedImage, Session
from geoclick.inference.app.sources import Limits
from geoclick.inference.contrastive import classes as class_lists
from geoclick.inference.contrastive import map_files, settings
from geoclick.inference.contrastive import pipeline as contrastive
from geoclick.inference.generative import mask_decoding
from geoclick.inference.generative.prediction import Prediction
from geoclick.inference.generative.settings import default_format
from geoclick.inference.pipeline import Pipeline
from geoclick.vlms import Vlm
from geoclick.vlms.adapter import base_of
from geoclick.vlms.generation.answers import MAX_NEW_TOKENS
from geoclick.yaml_file import Yaml

MAX_QUERY = 500
"""Characters of a query."""

MAX_CLASSES = 2000
"""Characters of a class list."""


@dataclass
class AppModels:
    """The loaded models.

    Attributes:
        pipeline: answers queries.
        options: of the command.
        limits: of images.
    """

    pipeline: Pipeline
    options: AppOptions
    limits: Limits
    _clip: Clip | None = field(default=None, repr=False)

    @property
    def pixels(self) -> PixelOptions:
        """How images are read."""
        return self.options.pixels()

    @property
    def can_compare(self) -> bool:
        """Whether the base model can answer without the adapter."""
        return isinstance(self.pipeline.vlm, Vlm) and bool(self.options.adapter)

    def open(self, path: Path, name: str) -> Session:
        """Read and encode an image.

        Raises:
            GeoClickError: it is broken, too large or too narrow.
        """
        opened = sources.read(path, name, self.limits, self.pixels)
        if narrow := mask_decoding.refusal(opened.size):
            raise GeoClickError(narrow)
        with devices.enough_memory(f"an image of {opened.size[1]}x{opened.size[0]} pixels"):
            encoded = EncodedImage(self.pipeline.segmenter, opened.pixels)
        return Session(opened, encoded, self.pipeline.decode)

    def ask(self, session: Session, query: str, *, base: bool = False) -> list[str]:
        """Add the answer to a query as a layer; with `base`, that of the model without its adapter, too.

        Returns:
            The labels of older layers that were removed to make room.

        Raises:
            GeoClickError: the query is empty or too long, or the models cannot answer.
        """
        query = checked(query, MAX_QUERY, "query, such as 'the largest building'")
        asked = ("base", "adapter") if base and self.can_compare else ("",)
        answers = [self._answer(session, query, source) for source in asked]
        with session.lock:
            removed = session.make_room(len(answers))
            for source, answer in zip(asked, answers, strict=True):
                session.add(query, source, answer)
        return removed

    def _answer(self, session: Session, query: str, source: str) -> Prediction:
        pipeline = replace(self.pipeline, segmenter=session.segmenter)
        without = nullcontext()
        if source == "base":
            pipeline = without_adapter(pipeline)
            without = pipeline.vlm.model.disable_adapter()  # type: ignore[union-attr]
        with without, devices.enough_memory("the answer"):
            (result,) = pipeline.predict_batch([session.opened.pixels], [query])
        if result.error:
            raise GeoClickError(result.error)
        return result

    def map(self, session: Session, text: str) -> None:
        """Make a map of the classes in a text, which is a list and never the name of a file.

        Raises:
            GeoClickError: the list is wrong, or the models cannot take the image.
        """
        text = checked(text, MAX_CLASSES, "class list, such as 'building, roof; road; water'")
        try:
            classes = class_lists.with_background(class_lists.parse(text))
        except UsageError as error:
            raise UsageError(str(error).replace("--classes", "The class list")) from error
        options = self.options
        chosen = settings.settings_of(options, tile=None, overlap=128)
        chosen.check(classes, options.method)
        if self._clip is None:
            self._clip = load_clip(options.clip, options.clip_checkpoint, options.device)
        complete = settings.completed(
            chosen, options.method, self._clip, embedded_segmenter=options.segmenter == "embedded"
        )
        frozen = self.pipeline.segmenter if options.method == "contrastive" else None
        pipeline = contrastive.assemble(classes, options.method, self._clip, frozen, complete)
        with devices.enough_memory("the map"):
            found = pipeline.predict(session.opened.pixels)
        if session.opened.valid is not None:
            found = map_files.with_no_data(found, session.opened.valid)
        totals = map_files.Totals()
        totals.add(found)
        session.add_map(ClassMap(text, classes, found, totals.rows(classes), pipeline.describe()))

    def describe(self) -> dict[str, Yaml]:
        """The models and settings, for records."""
        vlm, pipeline = self.pipeline.vlm, self.pipeline
        return {
            "vlm": base_of(self.options.vlm, self.options.adapter),
            "vlm_fingerprint": vlm.fingerprint if isinstance(vlm, Vlm) else None,
            "adapter": self.options.adapter,
            "answer_format": pipeline.generation.answer_format,
            "segmenter": pipeline.segmenter.name,
            "segmenter_sha256": pipeline.segmenter.sha256,
            "decode": pipeline.decode,
            "bands": list(self.options.bands),
            "stretch": list(self.options.stretch),
        }


def without_adapter(pipeline: Pipeline) -> Pipeline:
    """The pipeline with the answer format of the base model; its adapter is disabled by the caller."""
    assert isinstance(pipeline.vlm, Vlm)
    base = replace(pipeline.vlm, record=None)
    answer_format = default_format(base)
    generation = replace(
        pipeline.generation, answer_format=answer_format, max_new_tokens=MAX_NEW_TOKENS[answer_format]
    )
    return replace(pipeline, vlm=base, generation=generation)


def checked(text: str | None, longest: int, what: str) -> str:
    """A text without space around it; raises GeoClickError for an empty or too long one."""
    text = (text or "").strip()
    if not text:
        raise GeoClickError(f"There is no text; write a {what}.")
    if len(text) > longest:
        raise GeoClickError(f"The text has {len(text):,} characters; write at most {longest:,}.")
    return text


def load(options: AppOptions) -> AppModels:
    """Load the models of the options; the embedded CLIP is loaded with the first map."""
    is_named = options.clip != "embedded" or options.clip_checkpoint is not None
    # A wrong one is refused before the app starts.
    clip = load_clip(options.clip, options.clip_checkpoint, options.device) if is_named else None
    pipeline = pipelines.from_options(options, batch_size=options.batch_size, revision=options.revision)
    pipelines.warn_of_untrained(pipeline, options.pixels())
    return AppModels(pipeline, options, Limits(options.max_megapixels, options.max_upload), clip)
