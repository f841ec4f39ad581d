"""TRL's GRPOTrainer on questions about images: prompts as inference asks them, the vision tower asked once.

TRL's own way with images makes each prompt twice, once as text, where a control token inside a query would count as
one, and runs processor and vision tower for every completion and pass. Five of its methods are replaced for that.
"""

from functools import partial
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import PrinterCallback
from trl import GRPOTrainer
from trl.models import unwrap_model_for_generation

from geoclick.vlms.adapter import AdapterRecord
from train.questions import Questions
from train.trainer import AdapterSaver


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
                generation_config=self.generation_config,
                **self.questions.vision(self._asked, input_ids),
            )
        return [self._until_end(ids) for ids in output[:, input_ids.shape[1] :].tolist()], None

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
        compute_aux_loss: bool = False,
        **_: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        """As TRL's, for the rows of `_asked`, whose features stand in for pixels."""
        size = batch_size or len(input_ids)
        parts = []
        for start in range(0, len(input_ids), size):
            rows = slice(start, start + size)
            vision = self.questions.vision(self._asked[rows], input_ids[rows])
            parts.append(
                super()._get_per_token_logps_and_entropies(
                    partial(model, **vision),
                    input_ids[rows],
                    attention_mask[rows],
                    logits_to_keep,
                    compute_entropy=compute_entropy,
                    compute_aux_loss=compute_aux_loss,
                )
            )
        logps, entropies, losses = zip(*parts, strict=True)
        return (
            torch.cat(logps),
            torch.cat(entropies) if compute_entropy else None,
            torch.stack(losses).mean() if compute_aux_loss else None,
        )
