"""EarthReason: questions that take thought, each image with a mask and several of them.

    ROOT/SPLIT/images/STEM.jpg      or .png, from 123 to 7,617 pixels a side
    ROOT/SPLIT/labels/STEM.png      what is not zero is the target; all zero where there is none
    ROOT/SPLIT/QAs/STEM.json        {"questions": [...], "answer": [...]}

The published evaluations differ in which question they ask, see ReadOptions. The answers are not read: they give away
what is looked for.

The set: arXiv 2504.09644 (SegEarth-R1).
"""

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from geoclick import masks
from geoclick.datasets.mask_files import encode_fitted, read_target
from geoclick.datasets.question_selection import asked
from geoclick.datasets.reading import (
    LeftOut,
    OnLeftOut,
    ReadOptions,
    file_in,
    image_size,
    inside,
    raise_failures,
)
from geoclick.datasets.sample import Sample
from geoclick.errors import GeoClickError, UsageError

NAME = "earthreason"
FOLDERS = {"images": (".jpg", ".jpeg", ".png"), "labels": (".png",), "QAs": (".json",)}
"""The folders of a split and how names in them end, in upper or lower case."""


def read(
    root: str | Path,
    split: str,
    *,
    options: ReadOptions | None = None,
    on_left_out: OnLeftOut = raise_failures,
) -> Iterator[Sample]:
    """The samples of one split, in the order of the stems and of their questions.

    Args:
        root: the dataset's folder.
        split: train, val or test, a folder in it.
        options: which question of an image is asked; None takes its defaults.
        on_left_out: told of empty questions, and of failures: stems that are not in all three folders, broken files.

    Raises:
        UsageError: the split lacks one of the folders.
        GeoClickError: a file is broken, unless `on_left_out` takes failures.
    """
    root, options = Path(root), options or ReadOptions()
    folder = inside(root, split)
    if missing := [name for name in FOLDERS if not (folder / name).is_dir()]:
        raise UsageError(f"{folder} lacks the folder {missing[0]}; name another --root or --split.")
    return _samples(root, split, folder, options, on_left_out)


def _samples(
    root: Path, split: str, folder: Path, options: ReadOptions, on_left_out: OnLeftOut
) -> Iterator[Sample]:
    files = {name: _by_stem(folder / name, suffixes) for name, suffixes in FOLDERS.items()}
    for stem in sorted(set().union(*files.values())):
        try:
            image, label, questions = (
                _only(f"{split}/{name}", stem, found[stem]) for name, found in files.items()
            )
            size = image_size(file_in(root, image))
            rle = encode_fitted(image, read_target(file_in(root, label)), size)
            texts = read_questions(file_in(root, questions))
        except GeoClickError as error:
            on_left_out(LeftOut(f"{split}/{stem}", "broken image, label or QAs", str(error)))
            continue
        task = "reasoning" if masks.area(rle) else "no_target"
        for sample_id, text in asked(texts, stem, options, on_left_out):
            yield Sample(
                sample_id=sample_id,
                dataset=NAME,
                split=split,
                task=task,
                query=text,
                root=root,
                image=image,
                size=size,
                rle=rle,
            )


def _by_stem(folder: Path, suffixes: tuple[str, ...]) -> dict[str, list[str]]:
    """The names of the files of a folder by their stem, hidden ones left alone."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in folder.iterdir():
        if path.suffix.lower() in suffixes and not path.name.startswith("."):
            found[path.stem].append(path.name)
    return found


def _only(folder: str, stem: str, names: list[str]) -> str:
    """The path of the one file of a stem in a folder; raises GeoClickError when there is none, or another."""
    if len(names) != 1:
        raise GeoClickError(
            f"{folder} holds {len(names)} files of the name {stem}; images, labels and QAs need one each."
        )
    return f"{folder}/{names[0]}"


def read_questions(path: Path) -> list[str]:
    """The questions in a QA file; raises GeoClickError when it is broken."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise GeoClickError(f"{path} cannot be read as JSON ({error}); replace the file.") from error
    questions = content.get("questions") if isinstance(content, dict) else None
    if not isinstance(questions, list) or not all(isinstance(question, str) for question in questions):
        raise GeoClickError(f'{path} must hold {{"questions": [text, ...]}}; mend it.')
    return questions
