"""Samples as the questions of GRPO: prompt tokens as inference asks them, and vision features to go with them."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from datasets import Dataset
from PIL import Image

from geoclick import prompts
from geoclick.datasets import Sample
from geoclick.train.data import vision_features
from geoclick.train.data.vision_features import Features
from geoclick.vlms import Vlm


class Questions:
    """The questions of a run, by their number.

    The vision tower is frozen: it sees an image once in the run if the features of all images fit in memory, else
    once for each batch of completions.

    Args:
        vlm: its model must be whole on `device`.
        samples: what is asked.
        answer_format: `json` or `compact`.
        device: of the model.
        autocast: the precision that training computes in.
        limit: bytes that the features of all images may take.

    Attributes:
        bytes: that the features kept for the whole run take.
    """

    def __init__(
        self,
        vlm: Vlm,
        samples: Sequence[Sample],
        *,
        answer_format: str,
        device: torch.device,
        autocast: AbstractContextManager,
        limit: float,
    ) -> None:
        self.samples = samples
        self._vlm, self._device, self._autocast = vlm, device, autocast
        self.image_token = vlm.processor.image_token_id
        self._merge = vlm.processor.image_processor.merge_size**2
        chats = [prompts.messages(sample.query, answer_format=answer_format) for sample in samples]
        self._ids = _encode(vlm.processor, chats)
        self._texts = vlm.processor.apply_chat_template(chats, tokenize=False, add_generation_prompt=True)
        self._paths = [str(sample.root / sample.image) for sample in samples]
        sizes = dict(zip(self._paths, (sample.size for sample in samples), strict=True))
        self._known = vision_features.compute(vlm, sizes, device=device, autocast=autocast, limit=limit)
        self._seen: dict[str, Features] = self._known or {}
        self.bytes = sum(feature.nbytes for feature in self._seen.values())

    def rows(self) -> Dataset:
        """A row a question for TRL: `prompt`, the text that its logs show, and `sample`, the number."""
        return Dataset.from_dict({"prompt": self._texts, "sample": list(range(len(self.samples)))})

    def look(self, numbers: Sequence[int]) -> None:
        """Have the features of these questions' images at hand, until others are asked for."""
        if self._known is None:
            sizes = {self._paths[i]: self.samples[i].size for i in numbers}
            self._seen = vision_features.of_images(
                self._vlm, sizes, device=self._device, autocast=self._autocast
            )

    def ids(self, numbers: Sequence[int]) -> list[list[int]]:
        """The tokens of the prompts, with one image token for each visual one, as `encode_prompts` makes them."""
        found = []
        for i in numbers:
            ids = self._ids[i]
            at = ids.index(self.image_token)
            tokens = int(self._seen[self._paths[i]].grid.prod()) // self._merge
            found.append(ids[:at] + [self.image_token] * tokens + ids[at + 1 :])
        return found

    def vision(self, numbers: Sequence[int], input_ids: torch.Tensor) -> dict[str, Any]:
        """What the model needs beside tokens [N, L] and their mask, on the device of the tokens."""
        chosen = [self._seen[self._paths[i]] for i in numbers]
        joined = vision_features.join(chosen)
        moved = type(joined)(**{name: _moved(value, input_ids.device) for name, value in joined.items()})
        return {
            "mm_token_type_ids": (input_ids == self.image_token).long(),
            "image_grid_thw": torch.stack([feature.grid for feature in chosen]).to(input_ids.device),
            "mm_encoder_outputs": {"image": moved},
        }

    def pictures(self, numbers: Sequence[int]) -> list[list[Image.Image]]:
        """The images themselves, one list a question, for an engine that has a vision tower of its own."""
        return [[Image.fromarray(self.samples[i].read_image())] for i in numbers]


def _encode(processor: Any, chats: list[list[dict]]) -> list[list[int]]:
    """The tokens of chats with one image token each; control tokens inside a query are plain text."""
    return processor.tokenizer.apply_chat_template(
        chats,
        chat_template=processor.chat_template,
        tokenize=True,
        add_generation_prompt=True,
        sanitize_control_tokens=True,
        return_dict=True,
    )["input_ids"]


def _moved(value: Any, device: torch.device) -> Any:
    """Tensors in nested lists on another device."""
    return [_moved(one, device) for one in value] if isinstance(value, list) else value.to(device)
