"""Chats to tokens: the one prompt encoder, of training, of the evaluation during it, and of inference.

Control tokens inside a query (`<|im_end|>`, `<|image_pad|>`) are encoded as plain text: a query from a dataset can
neither end its own turn nor stand for an image.
"""

import re
from collections.abc import Container, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from geoclick import prompts
from geoclick.errors import GeoClickError
from geoclick.prompts import Chat
from geoclick.vlms import chat_texts
from geoclick.vlms.chat_texts import texts_of, without_thoughts
from geoclick.vlms.loading import Vlm, resized_size
from geoclick.vlms.processor import Processor


class Example(NamedTuple):
    """The tokens of a chat with an answer; each image is one image token.

    Attributes:
        prompt_ids: from the start to the header of the answer.
        completion_ids: the answer and the token that ends its turn, which is the last one that a model generates.
    """

    prompt_ids: list[int]
    completion_ids: list[int]


def encode_prompts(processor: Processor, chats: Sequence[Chat]) -> list[list[int]]:
    """The tokens of chats that end with the user's turn, ready for generation; each image is one image token."""
    return _tokenize_prompts(
        processor, chats, chat_texts.render(processor, chats, add_generation_prompt=True)
    )


def encode_examples(processor: Processor, chats: Sequence[Chat]) -> list[Example]:
    """The tokens of chats that end with an answer, which must hold no control tokens.

    Raises:
        GeoClickError: the chat template renders a finished chat differently from an open one, puts a thought before
            the answer, or ends no turn.
    """
    questions = [chat[:-1] for chat in chats]
    opened = chat_texts.render(processor, questions, add_generation_prompt=True)
    finished = chat_texts.render(processor, chats)
    written = ["".join(texts_of(chat[-1:])) for chat in chats]
    for text, prompt, answer in zip(finished, opened, written, strict=True):
        if not text.startswith(prompt) or not text[len(prompt) :].lstrip().startswith(answer.strip()):
            raise GeoClickError(
                "The model's chat template does not put the answer right after its own generation prompt; train an "
                "Instruct checkpoint instead of a Thinking one."
            )
    answers = [text[len(prompt) :] for text, prompt in zip(finished, opened, strict=True)]
    control = set(processor.tokenizer.added_tokens_encoder.values())
    completions = [_until_end_of_turn(ids, control) for ids in _tokenize(processor, answers)]
    return list(map(Example, _tokenize_prompts(processor, questions, opened), completions))


def _tokenize(processor: Processor, texts: Sequence[str]) -> list[list[int]]:
    """The tokens of texts; of equal ones, such as the same question of many images, one is tokenized."""
    distinct = list(dict.fromkeys(texts))
    tokens = processor.tokenizer(distinct, add_special_tokens=False)["input_ids"]
    by_text = dict(zip(distinct, tokens, strict=True))
    return [list(by_text[text]) for text in texts]


def _until_end_of_turn(ids: list[int], control: Container[int]) -> list[int]:
    """The tokens of a finished turn up to its first control token: the newline of templates is never generated."""
    for index, token in enumerate(ids):
        if token in control:
            return ids[: index + 1]
    raise GeoClickError(
        "The model's chat template ends no turn with a control token, so that answers would never end; "
        "train an Instruct checkpoint."
    )


def _tokenize_prompts(processor: Processor, chats: Sequence[Chat], texts: Sequence[str]) -> list[list[int]]:
    """The tokens of chats, given their rendered texts.

    Texts are tokenized in one batch, which is several times as fast as one by one. Only chats that hold the text of a
    control token are rendered again, with those tokens marked as plain text.
    """
    tokens = _tokenize(processor, texts)
    control = re.compile("|".join(map(re.escape, processor.tokenizer.added_tokens_encoder)))
    marked = [i for i, chat in enumerate(chats) if any(control.search(text) for text in texts_of(chat))]
    if marked:
        sanitized = processor.tokenizer.apply_chat_template(
            [chats[i] for i in marked],
            chat_template=processor.chat_template,
            tokenize=True,
            add_generation_prompt=True,
            sanitize_control_tokens=True,
            return_dict=True,
            **without_thoughts(processor),
        )["input_ids"]
        for i, ids in zip(marked, sanitized, strict=True):
            tokens[i] = ids
    return tokens


