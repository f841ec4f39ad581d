"""Dense labels of the embedded CLIP on the tiny copy of a land-cover benchmark, by every method."""

from pathlib import Path

import numpy as np

from geoclick.clips.loading import load_clip
from geoclick.clips.templates import TEMPLATES
from geoclick.clips.text_embeddings import text_embeddings
from geoclick.datasets.benchmarks import BENCHMARKS
from geoclick.datasets.class_maps import IGNORED
from geoclick.inference.contrastive.dense import labels, window_logits
from geoclick.inference.contrastive.vision_transformer import VARIANTS
from geoclick.scenes.copies.semantic import paint
from geoclick.scoring.semantic import SemanticScores

DATASET, SEED = "loveda", 0
METHODS = tuple(VARIANTS)


def dense_scores(folder: Path, images: int, methods: tuple[str, ...] = METHODS) -> dict[str, float]:
    """The mean IoU of each method with the default windows, without a threshold and without a class bias.

    Args:
        folder: of the model.
        images: number of images of the copy.
        methods: keys of `vision_transformer.VARIANTS`.
    """
    clip, benchmark = load_clip(str(folder)), BENCHMARKS[DATASET]
    words = [(word, number) for number, prompts in enumerate(benchmark.prompts) for word in prompts]
    text = text_embeddings(clip, [word for word, _ in words], TEMPLATES["aerial"])
    pairs = [paint(DATASET, SEED, index) for index in range(images)]
    result = {}
    for method in methods:
        scores = SemanticScores()
        for index, (image, truth) in enumerate(pairs):
            logits = window_logits(clip.model, image, text, method)
            _count(scores, str(index), labels(logits, [number for _, number in words]), truth)
        result[method] = round(float(scores.result()["miou"]), 4)
    return result


def _count(scores: SemanticScores, image: str, predicted: np.ndarray, truth: np.ndarray) -> None:
    """Count the pixels of all classes in one image."""
    valid = truth != IGNORED
    for number, name in enumerate(BENCHMARKS[DATASET].names):
        one, other = (predicted == number) & valid, (truth == number) & valid
        scores.count(image, name, int((one & other).sum()), int((one | other).sum()))
