"""SegEarth-OV's feature upsampler (SimFeatUp, arXiv 2410.01768): a learned joint bilateral filter, in plain PyTorch.

One filter doubles the size of the features again and again, guided by the image, until they have a feature for each
pixel. There is no compiled extension: the filter is a matrix product for each small block of pixels.
"""

import math
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from geoclick.errors import GeoClickError

PREFIX = "upsampler."
"""Of the keys in the published file."""

BLOCK = 8
"""Side in pixels of the blocks that are filtered by one matrix product."""


class JointBilateralFilter(nn.Module):
    """Doubles the size of features, guided by an image.

    Args:
        radius: of the kernel in pixels of the result.
        key_dim: channels in which colors are compared.
    """

    def __init__(self, radius: int = 5, key_dim: int = 32) -> None:
        super().__init__()
        self.radius = radius
        entries = (2 * radius + 1) ** 2
        self.range_temp = nn.Parameter(torch.tensor(0.0))
        self.sigma_spatial = nn.Parameter(torch.tensor(1.0))
        # The published keys count the activation and a dropout as layers.
        self.range_proj = nn.Sequential(
            nn.Conv2d(3, key_dim, 1), nn.GELU(), nn.Identity(), nn.Conv2d(key_dim, key_dim, 1)
        )
        self.fixup_proj = nn.Sequential(
            nn.Conv2d(3 + entries, entries, 1), nn.GELU(), nn.Identity(), nn.Conv2d(entries, entries, 1)
        )

    def forward(self, features: Tensor, guide: Tensor) -> Tensor:
        """Features [B, D, h, w] at the size of a guide [B, 3, 2h, 2w]."""
        blocks = _Blocks((guide.shape[-2], guide.shape[-1]), self.radius, guide.device)
        large = functional.interpolate(features, size=guide.shape[-2:], mode="bicubic", align_corners=False)
        kernels = self._kernel(guide, blocks)
        return torch.stack(
            [_weighted_sum(one, kernel, blocks) for one, kernel in zip(large, kernels, strict=True)]
        )

    def _kernel(self, guide: Tensor, blocks: "_Blocks") -> Tensor:
        """The weights [B, entries, H, W] of each pixel's neighbors, row by row, for a guide [B, 3, H, W]."""
        similarity = torch.stack([_products(keys, blocks) for keys in self.range_proj(guide)])
        weights = torch.softmax(self.range_temp.exp().clamp(1e-4, 1e4) * similarity, dim=1)
        weights = weights * self._gaussian(guide)
        weights = weights / weights.sum(dim=1, keepdim=True).clamp(min=1e-7)
        return weights + 0.1 * self.fixup_proj(torch.cat([weights, guide], dim=1))

    def _gaussian(self, guide: Tensor) -> Tensor:
        """The spatial weights [entries, 1, 1]; the kernel extends from -1 to 1."""
        offsets = torch.linspace(-1, 1, 2 * self.radius + 1, device=guide.device, dtype=guide.dtype).square()
        distances = offsets[:, None] + offsets
        return torch.exp(-distances / (2 * self.sigma_spatial.square())).view(-1, 1, 1)


class JointBilateralUpsampler(nn.Module):
    """Upsamples the projected features of CLIP to the pixels of its input.

    Args:
        dim: channels of the features.
        radius: of the filter.
    """

    def __init__(self, dim: int, radius: int = 5) -> None:
        super().__init__()
        self.dim = dim
        self.up = JointBilateralFilter(radius)
        self.fixup_proj = nn.Sequential(nn.Identity(), nn.Conv2d(dim, dim, 1))

    @torch.no_grad()
    def forward(self, features: Tensor, guide: Tensor) -> Tensor:
        """Upsample features.

        Args:
            features: [B, D, h, w], projected, not normalized.
            guide: the normalized image [B, 3, H, W]; H / h and W / w are the same power of two (16 for ViT-B/16).

        Returns:
            [B, D, H, W], to be normalized at each pixel.

        Raises:
            GeoClickError: the sizes do not fit, or the features are too few for the padding of the filter.
        """
        height, width = features.shape[-2:]
        factor = guide.shape[-2] // height
        doublings = int(math.log2(factor)) if factor else 0
        if 2**doublings != factor or guide.shape[-2:] != (factor * height, factor * width):
            raise GeoClickError(
                f"The feature upsampler cannot bring {height}x{width} features to {guide.shape[-2]}x{guide.shape[-1]} "
                "pixels, since it doubles their size; use it with a CLIP whose patches have 16 pixels, such as "
                "ViT-B/16."
            )
        if 2 * min(height, width) <= self.up.radius:
            raise GeoClickError(
                f"The feature upsampler needs windows of more than {self.up.radius // 2} patches a side, not "
                f"{height}x{width}; use larger windows or no --upsample."
            )
        for _ in range(doublings):
            size = 2 * features.shape[-2], 2 * features.shape[-1]
            features = self.up(features, functional.adaptive_avg_pool2d(guide, size))
        return features + 0.1 * self.fixup_proj(features)


