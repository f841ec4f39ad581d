"""Click store to training rows: a rendered prompt, a rendered answer and the path of an image."""

from collections import Counter
from collections.abc import Container
from pathlib import Path
from typing import Any

from datasets import Dataset

from geoclick import codec, prompts, store
from geoclick.errors import GeoClickError
from geoclick.vlms import Vlm, resized_size


def build(
    clicks: str | Path,
    root: str | Path,
    vlm: Vlm,
    *,
    answer_format: str,
    max_clicks: int,
    min_iou: float,
    held_out: Container[str] = (),
) -> tuple[Dataset, dict[str, int]]:
    """The rows of a click store for TRL, as prompt and completion.

    Text is rendered here, once; images stay on disk until the collator opens them.

    Args:
        clicks: folder of the click store.
        root: folder that the store's image paths are relative to.
        vlm: gives the chat template, the codec's family and the resized size.
        answer_format: `json` or `compact`.
        max_clicks: clicks of an answer at most; the first ones stay.
        min_iou: rows whose mask after those clicks is worse are left out; rows without a target always stay.
        held_out: images, as the store names them, whose rows are left out.

    Returns:
        A dataset with the columns `images` (a list of one path), `size` ([height, width] in pixels), `prompt` and
        `completion`, and the number of rows left out by reason.

    Raises:
        GeoClickError: no or a broken store, a missing image, or no row left.
    """
    root = Path(root)
    columns: dict[str, list] = {"images": [], "size": [], "prompt": [], "completion": []}
    left_out: Counter[str] = Counter()
    found: dict[str, str] = {}
    for row in store.read(clicks):
        sequence = row.clicks[:max_clicks]
        reason = "held out" if row.image in held_out else store.why_left_out(row, len(sequence), min_iou)
        if reason:
            left_out[reason] += 1
            continue
        if row.image not in found:
            found[row.image] = str(store.existing_image(root, row.image))
        size = (row.height, row.width)
        answer = codec.encode(
            sequence,
            family=vlm.family,
            answer_format=answer_format,
            image_size=size,
            resized_size=resized_size(vlm.processor, size),
        )
        prompt, completion = render(vlm.processor, row.query, answer, answer_format)
        columns["images"].append([found[row.image]])
        columns["size"].append(list(size))
        columns["prompt"].append(prompt)
        columns["completion"].append(completion)
    if not columns["prompt"]:
        raise GeoClickError(
            f"{clicks} has no row to train on; lower min_iou or evaluate_samples, or make the store anew."
        )
    return Dataset.from_dict(columns), dict(left_out)


def render(processor: Any, query: str, answer: str, answer_format: str) -> tuple[str, str]:
    """Prompt and completion of one row through the processor's chat template, each a text with special tokens.

    Raises:
        GeoClickError: the template renders a finished chat in another way than an open one.
    """
    asked = prompts.messages(query, answer_format=answer_format)
    told = prompts.messages(query, answer_format=answer_format, answer=answer)
    prompt = processor.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
    whole = processor.apply_chat_template(told, tokenize=False)
    if not whole.startswith(prompt):
        raise GeoClickError(
            "The model's chat template does not continue its own generation prompt; "
            "train an Instruct checkpoint instead of a Thinking one."
        )
    return prompt, whole[len(prompt) :]
