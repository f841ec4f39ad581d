"""TRL's GRPOTrainer for prompts with images: tokens as in inference, each image and prompt processed once.

TRL itself encodes each prompt twice, once from text, where a control token inside a query would count as one, and runs
processor, vision tower and language model over the complete prompt for every completion and pass. Five of its methods
are replaced here.
"""

from typing import Any

import torch
from peft import PeftModel
from transformers import Cache, PrinterCallback
from trl import GRPOTrainer
from trl.models import unwrap_model_for_generation

from geoclick.train.loop.gradient_checkpointing import TowerCheckpointing
from geoclick.train.loop.trainer import AdapterSavingMixin
from geoclick.train.reinforcement.grpo_prompts import GrpoPrompts
from geoclick.train.reinforcement.shared_prompts import first_of_each, share
from geoclick.vlms import encoding
from geoclick.vlms.adapter import AdapterRecord


class ClickGRPOTrainer(AdapterSavingMixin, GRPOTrainer):  # type: ignore[misc]
    """GRPOTrainer for click answers.

    Args:
        record: provenance, written next to every adapter that is saved.
        prompts: of the run; `prompts.rows()` is the training set.
    """

    def __init__(self, *args: Any, record: AdapterRecord, prompts: GrpoPrompts, **kwargs: Any) -> None:
        super().__init__(*args, train_dataset=prompts.rows(), **kwargs)
        self.record, self.prompts = record, prompts
        self._samples: list[int] = []
        self._completions = 0
        self.remove_callback(PrinterCallback)
        self.add_callback(TowerCheckpointing())

    def count_completions(self) -> int:
        """Completions sampled by all processes in this session; every process must call it."""
        count = torch.tensor([self._completions], device=self.accelerator.device)
        return int(self.accelerator.gather(count).sum())

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        self._samples = [row["sample"] for row in inputs]
        self._completions += len(inputs)
        self.prompts.load_features(self._samples)
        # As a column, because TRL shuffles and splits the batch.
        return super()._generate_and_score_completions(inputs) | {"samples": torch.tensor(self._samples)}

    def _compute_loss(self, model: PeftModel, inputs: dict[str, Any]) -> torch.Tensor:
        self._samples = inputs["samples"].tolist()
        return super()._compute_loss(model, inputs)

    def _tokenize_prompts(self, prompts: list[str]) -> tuple[list[list[int]], None, dict[str, Any]]:
        """Tokens without images, so that TRL does not run processor and vision tower."""
        return self.prompts.ids(self._samples), None, {}

    def _generate_single_turn(
        self,
        prompt_ids: list[list[int]],
        images: None,
        fields: dict[str, Any],
        num_generations: int,
        **kwargs: Any,
    ) -> tuple[list[list[int]], Any]:
        if self.use_vllm:
            shown = self.prompts.images(self._samples)
            return super()._generate_single_turn(prompt_ids, shown, fields, num_generations, **kwargs)
        device = self.accelerator.device
        padded = encoding.pad_left(list(map(torch.tensor, prompt_ids)), self._tokenizer.pad_token_id)
        input_ids, mask = (tensor.to(device) for tensor in padded)
        with (
            unwrap_model_for_generation(
                self.model_wrapped,
                self.accelerator,
                generation_kwargs=self.generation_kwargs,
                gradient_checkpointing_kwargs=self.args.gradient_checkpointing_kwargs,
            ) as model,
            torch.no_grad(),
        ):
            output = model.generate(
                input_ids=input_ids,
                attention_mask=mask,
                past_key_values=self._prompt_cache(model, input_ids, mask),
                generation_config=self.generation_config,
            )
        return [self._until_end(ids) for ids in output[:, input_ids.shape[1] :].tolist()], None

    def _prompt_cache(self, model: PeftModel, input_ids: torch.Tensor, mask: torch.Tensor) -> Cache:
        """The cache of prompts [N, P] without their last token; each distinct prompt is computed once."""
        firsts, places = first_of_each(self._samples)
        ids, backbone = input_ids[firsts, :-1], model.get_base_model().model
        vision = self.prompts.vision_inputs([self._samples[i] for i in firsts], ids)
        cache = backbone(
            input_ids=ids, attention_mask=mask[firsts, :-1], use_cache=True, **vision
        ).past_key_values
        cache.batch_select_indices(torch.tensor(places, device=ids.device))
        # Positions minus tokens: a visual token takes less than one position.
        backbone.rope_deltas = backbone.rope_deltas[places]
        return cache

    def _until_end(self, ids: list[int]) -> list[int]:
        """A completion up to its first end token, included."""
        ends = [ids.index(end) for end in self.eos_token_ids if end in ids]
        return ids[: min(ends) + 1] if ends else ids

    def _get_per_token_logps_and_entropies(
        self,
        model: PeftModel,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        compute_entropy: bool = False,
        **_: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None, None]:
        """As TRL's, for the samples of `_samples`: each prompt is computed once, with a frozen tower from features."""
        size = batch_size or len(input_ids)
        parts = []
        for start in range(0, len(input_ids), size):
            rows = slice(start, start + size)
            shared = share(
                self._samples[rows], input_ids[rows], attention_mask[rows], logits_to_keep, self._positions
            )
            if self.prompts.trains_vision:
                vision = self.prompts.pixel_inputs(shared.owners, shared.input_ids.device)
            else:
                features = self.prompts.vision_inputs(shared.owners, shared.input_ids)
                vision = {"mm_encoder_outputs": features["mm_encoder_outputs"]}
            with self.accelerator.autocast():
                output = model(
                    input_ids=shared.input_ids,
                    attention_mask=shared.visible,
                    position_ids=shared.position_ids,
                    labels=shared.labels,
                    fused_lm_head=True,
                    **vision,
                )
            parts.append([shared.of_completions(values) for values in (output.log_probs, output.entropy)])
        logps, entropies = (torch.cat(values) for values in zip(*parts, strict=True))
        return logps, entropies if compute_entropy else None, None

    def _positions(self, owners: list[int], input_ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Rotary positions [3, U, P] of the prompts of samples."""
        backbone = self.accelerator.unwrap_model(self.model).get_base_model().model
        vision = self.prompts.vision_inputs(owners, input_ids)
        del vision["mm_encoder_outputs"]
        return backbone.get_rope_index(input_ids, attention_mask=mask, **vision)[0]
