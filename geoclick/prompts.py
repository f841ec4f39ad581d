"""The chat messages of a query.

The prompts of training have a version that is recorded with every adapter. The zero-shot prompt, for models that never
saw the format of the answers, has a version of its own that is recorded with every evaluation.
"""

from typing import Any

Chat = list[dict[str, Any]]
"""Messages (`role`, `content`) of one conversation, as chat templates take them."""

Schema = dict[str, "str | bool | int | list[str] | Schema"]
"""A JSON schema."""

PROMPT_VERSION = "v1"

THINKING = "enable_thinking"
"""The argument of chat templates that puts a thought before an answer; transformers warns where a template has none."""

INSTRUCTIONS = {
    "json": (
        "Point to: {query}\n"
        'Answer with a JSON list of {{"point_2d": [x, y], "label": "positive" or "negative"}}: positive '
        "points on it, negative points where a mask would spill over, [] if it is not in the image."
    ),
    "compact": "Clicks: {query}",
}
"""The user's turn by answer format: `json` explains the format, for untuned models; `compact` is short."""


ZERO_SHOT_VERSION = "zero-shot-v1"

ZERO_SHOT = """\
This is an overhead image, taken from an aircraft, a drone or a satellite. Target: {query}

Mark the target with points for a segmentation model that turns points into a mask:
- positive points lie on the target, the first one in the middle of its largest part;
- negative points lie on what is not the target, where the mask would otherwise spill over;
- use 1 to 12 points, as few as needed, and one positive point or more for each separate part of the target.

A point is [x, y] in whole numbers from 0 to 1000, relative to the image: x from the left edge (0) to the right edge \
(1000), y from the top edge (0) to the bottom edge (1000), whatever the size of the image in pixels.

Answer with this JSON object only: {{"points": [{{"point_2d": [x, y], "label": "positive" or "negative"}}]}}. If the \
target is not in the image, answer {{"points": []}}."""
"""The user's turn for models that were not trained by GeoClick."""

ZERO_SHOT_LIST = "points"
"""The key of the object that holds the list of points: structured output must be an object."""

ZERO_SHOT_SCHEMA: Schema = {
    "type": "object",
    "properties": {
        ZERO_SHOT_LIST: {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "point_2d": {
                        "type": "array",
                        "items": {"type": "integer"},
                        "minItems": 2,
                        "maxItems": 2,
                    },
                    "label": {"type": "string", "enum": ["positive", "negative"]},
                },
                "required": ["point_2d", "label"],
                "additionalProperties": False,
            },
        }
    },
    "required": [ZERO_SHOT_LIST],
    "additionalProperties": False,
}
"""JSON schema of an answer to ZERO_SHOT."""


def zero_shot(query: str) -> Chat:
    """The chat of a query to a model that was not trained by GeoClick; the image comes first, then the text."""
    text = ZERO_SHOT.format(query=query.strip())
    return [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": text}]}]


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
