"""TRL's GRPOTrainer on questions about images: prompts as inference asks them, images and prompts read once.

TRL's own way with images makes each prompt twice, once as text, where a control token inside a query would count as
one, and runs processor, vision tower and language model over the whole prompt for every completion and pass. Five of
its methods are replaced for that.
"""

from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import PrinterCallback
from trl import GRPOTrainer
from trl.models import unwrap_model_for_generation

from geoclick.train.loop.trainer import AdapterSaver
from geoclick.train.reinforcement.grpo_prompts import Questions
from geoclick.train.reinforcement.shared_prompts import first_of_each, share
from geoclick.vlms.adapter import AdapterRecord


class ClickGRPOTrainer(AdapterSaver, GRPOTrainer):
    """GRPOTrainer for click answers.

    Args:
        record: provenance, written beside every adapter that is saved.
        questions: what the rows of the training set, `questions.rows()`, stand for.
    """

    def __init__(self, *args: Any, record: AdapterRecord, questions: Questions, **kwargs: Any) -> None:
        super().__init__(*args, train_dataset=questions.rows(), **kwargs)
        self.record, self.questions = record, questions
        self._asked: list[int] = []
        self._seen = 0
        self.remove_callback(PrinterCallback)

    def count_completions(self) -> int:
        """Completions sampled by all processes since this start; every process must ask."""
        seen = torch.tensor([self._seen], device=self.accelerator.device)
        return int(self.accelerator.gather(seen).sum())

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        self._asked = [row["sample"] for row in inputs]
        self._seen += len(inputs)
        self.questions.look(self._asked)
        # A column of its own: TRL shuffles the batch and cuts it up.
        return super()._generate_and_score_completions(inputs) | {"samples": torch.tensor(self._asked)}

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        self._asked = inputs["samples"].tolist()
        return super()._compute_loss(model, inputs)

    def _tokenize_prompts(self, prompts: list[str]) -> tuple[list[list[int]], None, dict]:
        """No images either: with none TRL leaves processor and vision tower alone."""
        return self.questions.ids(self._asked), None, {}

    def _generate_single_turn(
        self, prompt_ids: list[list[int]], images: None, fields: dict, num_generations: int, **kwargs: Any
    ) -> tuple[list[list[int]], Any]:
        if self.use_vllm:
            pictures = self.questions.pictures(self._asked)
            return super()._generate_single_turn(prompt_ids, pictures, fields, num_generations, **kwargs)
        pad, device = self._tokenizer.pad_token_id, self.accelerator.device
        tokens = [torch.tensor(ids) for ids in prompt_ids]
        input_ids = pad_sequence(tokens, batch_first=True, padding_value=pad, padding_side="left").to(device)
        masks = [torch.ones_like(ids) for ids in tokens]
        mask = pad_sequence(masks, batch_first=True, padding_side="left").to(device)
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
                past_key_values=self._read_prompts(model, input_ids, mask),
                generation_config=self.generation_config,
            )
        return [self._until_end(ids) for ids in output[:, input_ids.shape[1] :].tolist()], None

    def _read_prompts(self, model: Any, input_ids: torch.Tensor, mask: torch.Tensor) -> Any:
        """The cache of prompts [N, P] but for their last token; each distinct one is read once."""
        firsts, places = first_of_each(self._asked)
        ids, backbone = input_ids[firsts, :-1], model.get_base_model().model
        vision = self.questions.vision([self._asked[i] for i in firsts], ids)
        cache = backbone(
            input_ids=ids, attention_mask=mask[firsts, :-1], use_cache=True, **vision
        ).past_key_values
        cache.batch_select_indices(torch.tensor(places, device=ids.device))
        # How far positions lag behind tokens: a visual token takes less than one.
        backbone.rope_deltas = backbone.rope_deltas[places]
        return cache

    def _until_end(self, ids: list[int]) -> list[int]:
        """A completion up to and with its first end token."""
        ends = [ids.index(end) for end in self.eos_token_ids if end in ids]
        return ids[: min(ends) + 1] if ends else ids

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        compute_entropy: bool = False,
        **_: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None, None]:
        """As TRL's, for the rows of `_asked`: each prompt is read once, and features stand in for pixels."""
        size = batch_size or len(input_ids)
        parts = []
        for start in range(0, len(input_ids), size):
            rows = slice(start, start + size)
            shared = share(
                self._asked[rows], input_ids[rows], attention_mask[rows], logits_to_keep, self._positions
            )
            vision = self.questions.vision(shared.owners, shared.input_ids)
            with self.accelerator.autocast():
                output = model(
                    input_ids=shared.input_ids,
                    attention_mask=shared.visible,
                    position_ids=shared.position_ids,
                    mm_encoder_outputs=vision["mm_encoder_outputs"],
                    labels=shared.labels,
                    fused_lm_head=True,
                )
            parts.append([shared.of_completions(values) for values in (output.log_probs, output.entropy)])
        logps, entropies = (torch.cat(values) for values in zip(*parts, strict=True))
        return logps, entropies if compute_entropy else None, None

    def _positions(self, owners: list[int], input_ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Rotary positions [3, U, P] of the prompts of questions."""
        backbone = self.accelerator.unwrap_model(self.model).get_base_model().model
        vision = self.questions.vision(owners, input_ids)
        del vision["mm_encoder_outputs"]
        return backbone.get_rope_index(input_ids, attention_mask=mask, **vision)[0]
