"""segment-anything's mask decoder for many single clicks on one image: the same masks for a third of the work.

- What does not depend on the click (the first layer's projections of the image, all projections of its positions) is
  computed once per image.
- The attention between a few tokens and thousands of image tokens projects the tokens into the space of the image, not
  the image into the space of the heads: (x W) k = x (W k).
- The predicted IoU needs no mask, so that only clicks with a mask above the limit are upscaled, and the two transposed
  convolutions without overlap are matrix products, whose pixels are put in order at the end.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from geoclick.segmenters.sam_library import Sam, transformer

CACHED_TOKENS = 512
"""Image tokens that are upscaled at once on a CPU, so that their pixels stay in its caches."""


class Candidates(NamedTuple):
    """Masks of single clicks, ordered by click, then by the decoder's order.

    Attributes:
        low_res: logits [M, h, w], above zero inside the mask.
        scores: predicted IoU [M].
        clicks: index of the click of each mask, int64 [M].
    """

    low_res: Tensor
    scores: Tensor
    clicks: Tensor


class _Image(NamedTuple):
    """The part of an attention layer that is equal for all clicks: projections of the image tokens [N, C].

    Attributes:
        positions: the projection of the positions (with its bias) by heads [heads, N, c].
        tokens: the projection of tokens and positions, likewise; of the first layer only.
        values: the projection of the tokens by `v_proj`, likewise; of the first layer only.
    """

    positions: Tensor
    tokens: Tensor | None = None
    values: Tensor | None = None


class GridDecoder:
    """Decodes single positive clicks on one image.

    Args:
        sam: the model, frozen.
        features: of the image [C, h, w].
        positions: positional encoding of the feature grid [1, C, h, w].
        autocast: makes the context in which masks are decoded.
    """

    def __init__(
        self, sam: Sam, features: Tensor, positions: Tensor, autocast: Callable[[], torch.autocast]
    ) -> None:
        self.sam, self.grid, self.autocast = sam, features.shape[1:], autocast
        dense = sam.prompt_encoder.no_mask_embed.weight[0][:, None, None]
        self.image = (features + dense).flatten(1).T.contiguous()
        place = positions[0].flatten(1).T
        two_way = sam.mask_decoder.transformer
        self.to_image = [
            self._project(layer.cross_attn_token_to_image, place, first=number == 0)
            for number, layer in enumerate(two_way.layers)
        ]
        self.to_tokens = [
            self._project_queries(layer.cross_attn_image_to_token, place, first=number == 0)
            for number, layer in enumerate(two_way.layers)
        ]
        self.final = self._project(two_way.final_attn_token_to_image, place, first=not len(two_way.layers))

    def _project(self, attention: transformer.Attention, place: Tensor, *, first: bool) -> _Image:
        shared = _heads(attention.k_proj(place), attention)
        if not first:
            return _Image(shared)
        tokens = _heads(attention.k_proj(self.image + place), attention)
        return _Image(shared, tokens, _heads(attention.v_proj(self.image), attention))

    def _project_queries(self, attention: transformer.Attention, place: Tensor, *, first: bool) -> _Image:
        shared = _heads(attention.q_proj(place), attention)
        return _Image(shared, _heads(attention.q_proj(self.image + place), attention) if first else None)

    @torch.inference_mode()
    def decode(self, points: Tensor, minimum: float) -> Candidates:
        """The three masks of each click whose predicted IoU is above a limit.

        Args:
            points: clicks (x, y) in the encoder's input frame, pixel centers on whole numbers, float [P, 2].
            minimum: limit of the predicted IoU; 0 or less returns all masks.
        """
        decoder = self.sam.mask_decoder
        labels = torch.ones(len(points), 1, dtype=torch.int, device=points.device)
        # Half precision cannot represent positions to the pixel, so the points are encoded outside autocast.
        with torch.autocast(points.device.type, enabled=False):
            sparse, _ = self.sam.prompt_encoder(points=(points[:, None], labels), boxes=None, masks=None)
        own = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
        prompt = torch.cat([own.expand(len(points), -1, -1), sparse], dim=1)
        with self.autocast():
            return self._decode(prompt, minimum)

    def _decode(self, prompt: Tensor, minimum: float) -> Candidates:
        tokens, image = self._transform(prompt)
        decoder = self.sam.mask_decoder
        scores = decoder.iou_prediction_head(tokens[:, 0]).float()[:, 1:]
        chosen = scores > minimum if minimum > 0 else torch.ones_like(scores, dtype=torch.bool)
        clicks, number = chosen.nonzero(as_tuple=True)
        rows = chosen.any(1).nonzero()[:, 0]
        if not len(rows):
            empty = image.new_zeros((0, 4 * self.grid[0], 4 * self.grid[1]), dtype=torch.float32)
            return Candidates(empty, scores[chosen], clicks)
        masks = self._upscale(tokens[rows], image[rows])
        place = torch.searchsorted(rows, clicks)
        return Candidates(masks[place, number], scores[chosen], clicks)

    def _transform(self, prompt: Tensor) -> tuple[Tensor, Tensor]:
        """The transformer: tokens [P, T, C] to tokens [P, T, C] and image tokens [P, N, C]."""
        two_way = self.sam.mask_decoder.transformer
        tokens, image = prompt, self.image[None]
        for layer, to_image, to_tokens in zip(two_way.layers, self.to_image, self.to_tokens, strict=True):
            tokens = _attend_to_tokens(layer, tokens, prompt)
            cross = layer.cross_attn_token_to_image
            tokens = layer.norm2(tokens + _attend_to_image(cross, tokens + prompt, image, to_image))
            tokens = layer.norm3(tokens + layer.mlp(tokens))
            image = layer.norm4(
                _image_attends(layer.cross_attn_image_to_token, tokens + prompt, tokens, image, to_tokens)
            )
        attention = two_way.final_attn_token_to_image
        tokens = tokens + _attend_to_image(attention, tokens + prompt, image, self.final)
        return two_way.norm_final_attn(tokens), image

    def _upscale(self, tokens: Tensor, image: Tensor) -> Tensor:
        """The three masks of each click, logits float32 [P, 3, 4h, 4w]."""
        networks = self.sam.mask_decoder.output_hypernetworks_mlps
        weights = torch.stack([networks[i](tokens[:, 1 + i]) for i in range(1, len(networks))], dim=1)
        at_once = CACHED_TOKENS if image.device.type == "cpu" else image.shape[1]
        parts = [
            self._pixels(part) @ weights[:, None].transpose(-1, -2)
            for part in torch.split(image, at_once, dim=1)
        ]
        height, width = self.grid
        # Pixels lie in the order (y, x) of the grid, then (y, x) of each of the two convolutions.
        masks = torch.cat(parts, dim=1).reshape(len(image), height, width, 2, 2, 2, 2, -1)
        masks = masks.permute(0, 7, 1, 3, 5, 2, 4, 6)
        return masks.reshape(len(masks), -1, 4 * height, 4 * width).float()

    def _pixels(self, image: Tensor) -> Tensor:
        """Image tokens [P, N, C] through both transposed convolutions: [P, N, 16, C / 8]."""
        first, norm, _, second, _ = self.sam.mask_decoder.output_upscaling
        pixels = _transposed_convolution(image, first)
        pixels = functional.layer_norm(pixels, pixels.shape[-1:], norm.weight, norm.bias, norm.eps)
        return _gelu(_transposed_convolution(_gelu(pixels), second)).flatten(2, 3)


def _gelu(values: Tensor) -> Tensor:
    return torch.ops.aten.gelu_(values)


def _heads(projected: Tensor, attention: transformer.Attention) -> Tensor:
    """[..., N, heads * c] as [..., heads, N, c]."""
    return torch.unflatten(projected, -1, (attention.num_heads, -1)).transpose(-3, -2)


def _by_head(weight: Tensor, attention: transformer.Attention) -> Tensor:
    """The weight of a projection to heads, [heads * c, C], as [heads, c, C]."""
    return torch.unflatten(weight, 0, (attention.num_heads, -1))


def _attend_to_tokens(layer: transformer.TwoWayAttentionBlock, tokens: Tensor, prompt: Tensor) -> Tensor:
    if layer.skip_first_layer_pe:
        return layer.norm1(layer.self_attn(q=tokens, k=tokens, v=tokens))
    placed = tokens + prompt
    return layer.norm1(tokens + layer.self_attn(q=placed, k=placed, v=tokens))


def _attend_to_image(
    attention: transformer.Attention, queries: Tensor, image: Tensor, shared: _Image
) -> Tensor:
    """Attention of tokens [P, T, C] to image tokens [P, N, C], or [1, N, C] in the first layer."""
    q = _heads(attention.q_proj(queries), attention)
    q = q * q.shape[-1] ** -0.5
    if shared.tokens is not None and shared.values is not None:
        mixed = (q @ shared.tokens.transpose(-1, -2)).softmax(-1) @ shared.values
    else:
        inside = (q @ _by_head(attention.k_proj.weight, attention)).flatten(1, 2)
        scores = (q @ shared.positions.transpose(-1, -2)).flatten(1, 2)
        scores = torch.baddbmm(scores, inside, image.transpose(1, 2)).softmax(-1)
        context = torch.unflatten(scores @ image, 1, (attention.num_heads, -1))
        mixed = context @ _by_head(attention.v_proj.weight, attention).transpose(-1, -2)
        mixed = mixed + attention.v_proj.bias.reshape(attention.num_heads, 1, -1)
    return attention.out_proj(mixed.transpose(1, 2).flatten(2))


def _image_attends(
    attention: transformer.Attention, keys: Tensor, values: Tensor, image: Tensor, shared: _Image
) -> Tensor:
    """Image tokens plus their attention to tokens: [P, N, C] or, in the first layer, [1, N, C] to [P, N, C]."""
    k = _heads(attention.k_proj(keys), attention)
    k = k * k.shape[-1] ** -0.5
    if shared.tokens is not None:
        scores = k @ shared.tokens.transpose(-1, -2)
    else:
        inside = (k @ _by_head(attention.q_proj.weight, attention)).flatten(1, 2)
        placed = (k @ shared.positions.transpose(-1, -2)).flatten(1, 2)
        scores = torch.baddbmm(placed, inside, image.transpose(1, 2))
        scores = torch.unflatten(scores, 1, (attention.num_heads, -1))
    # A softmax over few tokens is fast only along columns, where it is vectorized over the image.
    weights = scores.softmax(2).flatten(1, 2)
    v = _heads(attention.v_proj(values), attention)
    # The weights of each head sum to 1, so that every head adds its share of the bias.
    outputs = (
        v @ _by_head(attention.out_proj.weight.T, attention) + attention.out_proj.bias / attention.num_heads
    )
    return torch.baddbmm(image.expand(len(keys), -1, -1), weights.transpose(1, 2), outputs.flatten(1, 2))


def _transposed_convolution(pixels: Tensor, convolution: torch.nn.ConvTranspose2d) -> Tensor:
    """A transposed convolution of kernel and stride 2 of pixels [..., C]: [..., 4, C'], the four pixels of each."""
    weight = convolution.weight.permute(2, 3, 1, 0).flatten(0, 2)
    bias = None if convolution.bias is None else convolution.bias.repeat(4)
    return torch.unflatten(functional.linear(pixels, weight, bias), -1, (4, -1))