def visual_tokens(processor: Processor, size: tuple[int, int]) -> int:
    """The number of tokens of an image of `size` (height, width) in pixels."""
    side = processor.image_processor.patch_size * processor.image_processor.merge_size
    height, width = resized_size(processor, size)
    return (height // side) * (width // side)


def expand_image(ids: list[int], image_token: int, count: int) -> list[int]:
    """Tokens with their first image token repeated `count` times, one for each visual token."""
    place = ids.index(image_token)
    return [*ids[:place], *[image_token] * count, *ids[place + 1 :]]


def process_images(processor: Processor, images: Sequence[np.ndarray]) -> dict[str, torch.Tensor]:
    """The vision tower's inputs, `pixel_values` and `image_grid_thw`, for images, uint8 [H, W, 3].

    Without the order of the axes the processor would take three rows of pixels for three channels.
    """
    # PyTorch warns of arrays that are read-only, and refuses negative strides.
    pixels = [np.require(image, requirements=["C", "W"]) for image in images]
    return dict(
        processor.image_processor(images=pixels, return_tensors="pt", input_data_format="channels_last")
    )


class Prompts(NamedTuple):
    """Prompts about images.

    Attributes:
        tokens: of each prompt, with one image token for each visual token.
        owners: the image of each prompt; every image has one or more.
        pixels: the vision tower's inputs of the images, see `process_images`.
    """

    tokens: list[list[int]]
    owners: list[int]
    pixels: dict[str, torch.Tensor]


def prompts_of(
    vlm: Vlm, images: Sequence[np.ndarray], queries: Sequence[str], *, answer_format: str
) -> Prompts:
    """The prompts of queries; an array that occurs several times in `images` is one image.

    Args:
        vlm: the model.
        images: uint8 [H, W, 3] RGB, one for each query; sizes may differ.
        queries: the user's texts.
        answer_format: `json` or `compact`.
    """
    distinct = {id(image): image for image in images}
    places = {key: place for place, key in enumerate(distinct)}
    owners = [places[id(image)] for image in images]
    pixels = process_images(vlm.processor, list(distinct.values()))
    counts = pixels["image_grid_thw"].prod(dim=1) // vlm.processor.image_processor.merge_size**2
    chats = [prompts.messages(query, answer_format=answer_format) for query in queries]
    encoded = encode_prompts(vlm.processor, chats)
    tokens = [
        expand_image(ids, vlm.processor.image_token_id, int(counts[owner]))
        for ids, owner in zip(encoded, owners, strict=True)
    ]
    return Prompts(tokens, owners, pixels)


def model_inputs(
    vlm: Vlm, images: Sequence[np.ndarray], queries: Sequence[str], *, answer_format: str
) -> dict[str, torch.Tensor]:
    """The model's inputs for one batch of questions, on its device.

    Args:
        vlm: the model.
        images: uint8 [H, W, 3] RGB, one for each query; sizes may differ.
        queries: the user's texts.
        answer_format: `json` or `compact`.

    Returns:
        `input_ids`, `attention_mask` and `mm_token_type_ids` (1 on image tokens), int64 [N, L], padded on the left so
        that every answer starts at the same position; `pixel_values` and `image_grid_thw` [N, 3].
    """
    processor = vlm.processor
    pixels = process_images(processor, images)
    grids, merge = pixels["image_grid_thw"], processor.image_processor.merge_size
    chats = [prompts.messages(query, answer_format=answer_format) for query in queries]
    tokens = [
        torch.tensor(expand_image(ids, processor.image_token_id, int(grid.prod()) // merge**2))
        for ids, grid in zip(encode_prompts(processor, chats), grids, strict=True)
    ]
    input_ids, mask = pad_left(tokens, processor.tokenizer.pad_token_id)
    inputs = {
        "input_ids": input_ids,
        "attention_mask": mask,
        "mm_token_type_ids": (input_ids == processor.image_token_id).long(),
        **pixels,
    }
    return {name: value.to(vlm.device) for name, value in inputs.items()}


def pad_left(tokens: Sequence[torch.Tensor], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Sequences of tokens as one batch, padded on the left, and its mask (1 where there is a token), [N, L] each."""
    ids = pad_sequence(list(tokens), batch_first=True, padding_value=pad, padding_side="left")
    mask = pad_sequence([torch.ones_like(t) for t in tokens], batch_first=True, padding_side="left")
    return ids, mask
