"""A pack of samples as one row of tokens, each sample with its own positions, each image once."""

from collections.abc import Mapping, Sequence

import torch

from geoclick.train.augmentation.image_views import ShownImage, shown_images
from geoclick.train.data.batches import Batch
from geoclick.train.data.collator import IGNORED
from geoclick.train.data.training_row import TrainingRow
from geoclick.train.data.vision_features import VisionFeatures, encoder_outputs
from geoclick.vlms.encoding import process_images
from geoclick.vlms.processor import Processor


class PackedCollator:
    """Makes a batch from one pack.

    The model must be prepared by `geoclick.train.packing.packed_forward.prepare`.

    Args:
        processor: the VLM's.
        features: vision features by image path, or None to process the images of every pack.
    """

    def __init__(self, processor: Processor, features: Mapping[str, VisionFeatures] | None = None) -> None:
        self.processor = processor
        self.features = features
        self.image_token = processor.image_token_id
        self.merge = processor.image_processor.merge_size

    def __call__(self, packs: Sequence[Sequence[TrainingRow]]) -> Batch:
        """A batch of the one pack, T tokens long, with K label positions and N samples.

        Returns:
            `input_ids`, `labels` (-100 outside the answers) and `attention_mask` (ones), int64 [1, T];
            `position_ids` [4, 1, T], the place in the sample and its rotary positions in time, height and width;
            `logits_to_keep` [K], the positions whose next token is a label, and `shift_labels` [1, K], those labels;
            `sample_lengths`, N numbers, and `cu_seq_lens`, int32 [N + 1], where samples begin. If the rows have
            images, either `mm_encoder_outputs`, or `pixel_values` and `image_grid_thw` of the distinct images, and
            `image_index`, the image of each image place.
        """
        (pack,) = packs
        batch, grids = self._images(pack)
        ids, places, labels = [], [], []
        for row, grid in zip(pack, grids, strict=True):
            answer = row["completion_ids"]
            tokens, place = with_positions(
                row["prompt_ids"] + answer, grid, image_token=self.image_token, merge=self.merge
            )
            ids.append(tokens)
            places.append(place)
            labels.append(torch.full_like(tokens, IGNORED))
            labels[-1][len(tokens) - len(answer) :] = torch.tensor(answer)
        lengths = torch.tensor([len(tokens) for tokens in ids])
        # A sample begins with its prompt, so that no label follows the end of the sample before it.
        next_labels = torch.cat(labels)[1:]
        kept = (next_labels != IGNORED).nonzero()[:, 0]
        input_ids = torch.cat(ids)[None]
        return batch | {
            "input_ids": input_ids,
            "labels": torch.cat(labels)[None],
            "attention_mask": torch.ones_like(input_ids),
            "position_ids": torch.cat(places, dim=1)[:, None],
            "logits_to_keep": kept,
            "shift_labels": next_labels[kept][None],
            "cu_seq_lens": torch.cat([lengths.new_zeros(1), lengths.cumsum(0)]).int(),
            "sample_lengths": lengths.tolist(),
        }

    def _images(self, pack: Sequence[TrainingRow]) -> tuple[Batch, list[torch.Tensor]]:
        """The image part of the batch, and the grids of each row's images, int64 [images, 3]."""
        shown = [shown_images(row) for row in pack]
        places = [image for row in shown for image in row]
        distinct = list(dict.fromkeys(places))
        batch: Batch = {}
        grid_of: dict[ShownImage, torch.Tensor] = {}
        if not places:
            pass
        elif self.features is not None:
            grid_of = {image: self.features[image.path].grid for image in distinct}
            chosen = [self.features[image.path] for image in places]
            batch = {"mm_encoder_outputs": encoder_outputs(chosen)}
        else:
            pixels = [image.read() for image in distinct]
            batch = {**process_images(self.processor, pixels)}
            grid_of = dict(zip(distinct, batch["image_grid_thw"], strict=True))
            order = {image: index for index, image in enumerate(distinct)}
            batch["image_index"] = [order[image] for image in places]
        none = torch.empty(0, 3, dtype=torch.int64)
        return batch, [torch.stack([grid_of[image] for image in row]) if row else none for row in shown]


def with_positions(
    ids: list[int], grids: torch.Tensor, *, image_token: int, merge: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens and positions of one sample, each image placeholder expanded to the tokens of its image.

    Args:
        ids: tokens with one placeholder per image.
        grids: patches of the images in time, height and width, int64 [images, 3].
        image_token: the placeholder.
        merge: patches along each side of one visual token.

    Returns:
        Tokens, int64 [L], and positions, int64 [4, L]: the place in the sample, then the rotary positions in time,
        height and width. Text advances all three; an image's tokens count from its start, and text continues
        after its longer side. Source: `get_rope_index` of transformers' Qwen-VL models.
    """
    tokens, places = [], []
    start = position = 0
    for grid in grids:
        time, height, width = grid[0].item(), grid[1].item() // merge, grid[2].item() // merge
        at = ids.index(image_token, start)
        tokens += [*ids[start:at], *[image_token] * (time * height * width)]
        places.append(_text(at - start) + position)
        position += at - start
        axes = [torch.arange(n) for n in (time, height, width)]
        places.append(torch.stack(torch.meshgrid(*axes, indexing="ij")).reshape(3, -1) + position)
        position += max(height, width)
        start = at + 1
    tokens += ids[start:]
    places.append(_text(len(ids) - start) + position)
    return torch.tensor(tokens), torch.cat([torch.arange(len(tokens))[None], torch.cat(places, dim=1)])


def _text(length: int) -> torch.Tensor:
    return torch.arange(length).expand(3, -1)
