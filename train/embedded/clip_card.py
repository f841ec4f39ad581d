"""The model card of the embedded CLIP."""

import datetime
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from transformers import CLIPModel

from geoclick.train.embedded.clip_evaluation import CANDIDATES
from geoclick.train.embedded.clip_loss import WEIGHTS
from geoclick.train.embedded.clip_options import EmbeddedClipOptions
from geoclick.train.embedded.clip_words import NAMES

ROWS = {
    "caption": f"own caption among {CANDIDATES}, those of other views that may hold left out",
    "color": "own caption or one with another color",
    "kind": "own caption or one with another kind of object",
    "count": "own caption or one with another number",
    "region": f"a right word for a region of {len(NAMES)}, one for each kind of object and ground, by patch features",
}
"""The figures of the table, in words."""


@dataclass(frozen=True)
class Measured:
    """What was measured.

    Attributes:
        scores: as `clip_evaluation.evaluate` returns them.
        views: number of held-out views.
        dense: mean IoU by method, as `clip_dense_scores.dense_scores` returns it.
        images: number of its images.
        minutes: training time.
    """

    scores: Mapping[str, float]
    views: int
    dense: Mapping[str, float]
    images: int
    minutes: float


def model_card(options: EmbeddedClipOptions, model: CLIPModel, measured: Measured) -> str:
    """The card as Markdown.

    Args:
        options: of the training run.
        model: the trained model.
        measured: its figures.
    """
    vision, text = model.config.vision_config, model.config.text_config
    values = {k: v for k, v in asdict(options).items() if k not in ("output", "cache")}
    listing = "\n".join(f"    {k}: {v}" for k, v in values.items())
    rows = "\n".join(f"| {words} | {measured.scores[name]:.3f} |" for name, words in ROWS.items())
    methods = "\n".join(f"| {method} | {score:.3f} |" for method, score in measured.dense.items())
    parameters = sum(p.numel() for p in model.parameters()) / 1e6
    return f"""# The embedded CLIP of GeoClick

A CLIP of transformers' classes with {parameters:.1f} M parameters, for images of {vision.image_size} x
{vision.image_size} pixels with patches of {vision.patch_size}: {vision.num_hidden_layers} vision layers of width
{vision.hidden_size}, {text.num_hidden_layers} text layers of width {text.hidden_size}, embeddings of
{model.config.projection_dim} values. The weights are in half precision. The tokenizer has {text.vocab_size} tokens: the
words of the captions and of the prompt templates, and one token for every other word. `CLIPModel.from_pretrained` and
`AutoProcessor.from_pretrained` load the folder. This model is for learning the tool, for demos and for tests; on real
images use a released CLIP. License: Apache-2.0, like GeoClick.

## Data
Procedural scenes of geoclick.scenes only: random square crops, from a quarter of a scene's side to all of it, rotated
and mirrored, with captions of the visible objects (kinds, colors, numbers) and grounds. No other images, texts or
weights were used.

## Training
`python -m train.embedded.clip --config configs/embedded_clip/default.yaml`: {options.steps} steps in
{measured.minutes:.0f} minutes on {options.threads} thread of a CPU ({platform.machine()}) that other programs shared,
{datetime.date.today():%d %B %Y}, with the options

{listing}

The sum of three losses (weights {", ".join(f"{w:g}" for w in WEIGHTS.values())}):

- views against captions, as in CLIP; for each view also a caption that is wrong in one color, kind or number. Pairs
  that may be true are no negatives.
- regions against phrases: the patch features of each visible object and of the ground, from the value path of the last
  block (by MaskCLIP's, ClearCLIP's and SegEarth-OV's rule), against words that name it and words that do not. This loss
  exists in training only, so that so short a training suffices for dense labels. Released CLIP models have had no such
  loss: how the methods compare on this model says nothing about others.
- the words {"background"!r} and the like rank between the right names of a region and the wrong ones. Words for what no
  scene shows, such as "ship", and the token for unknown words are wrong for every region.

## Evaluation
Share of right choices on {measured.views} views of held-out scenes:

| choice | share |
|---|---|
{rows}

Mean IoU of dense labels on {measured.images} images of the tiny copy of LoveDA that `geoclick scenes` writes, with the
default windows and the aerial templates, without a threshold:

| method | mean IoU |
|---|---|
{methods}

## Limitations
It knows about a hundred nouns and the colors of the scenes, and has never seen a real image. It does not count: most
numbers in the captions are one, and it prefers captions with small numbers. SegEarth-OV's class bias lowers its scores.
"""
