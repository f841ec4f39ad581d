"""Vision features in the cache folder: computed once, memory-mapped by all processes of a node and by later runs.

The features of a run's images are a folder, named by the weights of the vision tower, what it computes in, the pixel
limits and the bytes of all images. A file holds those of one batch, so that they have the same bits however often a job
was interrupted and however many processes share the work. The folder is locked while a run uses it; where the folders
of all runs would exceed the limit, those that are not in use are deleted, the oldest first.
"""

import fcntl
import hashlib
import importlib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, Protocol

import safetensors
import safetensors.torch
import torch
import transformers

from geoclick import files
from geoclick.errors import GeoClickError
from geoclick.geo import reading
from geoclick.geo.reading import PixelOptions
from geoclick.jobs import processes
from geoclick.progress_bar import track
from geoclick.train.data import cache_folder, vision_features
from geoclick.train.data.vision_features import Precision, VisionFeatures
from geoclick.vlms.families import tower_of
from geoclick.vlms.loading import Vlm, resized_size

BATCH = 16
"""Images of a file."""
KIND = "kind"
"""Key of a file's metadata: the class that holds the features."""
IN_USE = "in-use"
"""File that every process with the features locks."""
LOCK = "lock"
"""File that a process locks while it deletes features of other runs."""


class CachedFeatures(Mapping[str, VisionFeatures]):
    """Vision features by the path of an image; a process reads the pages of the files that it needs.

    Args:
        folder: of the features.
        paths: of all images, sorted.

    Attributes:
        folder: the same.
        nbytes: size of all files.
    """

    def __init__(self, folder: Path, paths: Sequence[str]) -> None:
        self.folder, self._paths = folder, paths
        self._places = {path: divmod(place, BATCH) for place, path in enumerate(paths)}
        self._files: dict[int, TensorFile] = {}
        self.nbytes = cache_folder.size_of(folder)

    def __len__(self) -> int:
        """Number of images."""
        return len(self._places)

    def __iter__(self) -> Iterator[str]:
        """The paths of the images."""
        return iter(self._places)

    def __getitem__(self, path: str) -> VisionFeatures:
        """The features of an image, memory-mapped."""
        batch, number = self._places[path]
        if batch not in self._files:
            self._files[batch] = _open(file_of(self.folder, batch))
        return _read(self._files[batch], number)

    def __reduce__(self) -> tuple[type["CachedFeatures"], tuple[Path, Sequence[str]]]:
        """A process that gets the features opens the files."""
        return CachedFeatures, (self.folder, self._paths)


