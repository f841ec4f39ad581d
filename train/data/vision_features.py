"""Features of the frozen vision tower: what it makes of an image, and as inputs of the language model.

With LoRA in the language model only, the tower's output for an image never changes in a run. If those of all images are
cached (cached_features.py), no step needs the image files, the processor or the tower.
"""

from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from transformers.modeling_outputs import ModelOutput

from geoclick.geo import reading
from geoclick.geo.reading import PixelOptions
from geoclick.vlms import encoding
from geoclick.vlms.loading import Vlm

Precision = AbstractContextManager[object]
"""What the model computes in: a `torch.autocast`."""


class ImageInputs(NamedTuple):
    """What the vision tower takes of one image.

    Attributes:
        pixel_values: the patches, [patches, channels * time * height * width].
        grid: patches in time, height and width, int64 [3].
    """

    pixel_values: torch.Tensor
    grid: torch.Tensor


@dataclass(frozen=True)
class VisionFeatures:
    """The vision tower's output for one image.

    Attributes:
        grid: patches in time, height and width, int64 [3].
        fields: what the language model takes, by name: [tokens, hidden], or a list of such tensors (Qwen3-VL's
            deepstack).
        kind: transformers' class that holds them.
    """

    grid: torch.Tensor
    fields: dict[str, torch.Tensor | list[torch.Tensor]]
    kind: type[ModelOutput]

    @property
    def nbytes(self) -> int:
        """Memory that the tensors take."""
        tensors = [t for v in self.fields.values() for t in (v if isinstance(v, list) else [v])]
        return sum(t.nbytes for t in tensors)

    def on_cpu(self) -> "VisionFeatures":
        """A copy in its own memory, independent of the batch that it was computed in."""
        fields = {
            name: [v.cpu().clone() for v in value] if isinstance(value, list) else value.cpu().clone()
            for name, value in self.fields.items()
        }
        return VisionFeatures(self.grid.cpu().clone(), fields, self.kind)


class EncoderOutputs(dict[str, ModelOutput]):
    """`mm_encoder_outputs` in a batch: the vision tower's output by modality.

    PyTorch's DataLoader calls `pin_memory`; on its own it would update a copy of each ModelOutput, which refuses that.
    """

    def pin_memory(self) -> "EncoderOutputs":
        """A copy in page-locked memory."""
        return EncoderOutputs(
            {
                name: type(output)(**{k: _pinned(v) for k, v in output.items()})
                for name, output in self.items()
            }
        )


Tensors = torch.Tensor | list["Tensors"]


def _pinned(value: Tensors) -> Tensors:
    return [_pinned(item) for item in value] if isinstance(value, list) else value.pin_memory()


def of_images(
    vlm: Vlm,
    sizes: dict[str, tuple[int, int]],
    *,
    device: torch.device,
    autocast: Precision,
    pixels: PixelOptions = reading.DEFAULT,
) -> dict[str, VisionFeatures]:
    """The features of some images, on the CPU, computed in one batch.

    Args:
        vlm: its complete model must be on `device`.
        sizes: path of an image to its (height, width) in pixels.
        device: where to compute.
        autocast: the precision that training computes in.
        pixels: how the images are read.

    Raises:
        GeoClickError: an image is missing, truncated or of another size.
    """
    return of_inputs(vlm, image_inputs(vlm, sizes, pixels), device=device, autocast=autocast)


def image_inputs(
    vlm: Vlm, sizes: dict[str, tuple[int, int]], pixels: PixelOptions = reading.DEFAULT
) -> dict[str, ImageInputs]:
    """The vision tower's inputs for some images; arguments and errors as in `of_images`."""
    images = [reading.read_image(path, size=size, pixels=pixels).copy() for path, size in sizes.items()]
    inputs = encoding.process_images(vlm.processor, images)
    grids = inputs["image_grid_thw"]
    parts = torch.split(inputs["pixel_values"], grids.prod(dim=1).tolist())
    return dict(zip(sizes, map(ImageInputs, parts, torch.unbind(grids)), strict=True))


def of_inputs(
    vlm: Vlm,
    inputs: dict[str, ImageInputs],
    *,
    device: torch.device,
    autocast: Precision,
) -> dict[str, VisionFeatures]:
    """The features of images, given the vision tower's inputs by path; arguments as in `of_images`."""
    pixel_values = torch.cat([one.pixel_values for one in inputs.values()])
    grids = torch.stack([one.grid for one in inputs.values()])
    with torch.no_grad(), autocast:
        output = vlm.model.model.get_image_features(
            pixel_values.to(device), grids.to(device), return_dict=True
        )
    return {path: feature.on_cpu() for path, feature in zip(inputs, split(output, grids), strict=True)}


def split(output: ModelOutput, grids: torch.Tensor) -> list[VisionFeatures]:
    """The output of the vision tower by image; the inverse of `join`.

    Args:
        output: of the model's `get_image_features`.
        grids: patches of the images in time, height and width, int64 [images, 3].
    """
    names = [name for name in ("pooler_output", "deepstack_features") if output.get(name) is not None]
    features = []
    for index, grid in enumerate(torch.unbind(grids)):
        # The first is a sequence over images, the second a list over layers of such sequences.
        fields: dict[str, Any] = {
            name: output[name][index] if name == "pooler_output" else [v[index] for v in output[name]]
            for name in names
        }
        features.append(VisionFeatures(grid, fields, type(output)))
    return features


def join(features: Iterable[VisionFeatures]) -> ModelOutput:
    """The output of the vision tower for a batch of images."""
    features = list(features)
    fields: dict[str, Any] = {}
    for name, value in features[0].fields.items():
        if isinstance(value, list):
            fields[name] = [[f.fields[name][layer] for f in features] for layer in range(len(value))]
        else:
            fields[name] = [f.fields[name] for f in features]
    return features[0].kind(**fields)


def encoder_outputs(features: Iterable[VisionFeatures]) -> EncoderOutputs:
    """The `mm_encoder_outputs` of a batch of images."""
    return EncoderOutputs(image=join(features))
