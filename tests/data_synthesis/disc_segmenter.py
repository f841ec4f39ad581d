"""A segmenter with predictable masks: a disc around each click, set or cleared in order."""

import time

import torch

from geoclick.segmenters.base import Decoded, Embedding

RADII = {False: (6,), True: (4, 9, 6)}


class DiscSegmenter:
    """Counts what it embeds; with multimask the disc of 9 pixels has the best score."""

    name, sha256, device = "disc", "0" * 64, torch.device("cpu")

    def __init__(self, delay=0.0):
        self.delay, self.embedded = delay, []

    def embed(self, images):
        self.embedded += [image.tobytes() for image in images]
        return [
            Embedding(torch.zeros(1, *image.shape[:2]), image.shape[:2], image.shape[:2]) for image in images
        ]

    def decode(self, embeddings, prompts, *, multimask):
        time.sleep(self.delay)
        return [self._decode(e, p, RADII[multimask]) for e, p in zip(embeddings, prompts, strict=True)]

    def _decode(self, embedding, prompt, radii):
        ys, xs = (torch.arange(side) for side in embedding.size)
        masks = []
        for radius in radii:
            logits = torch.full(embedding.size, -9.0)
            for click in prompt.clicks:
                disc = (xs[None] - click.x) ** 2 + (ys[:, None] - click.y) ** 2 <= radius**2
                logits[disc] = 9.0 if click.positive else -9.0
            masks.append(logits)
        return Decoded(torch.stack(masks), torch.tensor(radii) / 10)

    def masks(self, low_res, embedding):
        return low_res > 0
