"""Rows to a padded batch: what TRL's vision collator makes, without its chat templates and repeated image work."""

from collections.abc import Mapping, Sequence
from itertools import islice

import torch
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence

from geoclick.train.augmentation.image_views import ShownImage, shown_images
from geoclick.train.data.batches import Batch
from geoclick.train.data.training_row import TrainingRow
from geoclick.train.data.vision_features import VisionFeatures, encoder_outputs
from geoclick.vlms.encoding import process_images
from geoclick.vlms.processor import Processor

IGNORED = -100
"""Label of a token that has no loss."""


class ClickCollator:
    """Makes batches from the rows of `geoclick.train.data.rows.build`, augmented or not.

    Args:
        processor: the VLM's.
        features: vision features by image path, or None to process the images of every batch.
        multiple: the length of a batch is a multiple of it.
    """

    def __init__(
        self, processor: Processor, features: Mapping[str, VisionFeatures] | None = None, *, multiple: int = 1
    ) -> None:
        self.processor = processor
        self.multiple = multiple
        self.features = features
        self.image_token = processor.image_token_id
        self.merge = processor.image_processor.merge_size**2

    def __call__(self, rows: Sequence[TrainingRow]) -> Batch:
        """A batch, padded on the right.

        Returns:
            `input_ids`, `attention_mask`, `mm_token_type_ids` (1 on image tokens) and `labels` (-100 outside
            the answer), int64 [N, L]; if the rows have images, `image_grid_thw` [images, 3], and `pixel_values` or,
            with cached features, `mm_encoder_outputs`.
        """
        shown = [shown_images(row) for row in rows]
        batch = self._images([image for images in shown for image in images])
        counts = iter((batch.get("image_grid_thw", torch.empty(0, 3)).prod(1) // self.merge).tolist())
        ids, labels = [], []
        for row, images in zip(rows, shown, strict=True):
            tokens = list(islice(counts, len(images)))
            prompt = expand_images(row["prompt_ids"], self.image_token, tokens)
            answer = row["completion_ids"]
            ids.append(torch.tensor(prompt + answer))
            labels.append(torch.tensor([IGNORED] * len(prompt) + answer))
        lengths = torch.tensor([len(row) for row in ids])
        more = -int(lengths.max()) % self.multiple
        input_ids = pad_sequence(ids, batch_first=True, padding_value=self.processor.tokenizer.pad_token_id)
        input_ids = pad(input_ids, (0, more), value=self.processor.tokenizer.pad_token_id)
        return batch | {
            "input_ids": input_ids,
            "attention_mask": (torch.arange(input_ids.shape[1]) < lengths[:, None]).long(),
            "mm_token_type_ids": (input_ids == self.image_token).long(),
            "labels": pad(
                pad_sequence(labels, batch_first=True, padding_value=IGNORED), (0, more), value=IGNORED
            ),
        }

    def _images(self, shown: Sequence[ShownImage]) -> Batch:
        if not shown:
            return {}
        if self.features is not None:
            chosen = [self.features[image.path] for image in shown]
            grid = torch.stack([f.grid for f in chosen])
            return {"image_grid_thw": grid, "mm_encoder_outputs": encoder_outputs(chosen)}
        pixels = [image.read() for image in shown]
        return process_images(self.processor, pixels)


def expand_images(ids: Sequence[int], image_token: int, counts: Sequence[int]) -> list[int]:
    """Tokens with each image token repeated, once for each visual token of its image.

    Args:
        ids: with one image token for each image.
        image_token: the placeholder.
        counts: visual tokens of each image.
    """
    images = iter(counts)
    return [token for one in ids for token in [one] * (next(images) if one == image_token else 1)]
