"""The losses of the embedded CLIP: views against captions, and regions of views against phrases."""

import torch
from torch.nn import functional
from transformers import CLIPModel

from geoclick.train.embedded.clip_batches import Batch
from geoclick.train.embedded.clip_model import image_and_patch_features, text_features

WEIGHTS = {"images": 1.0, "regions": 2.0, "background": 0.5}
"""Weights of the losses in their sum."""

LARGEST_SCALE = 100.0
"""Of the learned scale of cosines, as in CLIP."""


def losses(model: CLIPModel, batch: Batch) -> dict[str, torch.Tensor]:
    """The losses of a batch of `clip_batches`, by name.

    - `images`: cross-entropy of views and captions, both ways, without the pairs in which a wrong answer may be true.
    - `regions`: of each phrase that names a region, against those that do not; averaged over the ways of computing
      patch features. The cosine of a region is the mean over its patches.
    - `background`: the background against the phrases that do not name a region, so that it ranks between those that
      do and those that do not.
    """
    images, ways = image_and_patch_features(model, batch["pixel_values"])
    texts = text_features(model, torch.cat(_same_length(batch["captions"], batch["phrases"])))
    captions, phrases = texts[: len(batch["captions"])], texts[len(batch["captions"]) :]
    scale = model.logit_scale.exp().clamp(max=LARGEST_SCALE)
    logits = [scale * _region_cosines(patches, phrases, batch) for patches in ways]
    return {
        "images": image_loss(scale * captions @ images.T, batch["possible"]),
        "regions": torch.stack([region_loss(one, batch["truth"]) for one in logits]).mean(),
        "background": torch.stack(
            [background_loss(one, batch["truth"], batch["plain"]) for one in logits]
        ).mean(),
    }


def _same_length(*tokens: torch.Tensor) -> list[torch.Tensor]:
    """Token ids padded on the right with their last token, which ends every text."""
    longest = max(part.shape[1] for part in tokens)
    return [torch.cat([part, part[:, -1:].expand(-1, longest - part.shape[1])], 1) for part in tokens]


def _region_cosines(patches: torch.Tensor, phrases: torch.Tensor, batch: Batch) -> torch.Tensor:
    """The cosine of each phrase and region, [N, K], from patch features [V, patches, D]."""
    of_region = batch["region_weights"][:, None] @ patches[batch["region_views"]]
    return of_region[:, 0] @ phrases.T


def image_loss(logits: torch.Tensor, possible: torch.Tensor) -> torch.Tensor:
    """Symmetric cross-entropy.

    Args:
        logits: of the captions, true ones first, and the views, [2V, V].
        possible: whether a caption may hold for a view, bool [2V, V]; such pairs are left out, but those of a view and
            its own caption.
    """
    views = logits.shape[1]
    own = torch.eye(*logits.shape, dtype=torch.bool, device=logits.device)
    logits = logits.masked_fill(possible & ~own, -torch.inf)
    targets = torch.arange(views, device=logits.device)
    return (
        functional.cross_entropy(logits.T, targets) + functional.cross_entropy(logits[:views], targets)
    ) / 2


def region_loss(logits: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of each phrase that names a region (truth 1), against those that do not and the background."""
    wrong = truth < 0
    wrong[:, -1] = True
    others = logits.masked_fill(~wrong, -torch.inf).logsumexp(1, keepdim=True)
    named = truth > 0
    each = functional.softplus(others - logits).masked_fill(~named, 0).sum(1) / named.sum(1)
    return each.mean()


def background_loss(logits: torch.Tensor, truth: torch.Tensor, plain: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of the background, the last phrase, against phrases without a color that do not name a region."""
    others = logits.masked_fill(~((truth < 0) & plain), -torch.inf).logsumexp(1)
    return functional.softplus(others - logits[:, -1]).mean()
