"""The model card of the embedded CLIP."""

import datetime
import platform
from collections.abc import Mapping
from dataclasses import asdict

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
    "region": f"name of a region among the {len(NAMES)} kinds of objects and grounds, from its patch features",
}
"""The figures of the table, in words."""


def model_card(
    options: EmbeddedClipOptions,
    model: CLIPModel,
    scores: Mapping[str, float],
    *,
    views: int,
    minutes: float,
) -> str:
    """The card as Markdown.

    Args:
        options: of the training run.
        model: the trained model.
        scores: as `clip_evaluation.evaluate` returns them.
        views: number of held-out views.
        minutes: training time.
    """
    vision, text = model.config.vision_config, model.config.text_config
    values = {k: v for k, v in asdict(options).items() if k not in ("output", "cache")}
    listing = "\n".join(f"    {k}: {v}" for k, v in values.items())
    rows = "\n".join(f"| {words} | {scores[name]:.3f} |" for name, words in ROWS.items())
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
`python -m train.embedded.clip --config configs/embedded_clip/default.yaml`: {options.steps} steps in {minutes:.0f}
minutes on {options.threads} thread of a CPU ({platform.machine()}), {datetime.date.today():%d %B %Y}, with the options

{listing}

The sum of three losses (weights {", ".join(f"{w:g}" for w in WEIGHTS.values())}):

- views against captions, as in CLIP; for each view also a caption that is wrong in one color, kind or number. Pairs
  that may be true are no negatives.
- regions against phrases: the patch features of each visible object and of the ground, from the value path of the last
  block, against words that name it and words that do not. This loss exists in training only. Contrast of complete views
  alone does not localize after so few steps. It means that the model's dense features are better, relative to those
  of released CLIP models, than its size suggests: comparisons of methods on it say nothing about other models.
- the words {"background"!r} and the like rank between the right names of a region and the wrong ones. Words for what no
  scene shows, such as "ship", and the token for unknown words are wrong for every region.

## Evaluation
Share of right choices on {views} views of held-out scenes:

| choice | share |
|---|---|
{rows}

## Limitations
It knows about a hundred nouns, the colors of the scenes and numbers up to four, and has never seen a real image.
"""
