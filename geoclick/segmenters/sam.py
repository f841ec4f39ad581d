"""segment-anything (SAM 1) as a Segmenter: the results of its SamPredictor, batched over images.

The implementation differs from SamPredictor in three ways, the results do not:

- `MaskDecoder.forward` repeats the embedding of one image for every prompt. `decode_masks` calls the
  decoder's submodules itself, so that each prompt of a batch has the embedding of its own image.
- The attention layers are those of fused.py.
- `PromptEncoder` appends exactly one padding point (label -1) to the points of a prompt, and this point is a
  token in attention. Padding shorter prompts with more such points would change their masks, so that prompts are
  batched by their number of clicks.
"""

import math
from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from geoclick.devices import BatchSize
from geoclick.segmenters import resizing, upscaling
from geoclick.segmenters.architectures import SamConfig
from geoclick.segmenters.base import Decoded, Embedding, Prompt
from geoclick.segmenters.fused import fuse
from geoclick.segmenters.grid_decoder import GridDecoder
from geoclick.segmenters.prompt_batches import batches, prompts_at_once
from geoclick.segmenters.sam_library import (
    ImageEncoderViT,
    MaskDecoder,
    PromptEncoder,
    Sam,
    TwoWayTransformer,
)


def build(config: SamConfig) -> Sam:
    """segment-anything's model with random weights, in evaluation mode."""
    grid = config.image_size // config.patch_size
    encoder = ImageEncoderViT(
        img_size=config.image_size,
        patch_size=config.patch_size,
        embed_dim=config.encoder_width,
        depth=config.encoder_depth,
        num_heads=config.encoder_heads,
        out_chans=config.prompt_width,
        norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
        use_rel_pos=config.relative_positions,
        window_size=config.window_size,
        global_attn_indexes=config.global_blocks,
    )
    prompts = PromptEncoder(
        embed_dim=config.prompt_width,
        image_embedding_size=(grid, grid),
        input_image_size=(config.image_size, config.image_size),
        mask_in_chans=config.mask_channels,
    )
    transformer = TwoWayTransformer(
        depth=config.decoder_depth,
        embedding_dim=config.prompt_width,
        num_heads=config.decoder_heads,
        mlp_dim=config.decoder_mlp,
    )
    decoder = MaskDecoder(
        transformer_dim=config.prompt_width, transformer=transformer, iou_head_hidden_dim=config.score_hidden
    )
    return Sam(encoder, prompts, decoder).eval()


def decode_masks(
    sam: Sam,
    features: Tensor,
    points: tuple[Tensor, Tensor] | None,
    boxes: Tensor | None,
    low_res: Tensor | None,
    positions: Tensor,
) -> tuple[Tensor, Tensor]:
    """All four masks of each prompt on its own image; differentiable.

    Args:
        sam: the model.
        features: image embeddings [N, C, h, w].
        points: clicks (x, y) in the encoder's input frame, pixel centers on whole numbers, float [N, P, 2], and their
            labels, 1 positive, 0 negative, [N, P]; or None.
        boxes: (left, top, right, bottom) in the same frame, float [N, 4]; or None.
        low_res: logits of the previous masks [N, 1, 4h, 4w], or None.
        positions: positional encoding of the feature grid [1, C, h, w].

    Returns:
        Logits [N, 4, 4h, 4w] and predicted IoU [N, 4]: first the single mask, then the three of multimask.
    """
    decoder, prompts = sam.mask_decoder, sam.prompt_encoder
    # Half precision cannot represent positions to the pixel, so the points are encoded outside autocast.
    with torch.autocast(features.device.type, enabled=False):
        sparse, _ = prompts(points=points, boxes=boxes, masks=None)
    no_mask = prompts.no_mask_embed.weight.reshape(1, -1, 1, 1)
    dense = no_mask if low_res is None else prompts.mask_downscaling(low_res)
    count, _, height, width = features.shape
    output_tokens = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
    tokens = torch.cat([output_tokens.expand(count, -1, -1), sparse], dim=1)
    tokens, image_tokens = decoder.transformer(features + dense, positions, tokens)
    image_tokens = image_tokens.transpose(1, 2).reshape(count, -1, height, width)
    upscaled = decoder.output_upscaling(image_tokens)
    weights = torch.stack(
        [mlp(tokens[:, 1 + i]) for i, mlp in enumerate(decoder.output_hypernetworks_mlps)], dim=1
    )
    masks = (weights @ upscaled.flatten(2)).unflatten(2, upscaled.shape[-2:])
    return masks.float(), decoder.iou_prediction_head(tokens[:, 0]).float()


