"""Evaluation during training: the model writes clicks for held-out samples, and their masks are scored."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from accelerate.utils import gather_object
from PIL import Image, ImageDraw, ImageFont
from transformers import PreTrainedModel

from geoclick import masks
from geoclick.clicks import Click
from geoclick.datasets import Sample
from geoclick.inference.backends.local import Local
from geoclick.inference.evaluation import results, scoring
from geoclick.inference.generative import answering
from geoclick.inference.generative.settings import Generation
from geoclick.pages import captions, click_drawing
from geoclick.scoring.records import Record
from geoclick.segmenters import Segmenter
from geoclick.train.loop.held_out_loss import HeldOutLoss
from geoclick.vlms.loading import Vlm

LogEntry = Mapping[str, float]
"""One entry of the trainer's log."""

METRIC = "eval_miou"
SHOWN = 8
"""Samples in the panel."""
CELL = 256
CAPTION = 34


@dataclass(frozen=True)
class Monitor:
    """What a run is evaluated on, and how.

    Attributes:
        vlm: as loaded; the evaluated model is the one in training.
        segmenter: frozen, on this process's device.
        samples: held out; each process evaluates its share.
        answer_format: of the training.
        partitioned: whether each process holds only a part of the model, so that all must generate in step.
        every: steps between evaluations.
        patience: evaluations without a better mIoU after which the run stops; 0 never.
        batch_size: answers that a process generates at once.
        loss: on the rows of the samples.
        decode: a key of `mask_decoding.DECODE`.
    """

    vlm: Vlm
    segmenter: Segmenter
    samples: Sequence[Sample]
    answer_format: str
    partitioned: bool
    every: int
    patience: int
    batch_size: int = 16
    loss: HeldOutLoss | None = None
    decode: str = "replay"

    def evaluate(self, model: PreTrainedModel, rank: int, processes: int) -> list[Record]:
        """The records of all samples, as `geoclick evaluate` writes them; every process must call it.

        Args:
            model: in eval mode.
            rank: of this process.
            processes: number of processes.
        """
        # The same number for each process, or the others would wait for the longest. Repeated samples count once.
        share = -(-len(self.samples) // processes)
        own = [self.samples[(rank * share + i) % len(self.samples)] for i in range(share)]
        backend = Local(
            replace(self.vlm, model=model, device=model.device),
            Generation(answer_format=self.answer_format, batch_size=self.batch_size),
            in_step=self.partitioned,
        )
        records: list[Record] = []
        for start in range(0, share, self.batch_size):
            batch = own[start : start + self.batch_size]
            predictions = answering.predict(
                backend,
                self.segmenter,
                [sample.read_image() for sample in batch],
                [sample.query for sample in batch],
                decode=self.decode,
            )
            records += [scoring.score_sample(s, p, "native") for s, p in zip(batch, predictions, strict=True)]
        by_id = {record["sample_id"]: record for record in gather_object(records)}
        return [by_id[sample.sample_id] for sample in self.samples]


def score(records: Sequence[Record]) -> dict[str, float]:
    """The figures of one evaluation, named as the trainer's loggers expect them."""
    summary = results.summarize(records, {"mode": "native", "seed": 0})
    figures = {
        METRIC: summary["scores"]["miou"],
        "eval_parse_rate": summary["answers"]["parse_rate"],
        "eval_no_target_accuracy": summary["no_target"]["accuracy"],
        "eval_mean_clicks": summary["mean_clicks"],
    }
    return {name: value for name, value in figures.items() if value is not None}


def panel(samples: Sequence[Sample], records: Sequence[Record]) -> np.ndarray:
    """A picture of the first samples: each image twice, with its target, and with the predicted mask and clicks.

    Returns:
        uint8 [h, w, 3]; two samples per row.
    """
    pairs = list(zip(samples, records, strict=True))[:SHOWN]
    sheet = Image.new("RGB", (4 * CELL, -(-len(pairs) // 2) * (CELL + CAPTION)), (255, 255, 255))
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for number, (sample, record) in enumerate(pairs):
        left, top = number % 2 * 2 * CELL, number // 2 * (CELL + CAPTION)
        answer = f"IoU {record['iou']:.2f}   {record['text']}"
        for line, text in enumerate((sample.query, answer)):
            shown = captions.shorten(text.partition("\n")[0], font, 2 * CELL - 8)
            pen.text((left + 4, top + 2 + 15 * line), shown, (28, 32, 36), font)
        image, clicks = sample.read_image(), [Click(*click) for click in record["clicks"]]
        target = click_drawing.panel(image, sample.mask, longest=CELL, color=click_drawing.TARGET_COLOR)
        predicted = click_drawing.panel(image, masks.decode_rle(record["mask"]), clicks, longest=CELL)
        for column, picture in enumerate((target, predicted)):
            sheet.paste(Image.fromarray(picture), (left + column * CELL, top + CAPTION))
    return np.asarray(sheet)


def log_panel(picture: np.ndarray, step: int, callbacks: Sequence[Any]) -> None:
    """Log a panel, uint8 [h, w, 3], to the trainer's loggers that take pictures: tensorboard and wandb."""
    for callback in callbacks:
        if getattr(callback, "tb_writer", None) is not None:
            callback.tb_writer.add_image("held_out", picture, step, dataformats="HWC")
        if type(callback).__name__ == "WandbCallback":
            import wandb

            wandb.log({"held_out": wandb.Image(picture), "train/global_step": step})


def stalled(history: Sequence[LogEntry], patience: int) -> bool:
    """Whether none of the last `patience` evaluations improved the mIoU.

    Args:
        history: the trainer's log; evaluations are its entries with METRIC.
        patience: 0 never stops.
    """
    values = [entry[METRIC] for entry in history if METRIC in entry]
    return 0 < patience < len(values) and max(values[-patience:]) <= max(values[:-patience])


def evaluations(history: Sequence[LogEntry]) -> list[dict[str, float]]:
    """The figures of all evaluations, each with its step, for metrics.json."""
    return [
        {"step": entry["step"]} | {key: value for key, value in entry.items() if key.startswith("eval_")}
        for entry in history
        if METRIC in entry
    ]


def is_best(history: Sequence[LogEntry]) -> bool:
    """Whether the last evaluation is better than all before it."""
    values = [entry[METRIC] for entry in history if METRIC in entry]
    return not values[:-1] or values[-1] > max(values[:-1])
