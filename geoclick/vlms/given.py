"""Answers whose beginning is given: its tokens belong to the prompt, and what follows them is taught or generated."""

from collections.abc import Sequence
from itertools import takewhile

from geoclick import chat_rows
from geoclick.chat_rows import ChatRow
from geoclick.codec import Frame
from geoclick.errors import GeoClickError
from geoclick.vlms import encoding
from geoclick.vlms.encoding import Example
from geoclick.vlms.processor import Processor

CONTINUATIONS = {
    "json": ("]", ', {"point_2d": [1, 1], "label": "positive"}]'),
    "compact": ("", " -(1,1)", "; +(1,1)"),
}
"""What may follow the beginning of an answer: its end, a click of the same part, a click of the next part."""


def given_tokens(processor: Processor, beginning: str, answer_format: str) -> list[int]:
    """The tokens of the beginning of an answer that are the same whatever follows.

    The last token of a click may be another one where a semicolon or bracket follows, such as `);` in place of `)`. It
    tells what follows, so that it is not given.

    Args:
        processor: of the model.
        beginning: see `codec.Frame.beginning`; empty for none.
        answer_format: `json` or `compact`.
    """
    if not beginning:
        return []
    texts = [beginning + more for more in CONTINUATIONS[answer_format]]
    tokens: list[list[int]] = processor.tokenizer(texts, add_special_tokens=False)["input_ids"]
    return [
        column[0] for column in takewhile(lambda column: len(set(column)) == 1, zip(*tokens, strict=False))
    ]


def with_given(processor: Processor, example: Example, beginning: str, answer_format: str) -> Example:
    """An example whose prompt ends with the given tokens of its answer, which then have no loss.

    Raises:
        GeoClickError: the chat template writes something before the answer.
    """
    given = given_tokens(processor, beginning, answer_format)
    prompt, completion = example
    if completion[: len(given)] != given:
        raise GeoClickError(
            "The model's chat template changes the beginning of an answer, so that given clicks cannot be left out of "
            "the loss; use another checkpoint."
        )
    return Example(prompt + given, completion[len(given) :])


def encode_rows(processor: Processor, rows: Sequence[ChatRow], frames: Sequence[Frame]) -> list[Example]:
    """The tokens of rows of a click store, of which those of given clicks belong to the prompts.

    Args:
        processor: the VLM's.
        rows: usable rows.
        frames: how the clicks of each are written.

    Raises:
        GeoClickError: as in `encoding.encode_examples` and `with_given`.
    """
    chats = [chat_rows.chat(one.row.query, one.parts, frame) for one, frame in zip(rows, frames, strict=True)]
    examples = encoding.encode_examples(processor, chats)
    return [
        with_given(processor, example, chat_rows.given_text(one, frame), frame.answer_format)
        for one, frame, example in zip(rows, frames, examples, strict=True)
    ]
