"""TRL's GRPOTrainer for prompts with images: tokens as in inference, each image and prompt processed once.

TRL itself encodes each prompt twice, once from text, where a control token inside a query would count as one, and runs
processor, vision tower and language model over the complete prompt for every completion and pass. Six of its methods
are replaced here. The loss is TRL's. For a token with the ratio r of its probabilities now and when it was sampled, the
probability p and the probability q by the adapter that the run starts from, and for the advantage A of its completion:

    -min(r A, clip(r, 1 - epsilon, 1 + epsilon_high) A) + beta r (q / p - log(q / p) - 1)

- A is the reward minus the mean of its group (`scale_rewards: none`, GeoClick's default); `group` and `batch` divide it
  by the standard deviation of the group or the batch, plus 1e-4.
- Clipping: epsilon is 0.2, and epsilon_high too unless it is given; `delta` limits r above in the first term. With one
  pass over a batch (`num_iterations: 1`, `steps_per_generation` not above `gradient_accumulation_steps`) r is 1, so
  that nothing is clipped.
- The factor r of the KL term is the bias correction (`use_bias_correction_kl`, on by default): with it the gradient is
  that of the reverse KL divergence, not only its value is right. beta is 0 by default, which leaves the term out.
- Normalization (`loss_type`): `dapo`, the default, sums over all tokens of the completions of a step, over all
  processes, and divides by their number, so that each token has the same weight; `grpo` takes the mean over the tokens
  of each completion, then over completions; `dr_grpo` divides by completions times max_completion_length.
- With vLLM the first term is multiplied by the ratio of the probabilities in the trainer and in vLLM
  (`vllm_importance_sampling_correction`), limited as its mode says.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import Cache, PrinterCallback
from trl import GRPOTrainer
from trl.models import unwrap_model_for_generation

from geoclick.scoring.records import Record
from geoclick.train.augmentation.augmented_dataset import EpochSampler
from geoclick.train.loop.evaluation import EvaluationMixin
from geoclick.train.loop.gradient_checkpointing import TowerCheckpointing
from geoclick.train.loop.monitor import Monitor
from geoclick.train.loop.trainer import AdapterSavingMixin
from geoclick.train.reinforcement import reward_curves, vllm_rollouts
from geoclick.train.reinforcement.epoch_samples import GroupedKeys
from geoclick.train.reinforcement.grpo_prompts import GrpoPrompts
from geoclick.train.reinforcement.shared_prompts import first_of_each, separate, share
from geoclick.vlms import encoding
from geoclick.vlms.adapter import AdapterRecord
from geoclick.vlms.families import FAMILIES


class ClickGRPOTrainer(EvaluationMixin, AdapterSavingMixin, GRPOTrainer):  # type: ignore[misc]
    """GRPOTrainer for click answers.

    Args:
        record: provenance, written next to every adapter that is saved.
        prompts: of the run; their samples are the training set.
        monitor: the evaluation during training, or None.
    """

    log_completions: bool

    def __init__(
        self,
        *args: Any,
        record: AdapterRecord,
        prompts: GrpoPrompts,
        monitor: Monitor | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, train_dataset=prompts.rows(), **kwargs)
        self.record, self.prompts = record, prompts
        self.watch(monitor)
        # Only now: TRL inspects its dataset.
        self.train_dataset = GroupedKeys(
            len(prompts.samples),
            completions=self.num_generations,
            batch=self.args.generation_batch_size // self.num_generations,
            repeats=self.num_iterations * self.args.steps_per_generation,
            shuffle=self.shuffle_dataset,
            seed=self.args.seed,
        )
        self._samples: list[int] = []
        self._completions = 0
        if self.use_vllm:
            vllm_rollouts.adapt(self.vllm_generation, self.processing_class)
        self.remove_callback(PrinterCallback)
        self.add_callback(TowerCheckpointing())

    def _get_train_sampler(self, dataset: GroupedKeys | None = None) -> EpochSampler:
        """The keys of an epoch, which follow from seed and epoch alone."""
        return EpochSampler(dataset or self.train_dataset)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """As TRL's; an evaluation has no completions to log."""
        logged = self.log_completions
        self.log_completions = logged and self.model.training
        super().log(logs, start_time)
        self.log_completions = logged

    def _show(self, records: Sequence[Record]) -> None:
        """The pictures of an evaluation, and a warning where the reward rises while the mIoU falls."""
        super()._show(records)
        history = self.state.log_history
        weights = dict(zip(self.reward_func_names, self.reward_weights.tolist(), strict=True))
        reward_curves.write(Path(self.args.output_dir), history, weights)
        if warning := reward_curves.warning(history):
            self._say(warning)

    def count_completions(self) -> int:
        """Completions sampled by all processes in this session; every process must call it."""
        count = torch.tensor([self._completions], device=self.accelerator.device)
        return int(self.accelerator.gather(count).sum())

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        self._samples = [row["sample"] for row in inputs]
        self._completions += len(inputs)
        self.prompts.load_features(self._samples)
        texts = self.prompts.texts(self._samples)
        inputs = [row | {"prompt": text} for row, text in zip(inputs, texts, strict=True)]
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
            samples = [self.prompts.samples[key] for key in self._samples]
            shown = vllm_rollouts.pictures(self.processing_class, samples)
            if self.vllm_mode == vllm_rollouts.COLOCATE:
                prompt_ids = self.prompts.ids(self._samples, expanded=False)
            with vllm_rollouts.readable_errors(self.args):
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
        # Unlike `batch_select_indices`, linear attention has it.
        cache.reorder_cache(torch.tensor(places, device=ids.device))
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
        base = self.accelerator.unwrap_model(self.model).get_base_model()
        lay_out = separate if FAMILIES[base.config.model_type].recurrent else share
        parts = []
        for start in range(0, len(input_ids), size):
            rows = slice(start, start + size)
            shared = lay_out(
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
