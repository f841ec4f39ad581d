"""The chat messages of a query; the version of the prompts is recorded with every adapter."""

from typing import Any

Chat = list[dict[str, Any]]
"""Messages (`role`, `content`) of one conversation, as chat templates take them."""

PROMPT_VERSION = "v1"

INSTRUCTIONS = {
    "json": (
        "Point to: {query}\n"
        'Answer with a JSON list of {{"point_2d": [x, y], "label": "positive" or "negative"}}: positive '
        "points on it, negative points where a mask would spill over, [] if it is not in the image."
    ),
    "compact": "Clicks: {query}",
}
"""The user's turn by answer format: `json` explains the format, for untuned models; `compact` is short."""


def messages(query: str, *, answer_format: str, answer: str | None = None) -> Chat:
    """The chat of one sample, for `processor.apply_chat_template`; the image comes first, then the text.

    Args:
        query: the user's text.
        answer_format: `json` or `compact`.
        answer: the assistant's turn, for training; None leaves it to be generated.
    """
    text = INSTRUCTIONS[answer_format].format(query=query.strip())
    chat: Chat = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": text}]}]
    if answer is not None:
        chat.append({"role": "assistant", "content": [{"type": "text", "text": answer}]})
    return chat
