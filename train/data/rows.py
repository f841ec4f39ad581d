"""Click store to training rows: a rendered prompt, a rendered answer and the path of an image."""

from collections import Counter, defaultdict
from collections.abc import Container, Iterable
from pathlib import Path
from typing import Any

from datasets import Dataset

from geoclick import codec, prompts, store
from geoclick.clicks import Click
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
    raw: bool = False,
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
        raw: add what `geoclick.train.augmentation.augment` makes rows anew from.

    Returns:
        A dataset with the columns `images` (a list of one path), `size` ([height, width] in pixels), `prompt` and
        `completion`, and the number of rows left out by reason. Raw rows have `sample_id`, `task`, `image`, `query`,
        `mask` (the counts of its RLE) and `clicks` (lists of x, y and 1 or 0) too.

    Raises:
        GeoClickError: no or a broken store, a missing image, or no row left.
    """
    root = Path(root)
    columns: dict[str, list] = defaultdict(list)
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
        prompt, completion = write(
            vlm.processor, vlm.family, row.query, sequence, size=size, answer_format=answer_format
        )
        values = {
            "images": [found[row.image]],
            "size": list(size),
            "prompt": prompt,
            "completion": completion,
        }
        if raw:
            values |= {name: getattr(row, name) for name in ("sample_id", "task", "image", "query")}
            values |= {"mask": row.mask["counts"], "clicks": [list(map(float, click)) for click in sequence]}
        for name, value in values.items():
            columns[name].append(value)
    if not columns:
        raise GeoClickError(
            f"{clicks} has no row to train on; lower min_iou or evaluate_samples, or make the store anew."
        )
    return Dataset.from_dict(columns), dict(left_out)


def write(
    processor: Any,
    family: str,
    query: str,
    clicks: Iterable[Click],
    *,
    size: tuple[int, int],
    answer_format: str,
) -> tuple[str, str]:
    """Prompt and completion of a query and its clicks on a picture of `size` (height, width)."""
    answer = codec.encode(
        clicks,
        family=family,
        answer_format=answer_format,
        image_size=size,
        resized_size=resized_size(processor, size),
    )
    return render(processor, query, answer, answer_format)


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
