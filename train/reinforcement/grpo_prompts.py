"""The prompts of GRPO: one for each sample, as inference encodes it, with the vision features of its image."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from datasets import Dataset
from PIL import Image

from geoclick import prompts
from geoclick.datasets import Sample
from geoclick.geo import reading
from geoclick.train.data import cached_features, vision_features
from geoclick.train.data.vision_features import ImageInputs, Precision, VisionFeatures
from geoclick.vlms import encoding
from geoclick.vlms.loading import Vlm


class GrpoPrompts:
    """The prompts of a run, by the index of their sample.

    If the features of all images fit in memory, a frozen vision tower runs once for each image of the run, else once
    for each image of a batch of completions. A trained tower runs in each pass, on pixels.

    Args:
        vlm: its complete model must be on `device`.
        samples: of the run.
        answer_format: `json` or `compact`.
        device: of the model.
        autocast: the precision that training computes in.
        limit: bytes that the features of all images may take.
        trains_vision: whether the projector or the vision tower is trained.

    Attributes:
        bytes: memory of the features that are cached for the run.
    """

    def __init__(
        self,
        vlm: Vlm,
        samples: Sequence[Sample],
        *,
        answer_format: str,
        device: torch.device,
        autocast: Precision,
        limit: float,
        trains_vision: bool = False,
    ) -> None:
        self.samples = samples
        self._vlm, self._device, self._autocast = vlm, device, autocast
        self.image_token = vlm.processor.image_token_id
        self._merge = vlm.processor.image_processor.merge_size**2
        chats = [prompts.messages(sample.query, answer_format=answer_format) for sample in samples]
        self._ids = encoding.encode_prompts(vlm.processor, chats)
        self._paths = [str(sample.root / sample.image) for sample in samples]
        self._options = next((sample.pixels for sample in samples if sample.pixels), reading.DEFAULT)
        self.trains_vision = trains_vision
        self._inputs: dict[str, ImageInputs] = {}
        self._cached = cached_features.compute(
            vlm,
            self._sizes(range(len(samples))),
            device=device,
            autocast=autocast,
            limit=0 if trains_vision else limit,
            pixels=self._options,
        )
        self._features: Mapping[str, VisionFeatures] = self._cached or {}
        self.bytes = self._cached.nbytes if self._cached else 0

    def _sizes(self, indices: Iterable[int]) -> dict[str, tuple[int, int]]:
        return {self._paths[i]: self.samples[i].size for i in indices}

    def rows(self) -> Dataset:
        """One row per prompt for TRL: `prompt`, the text that its logs show, and `sample`, the index."""
        texts = self._vlm.processor.tokenizer.batch_decode(self._ids)
        return Dataset.from_dict({"prompt": texts, "sample": list(range(len(self.samples)))})

    def load_features(self, indices: Sequence[int]) -> None:
        """Make the features of these samples' images available, until the next call."""
        if self._cached is None:
            inputs = vision_features.image_inputs(self._vlm, self._sizes(indices), self._options)
            self._features = vision_features.of_inputs(
                self._vlm, inputs, device=self._device, autocast=self._autocast
            )
            if self.trains_vision:
                self._inputs = inputs

    def ids(self, indices: Sequence[int]) -> list[list[int]]:
        """The tokens of the prompts, with one image token for each visual token."""
        grids = [self._features[self._paths[i]].grid for i in indices]
        return [
            encoding.expand_image(self._ids[i], self.image_token, int(grid.prod()) // self._merge)
            for i, grid in zip(indices, grids, strict=True)
        ]

    def vision_inputs(self, indices: Sequence[int], input_ids: torch.Tensor) -> dict[str, Any]:
        """The model's inputs other than tokens [N, L] and their mask, on the device of the tokens."""
        chosen = [self._features[self._paths[i]] for i in indices]
        joined = vision_features.join(chosen)
        moved = type(joined)(**{name: _to(value, input_ids.device) for name, value in joined.items()})
        return {
            "mm_token_type_ids": (input_ids == self.image_token).long(),
            "image_grid_thw": torch.stack([feature.grid for feature in chosen]).to(input_ids.device),
            "mm_encoder_outputs": {"image": moved},
        }

    def pixel_inputs(self, indices: Sequence[int], device: torch.device) -> dict[str, torch.Tensor]:
        """The vision tower's inputs, so that a pass of the model computes its gradients."""
        chosen = [self._inputs[self._paths[i]] for i in indices]
        return {
            "pixel_values": torch.cat([one.pixel_values for one in chosen]).to(device),
            "image_grid_thw": torch.stack([one.grid for one in chosen]).to(device),
        }

    def images(self, indices: Sequence[int]) -> list[list[Image.Image]]:
        """The images themselves, one list per prompt, for an engine with its own vision tower."""
        return [[Image.fromarray(self.samples[i].read_image())] for i in indices]


Nested = torch.Tensor | list["Nested"]


def _to(value: Nested, device: torch.device) -> Nested:
    """Tensors in nested lists on another device."""
    return [_to(one, device) for one in value] if isinstance(value, list) else value.to(device)
