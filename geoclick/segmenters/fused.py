"""segment-anything's attention with the same weights and results, but less memory traffic.

The published image encoder writes the scores of its global attention (12 x 4096 x 4096 for ViT-B) to memory five times,
mostly to add the relative positions. On a CPU that takes half of its time.
"""

import torch
from torch import Tensor
from torch.nn import functional

from geoclick.segmenters.sam_library import Sam, image_encoder, transformer

MASK_ELEMENTS = {"cpu": 2**24, "cuda": 2**29}
"""Largest attention mask in elements, by device; on a CPU it should not be much larger than the caches."""


class EncoderAttention(image_encoder.Attention):  # type: ignore[misc]
    """The image encoder's attention; relative positions are passed as an additive mask, for groups of heads."""

    def forward(self, x: Tensor) -> Tensor:
        """Tokens [B, h, w, C] to tokens of the same shape."""
        count, height, width, _ = x.shape
        qkv = self.qkv(x).reshape(count, height * width, 3, self.num_heads, -1)
        queries, keys, values = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        if not self.use_rel_pos:
            mixed = functional.scaled_dot_product_attention(queries, keys, values)
        else:
            rows, columns = self._relative(queries, height, width)
            limit = MASK_ELEMENTS.get(x.device.type, MASK_ELEMENTS["cuda"])
            at_once = max(1, limit // (count * (height * width) ** 2))
            groups = zip(
                *(t.split(at_once, dim=1) for t in (queries, keys, values, rows, columns)), strict=True
            )
            mixed_groups = [
                functional.scaled_dot_product_attention(q, k, v, attn_mask=(r + c).flatten(-2))
                for q, k, v, r, c in groups
            ]
            mixed = torch.cat(mixed_groups, dim=1)
        return self.proj(mixed.transpose(1, 2).reshape(count, height, width, -1))

    def _relative(self, queries: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
        """The relative position terms of the scores, of rows [B, heads, hw, h, 1] and columns [B, heads, hw, 1, w]."""
        grid = torch.unflatten(queries, 2, (height, width))
        rows = image_encoder.get_rel_pos(height, height, self.rel_pos_h)
        columns = image_encoder.get_rel_pos(width, width, self.rel_pos_w)
        of_rows = torch.einsum("bnhwc,hkc->bnhwk", grid, rows).flatten(2, 3)
        of_columns = torch.einsum("bnhwc,wkc->bnhwk", grid, columns).flatten(2, 3)
        return of_rows[..., None], of_columns[..., None, :]


class DecoderAttention(transformer.Attention):  # type: ignore[misc]
    """The mask decoder's attention, between a few tokens and thousands of image tokens."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Queries [B, N, C], keys and values [B, M, C] to [B, N, C]."""
        queries, keys, values = (
            self._separate_heads(projected, self.num_heads)
            for projected in (self.q_proj(q), self.k_proj(k), self.v_proj(v))
        )
        if keys.shape[-2] < queries.shape[-2]:
            # A softmax over few keys is fast only along columns, where it is vectorized over rows.
            scores = (keys * keys.shape[-1] ** -0.5) @ queries.transpose(-1, -2)
            mixed = scores.softmax(-2).transpose(-1, -2) @ values
        else:
            mixed = functional.scaled_dot_product_attention(queries, keys, values)
        return self.out_proj(self._recombine_heads(mixed))


def fuse(sam: Sam) -> Sam:
    """Replace the attention layers of a model, in place, by those of this module, and return it."""
    for module in sam.modules():
        if type(module) is image_encoder.Attention:
            module.__class__ = EncoderAttention
        elif type(module) is transformer.Attention:
            module.__class__ = DecoderAttention
    return sam
