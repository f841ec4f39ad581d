"""What GeoClick uses of a Qwen-VL processor of transformers, as types."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    import torch
    from PIL.Image import Image


class BackendTokenizer(Protocol):
    """What a fast tokenizer is made of."""

    def to_str(self) -> str:
        """Its file, tokenizer.json."""


class Tokenizer(Protocol):
    """A fast tokenizer."""

    backend_tokenizer: BackendTokenizer
    pad_token_id: int
    padding_side: str
    added_tokens_encoder: Mapping[str, int]

    def __call__(self, text: Sequence[str], *, add_special_tokens: bool) -> Mapping[str, list[list[int]]]:
        """`input_ids` and `attention_mask` of each text."""

    def apply_chat_template(self, conversation: Sequence[Any], **options: Any) -> Any:
        """The chats as text or tokens."""

    def batch_decode(self, sequences: Any, *, skip_special_tokens: bool = False) -> list[str]:
        """The texts of tokens [N, L]."""

    def encode(self, text: str) -> list[int]:
        """The tokens of one text."""


class ImageProcessor(Protocol):
    """Resizes and normalizes images and cuts them into patches."""

    patch_size: int
    merge_size: int
    size: Any

    def to_json_string(self) -> str:
        """Its options."""

    def __call__(
        self,
        images: "Sequence[np.ndarray | Image]",
        *,
        return_tensors: str,
        input_data_format: str | None = None,
    ) -> "Mapping[str, torch.Tensor]":
        """`pixel_values` and `image_grid_thw` (patches in time, height and width) of the images."""


class Processor(Protocol):
    """A tokenizer, an image processor and the chat template that joins them."""

    tokenizer: Tokenizer
    image_processor: ImageProcessor
    chat_template: str
    image_token: str
    image_token_id: int

    def apply_chat_template(self, conversation: Sequence[Any], **options: Any) -> Any:
        """The chats as text, or as the model's inputs."""

    def save_pretrained(self, save_directory: Any) -> Any:
        """Write the processor's files."""