def load(path: Path, device: torch.device | str = "cpu") -> JointBilateralUpsampler:
    """The published upsampler, `xclip_jbu_one_million_aid.ckpt`, in evaluation mode.

    Only tensors and plain values are unpickled. The number of channels and the radius follow from the weights.

    Raises:
        GeoClickError: the file is missing, damaged, holds code, or is no such upsampler.
    """
    from geoclick.weight_files import read_state

    state = read_state(path, "upsampler")
    weights = {key.removeprefix(PREFIX): value for key, value in state.items()}
    final, first = weights.get("fixup_proj.1.weight"), weights.get("up.fixup_proj.0.weight")
    if final is None or first is None:
        raise GeoClickError(
            f"{path} is not SegEarth-OV's feature upsampler of one filter; give xclip_jbu_one_million_aid.ckpt."
        )
    model = JointBilateralUpsampler(final.shape[0], (math.isqrt(first.shape[0]) - 1) // 2)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise GeoClickError(
            f"{path} has other weights than SegEarth-OV's feature upsampler; give xclip_jbu_one_million_aid.ckpt."
        ) from error
    return model.float().eval().requires_grad_(False).to(device)


class _Blocks:
    """Blocks of BLOCK x BLOCK pixels with the neighbors of all their pixels, so that filtering is matrix products.

    A pixel has (2r + 1)^2 neighbors, but the neighbors of a block overlap: they are (BLOCK + 2r)^2 for BLOCK^2 pixels.

    Args:
        size: (height, width) of the image.
        radius: r.
    """

    def __init__(self, size: tuple[int, int], radius: int, device: torch.device) -> None:
        self.size, self.radius = size, radius
        self.side = BLOCK + 2 * radius
        self.missing = [-length % BLOCK for length in size]
        inside = torch.arange(BLOCK, device=device)
        offset = torch.arange(2 * radius + 1, device=device)
        line = inside[:, None] + offset
        self.index = (line[:, None, :, None] * self.side + line[None, :, None, :]).reshape(BLOCK**2, -1)
        """Of each pixel's neighbors, row by row, among those of its block [BLOCK^2, (2r + 1)^2]."""

    def rows(self, values: Tensor) -> Iterator[Tensor]:
        """The values [C, H, W] of the pixels of a row of blocks [blocks, BLOCK^2, C], one row after another."""
        lines = functional.pad(values, (0, self.missing[1], 0, self.missing[0])).movedim(0, -1)
        for piece in torch.split(lines, BLOCK):
            yield torch.unflatten(piece, 1, (-1, BLOCK)).movedim(1, 0).flatten(1, 2)

    def neighbors(self, values: Tensor) -> Iterator[Tensor]:
        """As `rows`, of their neighbors [blocks, (BLOCK + 2r)^2, C]; beyond the image the values are mirrored."""
        padded = functional.pad(values, [self.radius] * 4, mode="reflect")
        padded = functional.pad(padded, (0, self.missing[1], 0, self.missing[0])).movedim(0, -1).contiguous()
        for top in range(0, self.size[0], BLOCK):
            band = padded[top : top + self.side].unfold(1, self.side, BLOCK)
            yield band.permute(1, 0, 3, 2).flatten(1, 2)

    def image(self, rows: list[Tensor]) -> Tensor:
        """The image [C, H, W] of the rows of blocks."""
        lines = [torch.unflatten(row, 1, (BLOCK, BLOCK)).movedim(0, 1).flatten(1, 2) for row in rows]
        return torch.cat(lines)[: self.size[0], : self.size[1]].movedim(-1, 0)


def _products(values: Tensor, blocks: _Blocks) -> Tensor:
    """The product of each pixel with each of its neighbors [(2r + 1)^2, H, W], for values [C, H, W]."""
    rows = []
    for pixels, neighbors in zip(blocks.rows(values), blocks.neighbors(values), strict=True):
        products = pixels @ neighbors.transpose(1, 2)
        rows.append(products.gather(2, blocks.index.expand(len(products), -1, -1)))
    return blocks.image(rows)


def _weighted_sum(values: Tensor, kernel: Tensor, blocks: _Blocks) -> Tensor:
    """The sum of each pixel's neighbors, weighted by its kernel [(2r + 1)^2, H, W], for values [C, H, W]."""
    rows = []
    for weights, neighbors in zip(blocks.rows(kernel), blocks.neighbors(values), strict=True):
        matrix = weights.new_zeros(*weights.shape[:2], blocks.side**2)
        matrix.scatter_(2, blocks.index.expand(len(weights), -1, -1), weights)
        rows.append(matrix @ neighbors)
    return blocks.image(rows)
