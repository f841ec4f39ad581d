"""The prompts of GRPO: one for each sample, as inference encodes it, with the vision features of its image."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from datasets import Dataset

from geoclick import prompts
from geoclick.geo import reading
from geoclick.train.data import cached_features, vision_features
from geoclick.train.data.vision_features import ImageInputs, Precision, VisionFeatures
from geoclick.train.reinforcement.epoch_samples import EpochSamples, picture_of
from geoclick.vlms import encoding
from geoclick.vlms.loading import Vlm


class GrpoPrompts:
    """The prompts of a run, by the key of their sample.

    If the features of all images fit in memory, a frozen vision tower runs once for each image of the run, else once
    for each image of a batch of completions. Augmented images change with the epoch, so that their features are not
    cached. A trained tower runs in each pass, on pixels.

    Args:
        vlm: its complete model must be on `device`.
        samples: of the run, by key.
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
        samples: EpochSamples,
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
        self.answer_format = answer_format
        self._ids = self._encode(list(dict.fromkeys(sample.query for sample in samples)))
        self.trains_vision = trains_vision
        self._inputs: dict[str, ImageInputs] = {}
        self._cached = cached_features.compute(
            vlm,
            {picture_of(sample): sample.size for sample in samples},
            device=device,
            autocast=autocast,
            limit=0 if trains_vision or samples.kinds else limit,
            pixels=next((sample.pixels for sample in samples if sample.pixels), reading.DEFAULT),
        )
        self._features: Mapping[str, VisionFeatures] = self._cached or {}
        self.bytes = self._cached.nbytes if self._cached else 0

    def _encode(self, queries: Sequence[str]) -> dict[str, list[int]]:
        """The tokens of the prompts of queries; each image is one image token."""
        chats = [prompts.messages(query, answer_format=self.answer_format) for query in queries]
        return dict(zip(queries, encoding.encode_prompts(self._vlm.processor, chats), strict=True))

    def _pictures(self, keys: Sequence[int]) -> list[str]:
        return [picture_of(self.samples[key]) for key in keys]

    def rows(self) -> Dataset:
        """One row per prompt, from which TRL learns how its rows look; see `GroupedKeys` for those of the training."""
        keys = list(range(len(self.samples)))
        return Dataset.from_dict({"prompt": self.texts(keys), "sample": keys})

    def texts(self, keys: Sequence[int]) -> list[str]:
        """The prompts as text, which TRL logs."""
        return self._vlm.processor.tokenizer.batch_decode(self.ids(keys, expanded=False))

    def load_features(self, keys: Sequence[int]) -> None:
        """Make the features of these samples' images available, until the next call."""
        if self._cached is None:
            inputs = self._image_inputs(keys)
            self._features = vision_features.of_inputs(
                self._vlm, inputs, device=self._device, autocast=self._autocast
            )
            if self.trains_vision:
                self._inputs = inputs

    def _image_inputs(self, keys: Sequence[int]) -> dict[str, ImageInputs]:
        """The vision tower's inputs for the distinct images of samples."""
        shown = {picture_of(self.samples[key]): self.samples[key] for key in keys}
        inputs = encoding.process_images(
            self._vlm.processor, [sample.read_image() for sample in shown.values()]
        )
        grids = inputs["image_grid_thw"]
        parts = torch.split(inputs["pixel_values"], grids.prod(dim=1).tolist())
        return dict(zip(shown, map(ImageInputs, parts, torch.unbind(grids)), strict=True))

    def query_ids(self, query: str) -> list[int]:
        """The tokens of the prompt of a sample's query; the image is one image token."""
        return self._ids[query]

    def ids(self, keys: Sequence[int], *, expanded: bool = True) -> list[list[int]]:
        """The tokens of the prompts.

        Args:
            keys: of samples; with `expanded`, their features must be loaded.
            expanded: one image token for each visual token instead of one for the image.
        """
        queries = [self.samples[key].query for key in keys]
        if new := [query for query in dict.fromkeys(queries) if query not in self._ids]:
            self._ids |= self._encode(new)
        ids = list(map(self.query_ids, queries))
        if not expanded:
            return ids
        grids = [self._features[picture].grid for picture in self._pictures(keys)]
        return [
            encoding.expand_image(one, self.image_token, int(grid.prod()) // self._merge)
            for one, grid in zip(ids, grids, strict=True)
        ]

    def vision_inputs(self, keys: Sequence[int], input_ids: torch.Tensor) -> dict[str, Any]:
        """The model's inputs other than tokens [N, L] and their mask, on the device of the tokens."""
        chosen = [self._features[picture] for picture in self._pictures(keys)]
        joined = vision_features.join(chosen)
        moved = type(joined)(**{name: _to(value, input_ids.device) for name, value in joined.items()})
        return {
            "mm_token_type_ids": (input_ids == self.image_token).long(),
            "image_grid_thw": torch.stack([feature.grid for feature in chosen]).to(input_ids.device),
            "mm_encoder_outputs": {"image": moved},
        }

    def pixel_inputs(self, keys: Sequence[int], device: torch.device) -> dict[str, torch.Tensor]:
        """The vision tower's inputs, so that a pass of the model computes its gradients."""
        chosen = [self._inputs[picture] for picture in self._pictures(keys)]
        return {
            "pixel_values": torch.cat([one.pixel_values for one in chosen]).to(device),
            "image_grid_thw": torch.stack([one.grid for one in chosen]).to(device),
        }


Nested = torch.Tensor | list["Nested"]


def _to(value: Nested, device: torch.device) -> Nested:
    """Tensors in nested lists on another device."""
    return [_to(one, device) for one in value] if isinstance(value, list) else value.to(device)
