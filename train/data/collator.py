"""Rows to a batch: what TRL's vision collator makes, without its chat templates and repeated image work."""

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence

from geoclick.train.augmentation.image_views import pictures
from geoclick.train.data.vision_features import Features, join

IGNORED = -100


class ClickCollator:
    """Makes batches from the rows of `geoclick.train.data.rows.build`, augmented or not.

    Args:
        processor: the VLM's.
        features: vision features by image path, or None to process the images of every batch anew.
    """

    def __init__(self, processor: Any, features: dict[str, Features] | None = None) -> None:
        self.processor = processor
        self.features = features
        self.image_token = processor.image_token_id
        self.merge = processor.image_processor.merge_size**2

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """A batch, padded on the right.

        Returns:
            `input_ids`, `attention_mask`, `mm_token_type_ids` (1 on image tokens) and `labels` (-100 outside
            the answer), int64 [N, L]; `image_grid_thw` [N, 3]; and `pixel_values` or, with features at hand,
            `mm_encoder_outputs`.
        """
        batch = self._images(rows)
        tokenizer = self.processor.tokenizer
        prompts = tokenizer([row["prompt"] for row in rows], add_special_tokens=False)["input_ids"]
        answers = tokenizer([row["completion"] for row in rows], add_special_tokens=False)["input_ids"]
        ids, labels = [], []
        for prompt, answer, grid in zip(prompts, answers, batch["image_grid_thw"], strict=True):
            prompt = self._with_image(prompt, int(grid.prod()) // self.merge)
            ids.append(torch.tensor(prompt + answer))
            labels.append(torch.tensor([IGNORED] * len(prompt) + answer))
        input_ids = pad_sequence(ids, batch_first=True, padding_value=tokenizer.pad_token_id)
        lengths = torch.tensor([len(row) for row in ids])
        return batch | {
            "input_ids": input_ids,
            "attention_mask": (torch.arange(input_ids.shape[1]) < lengths[:, None]).long(),
            "mm_token_type_ids": (input_ids == self.image_token).long(),
            "labels": pad_sequence(labels, batch_first=True, padding_value=IGNORED),
        }

    def _images(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        shown = [pictures(row)[0] for row in rows]
        if self.features is not None:
            chosen = [self.features[picture.path] for picture in shown]
            grid = torch.stack([f.grid for f in chosen])
            return {"image_grid_thw": grid, "mm_encoder_outputs": {"image": join(chosen)}}
        pixels = [picture.read() for picture in shown]
        return dict(self.processor.image_processor(images=pixels, return_tensors="pt"))

    def _with_image(self, ids: list[int], tokens: int) -> list[int]:
        at = ids.index(self.image_token)
        return ids[:at] + [self.image_token] * tokens + ids[at + 1 :]
