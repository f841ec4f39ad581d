"""Evaluation in the middle of training: the model writes clicks for held-out samples, and the segmenter scores them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from accelerate.utils import gather_object
from PIL import Image, ImageDraw, ImageFont

from geoclick import masks
from geoclick.clicks import Click
from geoclick.datasets import Sample
from geoclick.inference import generative
from geoclick.inference.evaluation import results, scoring
from geoclick.pages import click_drawing
from geoclick.segmenters import Segmenter
from geoclick.vlms import Vlm

METRIC = "eval_miou"
SHOWN = 8
"""Samples of the panel."""
CELL = 256
CAPTION = 34
BATCH = 16


@dataclass(frozen=True)
class Monitor:
    """What a run is measured on, and how.

    Attributes:
        vlm: as loaded; the model that is asked is the one in training.
        segmenter: frozen, on this process's device.
        samples: held out; each process answers its share.
        answer_format: of the training.
        partitioned: whether no process holds the whole model, so that all must generate in step.
        every: steps between evaluations.
        patience: evaluations without a better mIoU after which the run stops; 0 never.
    """

    vlm: Vlm
    segmenter: Segmenter
    samples: Sequence[Sample]
    answer_format: str
    partitioned: bool
    every: int
    patience: int

    def answer(self, model: Any, rank: int, processes: int) -> list[dict]:
        """The lines of all samples as `geoclick evaluate` writes them; every process must ask.

        Args:
            model: in eval mode.
            rank: of this process.
            processes: in all.
        """
        # As many for each: a process with less to generate would leave the others waiting. What is asked twice
        # counts once.
        share = -(-len(self.samples) // processes)
        own = [self.samples[(rank * share + i) % len(self.samples)] for i in range(share)]
        vlm = replace(self.vlm, model=model, device=model.device)
        found = []
        for start in range(0, share, BATCH):
            batch = own[start : start + BATCH]
            predictions = generative.predict(
                vlm,
                self.segmenter,
                [sample.read_image() for sample in batch],
                [sample.query for sample in batch],
                generative.Generation(answer_format=self.answer_format, batch_size=BATCH),
                in_step=self.partitioned,
            )
            found += [scoring.score_sample(s, p, "native") for s, p in zip(batch, predictions, strict=True)]
        by_id = {entry["sample_id"]: entry for entry in gather_object(found)}
        return [by_id[sample.sample_id] for sample in self.samples]


def score(entries: Sequence[dict]) -> dict[str, float]:
    """The figures of one evaluation, named as the trainer's loggers expect them, from its lines."""
    found = results.summarise(entries, {"mode": "native", "seed": 0})
    figures = {
        METRIC: found["scores"]["miou"],
        "eval_parse_rate": found["answers"]["parse_rate"],
        "eval_no_target_accuracy": found["no_target"]["accuracy"],
        "eval_mean_clicks": found["mean_clicks"],
    }
    return {name: value for name, value in figures.items() if value is not None}


def panel(samples: Sequence[Sample], entries: Sequence[dict]) -> np.ndarray:
    """A picture of the first answers: each image twice, with its target, and with the mask and the clicks.

    Returns:
        uint8 [h, w, 3]; two samples a row.
    """
    pairs = list(zip(samples, entries, strict=True))[:SHOWN]
    sheet = Image.new("RGB", (4 * CELL, -(-len(pairs) // 2) * (CELL + CAPTION)), (255, 255, 255))
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for number, (sample, entry) in enumerate(pairs):
        left, top = number % 2 * 2 * CELL, number // 2 * (CELL + CAPTION)
        said = f"IoU {entry['iou']:.2f}   {entry['text']}"
        for line, text in enumerate((sample.query, said)):
            pen.text((left + 4, top + 2 + 15 * line), _cut(text, font, 2 * CELL - 8), (28, 32, 36), font)
        image, clicks = sample.read_image(), [Click(*click) for click in entry["clicks"]]
        wanted = click_drawing.panel(image, sample.mask, longest=CELL, color=click_drawing.TARGET_COLOR)
        given = click_drawing.panel(image, masks.decode_rle(entry["mask"]), clicks, longest=CELL)
        for column, picture in enumerate((wanted, given)):
            sheet.paste(Image.fromarray(picture), (left + column * CELL, top + CAPTION))
    return np.asarray(sheet)


def _cut(text: str, font: Any, width: int) -> str:
    """As much of the first line of a text as fits into `width` pixels."""
    text = text.partition("\n")[0]
    while font.getlength(text) > width:
        text = text[:-1]
    return text


def send(picture: np.ndarray, step: int, callbacks: Sequence[Any]) -> None:
    """Show a panel, uint8 [h, w, 3], to those of the trainer's loggers that take pictures: tensorboard and wandb."""
    for callback in callbacks:
        if getattr(callback, "tb_writer", None) is not None:
            callback.tb_writer.add_image("held_out", picture, step, dataformats="HWC")
        if type(callback).__name__ == "WandbCallback":
            import wandb

            wandb.log({"held_out": wandb.Image(picture), "train/global_step": step})


def stalled(history: Sequence[dict], patience: int) -> bool:
    """Whether the last `patience` evaluations brought no better mIoU.

    Args:
        history: the trainer's log, in which evaluations are the entries with METRIC.
        patience: 0 never stops.
    """
    found = [entry[METRIC] for entry in history if METRIC in entry]
    return 0 < patience < len(found) and max(found[-patience:]) <= max(found[:-patience])


def is_best(history: Sequence[dict]) -> bool:
    """Whether the last evaluation is better than all before it."""
    found = [entry[METRIC] for entry in history if METRIC in entry]
    return not found[:-1] or found[-1] > max(found[:-1])