class SamSegmenter:
    """A segment-anything model as a Segmenter.

    Args:
        sam: the model; it is moved to `device`, frozen and fused.
        name: in `geoclick.segmenters.load`.
        sha256: hash of its weight file.
        device: where it runs.
        dtype: autocast type for speed (bfloat16 or float16), or None for float32 as in SamPredictor.
        image_batch: images per batch of the encoder.
        prompt_batch: prompts per batch of the decoder; None selects 64, or fewer on a CPU, where a batch that is
            larger than the caches is slower than single prompts.
    """

    def __init__(
        self,
        sam: Sam,
        *,
        name: str,
        sha256: str = "",
        device: str | torch.device = "cpu",
        dtype: torch.dtype | None = None,
        image_batch: int = 8,
        prompt_batch: int | None = None,
    ) -> None:
        self.device = torch.device(device)
        self.sam = fuse(sam.to(self.device).eval().requires_grad_(False))
        self.name, self.sha256, self.dtype = name, sha256, dtype
        self.image_batch = image_batch
        features = sam.prompt_encoder.embed_dim * math.prod(sam.prompt_encoder.image_embedding_size)
        self.prompt_batch = prompt_batch or prompts_at_once(features, self.device)
        self.click_batch = BatchSize(self.prompt_batch, "clicks of the segmenter")
        self._side: int = sam.image_encoder.img_size
        self._positions = sam.prompt_encoder.get_dense_pe()
        self._decode_masks = decode_masks

    def compile(self) -> "SamSegmenter":
        """Compile encoder and decoder with torch.compile; their next calls take minutes."""
        self.sam.image_encoder.compile()
        # The numbers of clicks and prompts vary, so that one kernel must serve all of them.
        self._decode_masks = torch.compile(decode_masks, dynamic=True)
        return self

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype is not None)

    @torch.inference_mode()
    def embed(self, images: Sequence[np.ndarray]) -> list[Embedding]:
        """Encode images, each uint8 [H, W, 3] RGB of any size, in batches of `image_batch`."""
        embeddings = []
        for start in range(0, len(images), self.image_batch):
            chunk = images[start : start + self.image_batch]
            resized = [torch.from_numpy(resizing.resize(image, self._side)) for image in chunk]
            inputs = [self.sam.preprocess(r.to(self.device).permute(2, 0, 1)) for r in resized]
            with self._autocast():
                features = self.sam.image_encoder(torch.stack(inputs)).float()
            for image, small, feature in zip(chunk, resized, features, strict=True):
                embeddings.append(Embedding(feature, image.shape[:2], (small.shape[0], small.shape[1])))
        return embeddings

    @torch.inference_mode()
    def decode(
        self, embeddings: Sequence[Embedding], prompts: Sequence[Prompt], *, multimask: bool
    ) -> list[Decoded]:
        """Decode `prompts[i]` on `embeddings[i]`; prompts of equal form (clicks, mask, box) are batched.

        Returns:
            One Decoded per prompt, with three masks if `multimask`, else one.
        """
        decoded: dict[int, Decoded] = {}
        for chunk in batches(prompts, lambda _: self.prompt_batch):
            masks, scores = self._decode_chunk([embeddings[i] for i in chunk], [prompts[i] for i in chunk])
            outputs = slice(1, None) if multimask else slice(0, 1)
            answers = zip(masks[:, outputs], scores[:, outputs], strict=True)
            decoded |= {i: Decoded(m, s) for i, (m, s) in zip(chunk, answers, strict=True)}
        return [decoded[i] for i in range(len(prompts))]

    def _decode_chunk(
        self, embeddings: list[Embedding], prompts: list[Prompt]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        points = boxes = None
        if prompts[0].clicks:
            labels = [[int(click.positive) for click in prompt.clicks] for prompt in prompts]
            coords = [[click[:2] for click in prompt.clicks] for prompt in prompts]
            points = self._resized(embeddings, coords), torch.tensor(labels, device=self.device)
        corners = [[prompt.box[:2], prompt.box[2:]] for prompt in prompts if prompt.box]
        if corners:
            boxes = self._resized(embeddings, corners).flatten(1)
        previous = [prompt.low_res for prompt in prompts if prompt.low_res is not None]
        low_res = torch.stack(previous) if previous else None
        with self._autocast():
            return self._decode_masks(
                self.sam,
                torch.stack([e.features for e in embeddings]),
                points,
                boxes,
                low_res,
                self._positions,
            )

    def _resized(self, embeddings: list[Embedding], coords: list[list[tuple[float, float]]]) -> torch.Tensor:
        """Points (x, y) of original images in the encoder's input frame, float [N, P, 2]."""
        resized = [
            resizing.resize_points(own, embedding.size, self._side)
            for embedding, own in zip(embeddings, coords, strict=True)
        ]
        return torch.as_tensor(np.stack(resized), dtype=torch.float, device=self.device)

    def grid_decoder(self, embedding: Embedding) -> GridDecoder:
        """A decoder of many single clicks on one image; its points are those of `input_points`."""
        with torch.inference_mode(), self._autocast():
            return GridDecoder(self.sam, embedding.features, self._positions, self._autocast)

    def input_points(self, points: np.ndarray, embedding: Embedding) -> torch.Tensor:
        """Points (x, y) of the original image in the encoder's input frame, float64 [P, 2]."""
        side = self.sam.image_encoder.img_size
        return torch.as_tensor(resizing.resize_points(points, embedding.size, side), device=self.device)

    def axes(self, low_res: Sequence[int], embedding: Embedding) -> tuple[upscaling.Axis, upscaling.Axis]:
        """The interpolation of rows and of columns from logits of size `low_res` (h, w) to the original image."""
        rows, columns = (
            upscaling.axis(low, self.sam.image_encoder.img_size, inside, size, self.device)
            for low, inside, size in zip(low_res, embedding.input_size, embedding.size, strict=True)
        )
        return rows, columns

    @torch.inference_mode()
    def masks(self, low_res: torch.Tensor, embedding: Embedding) -> torch.Tensor:
        """Logits [N, h, w] as masks, bool [N, H, W], at the size of the original image."""
        return upscaling.masks(low_res, *self.axes(low_res.shape[1:], embedding))


def first_mismatch(sam: Sam, state: dict[str, Tensor]) -> str | None:
    """The first weight whose shape differs between `state` and `sam`, with both shapes; None if all are equal."""
    expected = {key: tuple(value.shape) for key, value in sam.state_dict().items()}
    given = {key: tuple(value.shape) for key, value in state.items()}
    for key in sorted({*expected, *given}):
        if expected.get(key) != given.get(key):
            return f"{key} is {given.get(key, 'missing')} instead of {expected.get(key, 'absent')}"
    return None
