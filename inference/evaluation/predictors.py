"""Who answers the samples of an evaluation, by the values of `--predictor`.

Each function here takes the options, what is known of the samples, and the segmenter, and gives two things: what the
protocol is to say of it, and the function that answers a batch.
"""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geoclick import masks
from geoclick.clicks import Click, ClickSequence
from geoclick.errors import GeoClickError, UsageError
from geoclick.files import sha256
from geoclick.inference.prediction import Prediction

if TYPE_CHECKING:
    from geoclick.datasets import Sample
    from geoclick.inference.evaluate import EvaluateOptions
    from geoclick.inference.evaluation.dataset_scan import Survey

Ask = Callable[[Sequence["Sample"], Sequence[np.ndarray]], list[Prediction]]
"""Samples and their images, uint8 [H, W, 3], to predictions in the same order."""


def generative(options: "EvaluateOptions", survey: "Survey", segmenter: Any) -> tuple[dict, Ask]:
    """The VLM, with its adapter where one is named."""
    from geoclick import prompts
    from geoclick.inference.backends import local
    from geoclick.inference.generative import predict
    from geoclick.vlms import adapter as adapters
    from geoclick.vlms import loading

    vlm, answer_format = options.load_vlm()
    max_new_tokens = options.max_new_tokens or local.MAX_NEW_TOKENS[answer_format]
    limits = loading.pixel_limits(vlm.processor)
    protocol = {
        "vlm": options.vlm,
        "vlm_revision": vlm.revision,
        "vlm_fingerprint": vlm.fingerprint,
        "adapter": options.adapter,
        "adapter_sha256": sha256(Path(options.adapter) / adapters.WEIGHTS) if options.adapter else None,
        "answer_format": answer_format,
        "prompt_version": prompts.PROMPT_VERSION,
        "min_pixels": limits[0],
        "max_pixels": limits[1],
        "max_new_tokens": max_new_tokens,
        "temperature": options.temperature,
    }

    def ask(batch: Sequence["Sample"], images: Sequence[np.ndarray]) -> list[Prediction]:
        return predict(
            vlm,
            segmenter,
            images,
            [sample.query for sample in batch],
            answer_format=answer_format,
            decode=options.decode,
            batch_size=options.batch_size,
            max_new_tokens=max_new_tokens,
            temperature=options.temperature,
        )

    return protocol, ask


def oracle(options: "EvaluateOptions", survey: "Survey", segmenter: Any) -> tuple[dict, Ask]:
    """The clicks of a store, decoded the same way: the upper bound of a VLM that learns to write them."""
    from geoclick import store

    if options.clicks is None:
        raise UsageError("The oracle needs a click store; give --clicks the output of geoclick synth.")
    wanted, rows = set(survey.ids), {}
    for row in store.read(options.clicks):
        if row.sample_id in wanted and (row.dataset, row.split) == (options.dataset, options.split):
            rows[row.sample_id] = row.clicks
    if missing := sorted(wanted - rows.keys()):
        raise GeoClickError(
            f"{options.clicks} lacks {len(missing)} of {len(wanted)} samples, such as {missing[0]}; "
            "run geoclick synth on this split with the same options."
        )
    digest = hashlib.sha256(repr(sorted(rows.items())).encode()).hexdigest()

    def ask(batch: Sequence["Sample"], images: Sequence[np.ndarray]) -> list[Prediction]:
        return _decoded(options, segmenter, images, [tuple(rows[sample.sample_id]) for sample in batch])

    return {"clicks": options.clicks, "clicks_sha256": digest}, ask


def center_point(options: "EvaluateOptions", survey: "Survey", segmenter: Any) -> tuple[dict, Ask]:
    """One positive click at the deepest pixel of the true mask: what a model that points perfectly gets."""

    def ask(batch: Sequence["Sample"], images: Sequence[np.ndarray]) -> list[Prediction]:
        return _decoded(options, segmenter, images, [deepest(sample.mask) for sample in batch])

    return {}, ask


def deepest(mask: np.ndarray) -> ClickSequence:
    """A click on the pixel of a mask, bool [H, W], that lies farthest from its border; none on an empty mask."""
    from geoclick.distance import deepest_pixel

    pixel = deepest_pixel(mask)
    return () if pixel is None else (Click(*pixel),)


def _decoded(
    options: "EvaluateOptions",
    segmenter: Any,
    images: Sequence[np.ndarray],
    sequences: Sequence[ClickSequence],
) -> list[Prediction]:
    from geoclick.inference.generative import decode_clicks

    decoded = decode_clicks(segmenter, images, sequences, decode=options.decode)
    return [Prediction(mask, clicks) for mask, clicks in zip(decoded, sequences, strict=True)]


def box(options: "EvaluateOptions", survey: "Survey", segmenter: Any) -> tuple[dict, Ask]:
    """The bounding box of the true mask as the prompt: what a perfect detector gets."""
    from geoclick.inference.generative import embed
    from geoclick.segmenters import clicking

    if options.segmenter == "embedded":
        raise UsageError(
            "The embedded segmenter has learnt from clicks and never seen a box; give --segmenter sam_vit_b, "
            "sam_vit_l or sam_vit_h with --checkpoint."
        )

    def ask(batch: Sequence["Sample"], images: Sequence[np.ndarray]) -> list[Prediction]:
        found = [Prediction(np.zeros(sample.size, bool), ()) for sample in batch]
        boxes = [masks.bounding_box(sample.mask) for sample in batch]
        asked = [i for i, slices in enumerate(boxes) if slices is not None]
        corners = [
            (columns.start, rows.start, columns.stop - 1, rows.stop - 1)
            for rows, columns in (boxes[i] for i in asked)
        ]
        decoded = clicking.boxed(segmenter, embed(segmenter, [images[i] for i in asked]), corners)
        for i, mask in zip(asked, decoded, strict=True):
            found[i] = Prediction(mask, ())
        return found

    return {}, ask


def noisy(options: "EvaluateOptions", survey: "Survey", segmenter: None) -> tuple[dict, Ask]:
    """The true mask with each pixel wrong with probability `--noise`: what the scores ought to be is known.

    Of a target of T among V valid pixels (1 - p) T stay in the intersection, and p (V - T) join the union of T, on
    average: the IoU of all samples together is sum((1 - p) T) / sum(T + p (V - T)). Which pixels are wrong follows from
    seed and sample alone.
    """

    def ask(batch: Sequence["Sample"], images: Sequence[np.ndarray]) -> list[Prediction]:
        found = []
        for sample in batch:
            key = hashlib.sha256(f"{options.seed}\0{sample.sample_id}".encode()).digest()
            rng = np.random.default_rng(int.from_bytes(key[:16], "little"))
            wrong = rng.random(sample.size, dtype=np.float32) < options.noise
            found.append(Prediction(sample.mask ^ wrong, ()))
        return found

    return {"noise": options.noise}, ask


PREDICTORS = {
    "generative": generative,
    "oracle": oracle,
    "box": box,
    "center-point": center_point,
    "noisy": noisy,
}
WITHOUT_MODELS = ("noisy",)
"""Those that need neither segmenter nor images."""
