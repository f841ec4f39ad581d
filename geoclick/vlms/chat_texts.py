"""Chats as text. A chat template runs once for all chats that differ in nothing but what their turns say.

A template in Jinja takes some 70 microseconds a chat, as long as all other work on a training row together.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence

from geoclick.prompts import THINKING, Chat
from geoclick.vlms.processor import Processor

FEW = 4
"""Chats of one form from which the form is rendered first."""

PLACEHOLDER = "\ue000{}\ue001"
"""Stands for a text in a form; the characters are private ones, which no text of ours has."""

_SPECIAL = re.compile("[<\ue000\ue001]")
"""Templates look for tags such as `</think>` inside texts."""

Form = tuple[tuple[str, tuple[str, ...]], ...]
"""The role of each turn, and the types of its parts."""


def render(processor: Processor, chats: Sequence[Chat], *, add_generation_prompt: bool = False) -> list[str]:
    """The texts that the processor's chat template makes of chats, without a thought before the answer.

    Args:
        processor: of the model.
        chats: the content of each turn is a list of parts.
        add_generation_prompt: end with the header of the answer.
    """

    def by_template(some: Sequence[Chat]) -> list[str]:
        rendered: list[str] = processor.apply_chat_template(
            some, tokenize=False, add_generation_prompt=add_generation_prompt, **without_thoughts(processor)
        )
        return rendered

    texts = [tuple(texts_of(chat)) for chat in chats]
    forms: defaultdict[Form | None, list[int]] = defaultdict(list)
    for place, chat in enumerate(chats):
        forms[_form(chat) if all(map(_is_plain, texts[place])) else None].append(place)
    result = [""] * len(chats)
    for form, places in forms.items():
        between = None
        if form is not None and len(places) >= FEW:
            first = places[0]
            with_placeholders, expected = by_template([_with_placeholders(form), chats[first]])
            between = _between(with_placeholders, expected, texts[first])
        if between is None:
            rendered = by_template([chats[place] for place in places])
        else:
            rendered = [_fill(between, texts[place]) for place in places]
        for place, text in zip(places, rendered, strict=True):
            result[place] = text
    return result


def texts_of(chat: Chat) -> Iterator[str]:
    """What the turns of a chat say, in order."""
    for message in chat:
        yield from (part["text"] for part in message["content"] if part["type"] == "text")


def without_thoughts(processor: Processor) -> dict[str, bool]:
    """The argument of the chat template that leaves out thoughts, if it has one."""
    return {THINKING: False} if THINKING in processor.chat_template else {}


def _form(chat: Chat) -> Form:
    return tuple((message["role"], tuple(part["type"] for part in message["content"])) for message in chat)


def _is_plain(text: str) -> bool:
    """Whether templates write a text as it is: they trim texts, leave out empty ones, and look for tags."""
    return text != "" and not text[0].isspace() and not text[-1].isspace() and not _SPECIAL.search(text)


def _with_placeholders(form: Form) -> Chat:
    """A chat of a form, with a placeholder for each text."""
    chat: Chat = [{"role": role, "content": [{"type": kind} for kind in kinds]} for role, kinds in form]
    parts = [part for message in chat for part in message["content"] if part["type"] == "text"]
    for number, part in enumerate(parts):
        part["text"] = PLACEHOLDER.format(number)
    return chat


def _between(with_placeholders: str, rendered: str, texts: tuple[str, ...]) -> list[str] | None:
    """What a template writes around the texts of chats of one form.

    Args:
        with_placeholders: the rendered form.
        rendered: a chat of the form.
        texts: of that chat.

    Returns:
        A list of one more than the texts; None if the template does not write each text once, in order and as it is.
    """
    pieces = re.split(PLACEHOLDER.format("([0-9]+)"), with_placeholders)
    is_whole = pieces[1::2] == [str(number) for number in range(len(texts))]
    return pieces[::2] if is_whole and _fill(pieces[::2], texts) == rendered else None


def _fill(between: list[str], texts: tuple[str, ...]) -> str:
    """The pieces of a form with texts between them."""
    joined = [between[0]]
    for text, after in zip(texts, between[1:], strict=True):
        joined += text, after
    return "".join(joined)
