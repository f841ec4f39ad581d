"""EarthReason: questions that require reasoning; each image has one mask and several questions.

    ROOT/SPLIT/images/STEM.jpg      or .png, from 123 to 7,617 pixels a side
    ROOT/SPLIT/labels/STEM.png      non-zero pixels are the target; all zero if there is no target
    ROOT/SPLIT/QAs/STEM.json        {"questions": [...], "answer": [...]}

The splits are `train`, `val` and `test`. Published evaluations differ in the question that they ask; `--question`
selects it. The answers are not read, since they describe the target.
"""

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from geoclick import masks
from geoclick.datasets import question_selection
from geoclick.datasets.mask_files import encode_resized, read_mask
from geoclick.datasets.reading import LeftOut, OnLeftOut, ReadOptions, file_in, image_size, inside
from geoclick.datasets.sample import Sample
from geoclick.errors import GeoClickError, UsageError

NAME = "earthreason"
FOLDERS = {"images": (".jpg", ".jpeg", ".png"), "labels": (".png",), "QAs": (".json",)}
"""The folders of a split with the suffixes of their files, in upper or lower case."""


def read(root: Path, split: str, options: ReadOptions, on_left_out: OnLeftOut) -> Iterator[Sample]:
    """The samples in the order of the stems, and of the questions of each.

    Empty questions are left out. A stem that is not in all three folders is a failure.
    """
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
                _only(f"{split}/{name}", stem, by_stem[stem]) for name, by_stem in files.items()
            )
            size = image_size(file_in(root, image))
            rle = encode_resized(image, read_mask(file_in(root, label)), size)
            texts = read_questions(file_in(root, questions))
        except GeoClickError as error:
            on_left_out(LeftOut(f"{split}/{stem}", "broken image, label or QAs", str(error)))
            continue
        task = "reasoning" if masks.area(rle) else "no_target"
        for sample_id, text in question_selection.select(texts, stem, options, on_left_out):
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
    """The names of the files of a folder by their stem, without hidden ones."""
    names: dict[str, list[str]] = defaultdict(list)
    for path in folder.iterdir():
        if path.suffix.lower() in suffixes and not path.name.startswith("."):
            names[path.stem].append(path.name)
    return names


def _only(folder: str, stem: str, names: list[str]) -> str:
    """The path of the only file of a stem in a folder; raises GeoClickError if there is none, or a second one."""
    if len(names) != 1:
        raise GeoClickError(
            f"{folder} holds {len(names)} files of the name {stem}; images, labels and QAs need one each."
        )
    return f"{folder}/{names[0]}"


def read_questions(path: Path) -> list[str]:
    """The questions in a QA file; raises GeoClickError if it is broken."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise GeoClickError(f"{path} cannot be read as JSON ({error}); replace the file.") from error
    questions = content.get("questions") if isinstance(content, dict) else None
    if not isinstance(questions, list) or not all(isinstance(question, str) for question in questions):
        raise GeoClickError(f'{path} must hold {{"questions": [text, ...]}}; fix it.')
    return questions