def compute(
    vlm: Vlm,
    sizes: dict[str, tuple[int, int]],
    *,
    device: torch.device,
    autocast: Precision,
    limit: float,
    pixels: PixelOptions = reading.DEFAULT,
) -> CachedFeatures | None:
    """The features of every image, or None if they would take more than `limit`.

    Args:
        vlm: its complete model must be on `device`.
        sizes: path of an image to its (height, width) in pixels.
        device: where to compute.
        autocast: the precision that training computes in.
        limit: bytes; the need is estimated from the first batch and the sizes of all images.
        pixels: how the images are read.

    Raises:
        GeoClickError: an image is missing, truncated or of another size, or the cache folder cannot be written.
    """
    if limit <= 0 or not sizes:
        return None
    paths = sorted(sizes)

    def batch_of(number: int) -> dict[str, VisionFeatures]:
        some = {path: sizes[path] for path in paths[number * BATCH : (number + 1) * BATCH]}
        return vision_features.of_images(vlm, some, device=device, autocast=autocast, pixels=pixels)

    first = batch_of(0)
    areas = {path: _area(vlm, sizes[path]) for path in paths}
    per_pixel = sum(f.nbytes for f in first.values()) / sum(areas[path] for path in first)
    need = per_pixel * sum(areas.values())
    if need > limit:
        return None
    folder = _folder(vlm, paths, device, autocast, pixels)
    _use(folder)
    _make_room(folder, limit - need)
    count = -(-len(paths) // BATCH)
    # Each process begins at another place, and waits for a file only where another one is writing it.
    begin = count * processes.rank() // processes.count()
    for number in track(_rotated(count, begin), "Vision features", count, transient=True, shown=count > 8):
        with cache_folder.missing(file_of(folder, number)) as partial:
            if partial is not None:
                _write(partial, list((batch_of(number) if number else first).values()))
    return CachedFeatures(folder, paths)


def file_of(folder: Path, batch: int) -> Path:
    """The file of a batch of images."""
    return folder / f"{batch:06d}.safetensors"


def _rotated(count: int, begin: int) -> list[int]:
    return [*range(begin, count), *range(begin)]


def _area(vlm: Vlm, size: tuple[int, int]) -> int:
    height, width = resized_size(vlm.processor, size)
    return height * width


def _folder(
    vlm: Vlm, paths: Sequence[str], device: torch.device, autocast: Precision, pixels: PixelOptions
) -> Path:
    """The folder of the features of some images."""
    tower = hashlib.sha256()
    for name, weight in vlm.model.named_parameters():
        if tower_of(name) in ("vision", "projector"):
            tower.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
            tower.update(weight.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    precision = autocast.fast_dtype if isinstance(autocast, torch.autocast) and autocast._enabled else None
    content = [
        tower.hexdigest(),
        str(vlm.model.config.vision_config._attn_implementation),
        [str(precision), device.type, torch.__version__, transformers.__version__],
        vlm.processor.image_processor.to_json_string(),
        repr(pixels),
        [files.sha256(Path(path)) for path in paths],
    ]
    return cache_folder.path("features", content, "")


_held: list[BinaryIO] = []
"""Locks of this process, until it ends."""


def _use(folder: Path) -> None:
    """Lock a folder against deletion until this process ends."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / IN_USE).open("ab")
    except OSError as error:
        raise GeoClickError(
            f"The cache folder {folder} is not writable ({error.strerror}); set GEOCLICK_CACHE to another folder, or "
            "give --feature-memory-gb 0."
        ) from error
    fcntl.flock(file, fcntl.LOCK_SH)
    os.utime(folder)
    _held.append(file)


def _make_room(folder: Path, room: float) -> None:
    """Delete the folders of other runs, the oldest first, until the others take at most `room` bytes."""
    with (folder.parent / LOCK).open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        others = [path for path in folder.parent.iterdir() if path.is_dir() and path != folder]
        others.sort(key=lambda path: path.stat().st_mtime)
        taken = sum(map(cache_folder.size_of, others))
        for other in others:
            if taken > room:
                taken -= _delete_unused(other)
    if taken > room and processes.is_first():
        print(
            f"note: the vision features of jobs that are running take {taken / 1e9:.2f} GB; with those of this run, "
            f"{folder.parent} exceeds --feature-memory-gb."
        )


def _delete_unused(folder: Path) -> int:
    """Delete a folder of features unless a process uses it; returns the number of bytes."""
    with (folder / IN_USE).open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return 0
        size = cache_folder.size_of(folder)
        shutil.rmtree(folder)
        return size


def _write(path: Path, features: Sequence[VisionFeatures]) -> None:
    tensors: dict[str, torch.Tensor] = {}
    for number, one in enumerate(features):
        tensors[f"{number} grid"] = one.grid
        for name, value in one.fields.items():
            if isinstance(value, list):
                tensors |= {f"{number} {name} {layer}": part for layer, part in enumerate(value)}
            else:
                tensors[f"{number} {name}"] = value
    kind = features[0].kind
    safetensors.torch.save_file(tensors, path, {KIND: f"{kind.__module__} {kind.__name__}"})


class TensorFile(Protocol):
    """What `safetensors.safe_open` returns."""

    def keys(self) -> list[str]:
        """The names of the tensors."""

    def get_tensor(self, name: str) -> torch.Tensor:
        """A tensor, memory-mapped."""

    def metadata(self) -> dict[str, str]:
        """The texts in the header."""


def _open(path: Path) -> TensorFile:
    try:
        return safetensors.safe_open(path, framework="pt")
    except (safetensors.SafetensorError, OSError) as error:
        raise GeoClickError(
            f"{path} is damaged or was deleted; delete its folder and rerun the command."
        ) from error


def _read(file: TensorFile, number: int) -> VisionFeatures:
    """The features of one image of a file."""
    fields: dict[str, torch.Tensor | list[torch.Tensor]] = {}
    layers: dict[str, dict[int, torch.Tensor]] = {}
    for key in file.keys():  # noqa: SIM118 (a file handle, not a mapping)
        place, name, *layer = key.split(" ")
        if int(place) != number or name == "grid":
            continue
        if layer:
            layers.setdefault(name, {})[int(layer[0])] = file.get_tensor(key)
        else:
            fields[name] = file.get_tensor(key)
    for name, parts in layers.items():
        fields[name] = [parts[layer] for layer in sorted(parts)]
    module, _, kind = file.metadata()[KIND].partition(" ")
    if not module.startswith("transformers."):
        raise GeoClickError(f"The features hold an unknown class {module}.{kind}; delete the cache folder.")
    return VisionFeatures(
        file.get_tensor(f"{number} grid"), fields, getattr(importlib.import_module(module), kind)
    )
