"""Selecting which of several questions about one target are asked."""

import hashlib
from collections.abc import Sequence

from geoclick.datasets.reading import LeftOut, OnLeftOut, ReadOptions


def select(
    questions: Sequence[str], target: str, options: ReadOptions, on_left_out: OnLeftOut
) -> list[tuple[str, str]]:
    """The questions about a target that are asked, as (sample id, text).

    Args:
        questions: all of them, in the dataset's order; empty ones are never asked.
        target: unique within dataset and split. The id of question N is TARGET/N, whichever questions are asked.
        options: `question` and `question_seed`; a random choice depends on the seed and the target only.
        on_left_out: called for empty questions, and for a target without questions.
    """
    numbered = []
    for number, question in enumerate(questions, start=1):
        # Lone surrogates, which JSON and pickles can hold, cannot be written to a file.
        text = question.encode("utf-8", "replace").decode().strip()
        if text:
            numbered.append((f"{target}/{number}", text))
        else:
            on_left_out(LeftOut(f"{target}/{number}", "empty question"))
    if not questions:
        on_left_out(LeftOut(target, "no question"))
    if options.question == "random" and numbered:
        digest = hashlib.sha256(f"{options.question_seed} {target}".encode(errors="replace")).digest()
        return [numbered[int.from_bytes(digest[:8]) % len(numbered)]]
    return numbered[:1] if options.question == "first" else numbered
