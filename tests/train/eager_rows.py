"""All rows of a source rendered before the first step, straight from its store: what lazy rows must equal."""

from collections import Counter
from pathlib import Path

import numpy as np

from geoclick import chat_rows, files, store
from geoclick.geo import reading
from geoclick.train.augmentation.image_views import shown_images
from geoclick.train.data import chat_files, task_weights
from geoclick.train.data.lazy_rows import LazyRows
from geoclick.vlms import encoding


class EagerRows(LazyRows):
    """Rendered rows in a list."""

    def __init__(self, rows):
        self.rows = rows

    def __len__(self):
        return len(self.rows)

    def __getitems__(self, indices):
        return [dict(self.rows[index]) for index in indices]

    def images(self, index):
        return self.rows[index]["images"], self.rows[index]["size"]

    def text_lengths(self, augmentation=None):
        rows = map(augmentation.longest, self.rows) if augmentation else self.rows
        return np.array([[len(row["prompt_ids"]), len(row["completion_ids"])] for row in rows])


def of_store(
    clicks, root, vlm, *, answer_format="compact", max_clicks=6, min_iou=0.0, held_out=(), raw=False
):
    """The rows of a click store."""
    rows = []
    stored = (row for row in store.read(clicks) if row.image not in held_out)
    for one in chat_rows.usable(stored, max_clicks=max_clicks, min_iou=min_iou, left_out=Counter()):
        chat = chat_rows.chat(one.row.query, one.parts, vlm.frame(one.size, answer_format))
        (example,) = encoding.encode_examples(vlm.processor, [chat])
        row = {
            "images": [str(Path(root, one.row.image).resolve())],
            "size": list(one.size),
            **example._asdict(),
            "kind": task_weights.kind_of(one.parts),
        }
        if raw:
            row |= {name: getattr(one.row, name) for name in ("sample_id", "task", "image", "query")}
            row |= {"mask": one.row.mask["counts"], "answer_format": answer_format}
            row |= {"clicks": [list(map(float, click)) for click in one.clicks]}
            row |= {"parts": [len(part) for part in one.parts], "given": one.given}
        rows.append(row)
    return EagerRows(rows)


def of_chats(path, root, vlm):
    """The rows of a file of chats, all of which can be learned."""
    rows = []
    for where, record in chat_files.records(Path(path)):
        chat, images = chat_files.parse(record, Path(root), where)
        (example,) = encoding.encode_examples(vlm.processor, [chat])
        sides = [side for image in images for side in reading.image_size(files.inside(Path(root), image))]
        rows.append({"images": images, "size": sides, **example._asdict()})
    return EagerRows(rows)


def same(lazy, eager, *, without=()):
    """Whether rows are equal, and what is known of them without rendering them."""
    assert len(lazy) == len(eager)
    rows = [{key: value for key, value in row.items() if key not in without} for row in lazy]
    assert rows == [{key: value for key, value in row.items() if key not in without} for row in eager]
    for index, row in enumerate(eager):
        assert lazy.images(index) == (row["images"], row["size"])
        assert lazy.sizes(index) == [image.size for image in shown_images(row)]
    return True
