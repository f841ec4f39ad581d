"""TRL's SFTTrainer, with the same loss for any number of processes, GeoClick's evaluation, and provenance."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from datasets import Dataset
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import Sampler
from transformers import (
    PreTrainedModel,
    PrinterCallback,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, SchedulerType
from trl import SFTTrainer

from geoclick.errors import GeoClickError
from geoclick.train.augmentation.augmented_dataset import AugmentedDataset, EpochSampler
from geoclick.train.data.lazy_rows import LazyRows
from geoclick.train.data.length_groups import LengthGroups
from geoclick.train.data.mixture import MixedDataset
from geoclick.train.loop import checkpoints, initial_weights, lora
from geoclick.train.loop.answer_loss import AnswerLossMixin, AnswerSmoother, sample_count
from geoclick.train.loop.evaluation import BEST, EvaluationMixin
from geoclick.train.loop.gradient_checkpointing import TowerCheckpointing
from geoclick.train.loop.initial_weights import Weights
from geoclick.train.loop.monitor import Monitor
from geoclick.train.loop.source_losses import SourceLossMixin
from geoclick.train.packing.packed_dataset import PackedDataset
from geoclick.train.publishing import adapter_folder
from geoclick.vlms import adapter_runs
from geoclick.vlms.adapter import AdapterRecord
from geoclick.vlms.families import TOWERS, tower_of
from geoclick.vlms.processor import Processor

TrainOn = PackedDataset | AugmentedDataset | LengthGroups | MixedDataset
"""Datasets that define the order of their rows."""


class AdapterSavingMixin:
    """What both trainers save: an adapter with its provenance, and nothing else.

    Attributes:
        record: provenance, written next to every adapter that is saved.
        initial: the LoRA weights before the first step, if they were taken out of the base; None if they were not.
        tuned: towers whose LoRA is trained.
    """

    record: AdapterRecord
    initial: Weights | None = None
    tuned: Sequence[str] = TOWERS
    args: TrainingArguments
    accelerator: Accelerator
    model: PreTrainedModel
    processing_class: Processor
    state: TrainerState
    lr_scheduler: LambdaLR

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: TRL's card names neither data nor options; `_save_checkpoint` writes GeoClick's."""

    def _save_checkpoint(self, model: torch.nn.Module, trial: None) -> None:
        """A checkpoint; process 0 also writes processor and card of the run's folder, which describes it."""
        super()._save_checkpoint(model, trial)  # type: ignore[misc]
        if self.args.should_save:
            output = Path(self.args.output_dir)
            checkpoint = output / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
            adapter_folder.complete(output, self.processing_class, output.name, weights_in=checkpoint)

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """One forward and backward pass; raises GeoClickError at the first loss that is not finite."""
        loss: torch.Tensor = super().training_step(*args, **kwargs)  # type: ignore[misc]
        if not loss.isfinite().all():
            raise self._diverged("The loss")
        return loss

    def _diverged(self, what: str) -> GeoClickError:
        """The error of a run that cannot continue, with the last checkpoint, whose weights were checked."""
        last = checkpoints.last_complete(Path(self.args.output_dir))
        good = f"the last good checkpoint is {last}" if last else "there is no checkpoint before it"
        return GeoClickError(
            f"{what} is not finite at step {self.state.global_step + 1}; {good}; lower learning_rate, and give "
            "another --output."
        )

    def _save_rng_state(self, output_dir: str) -> None:
        """The random states of all processes, before process 0 writes the last file of a checkpoint."""
        super()._save_rng_state(output_dir)  # type: ignore[misc]
        self.accelerator.wait_for_everyone()

    def _load_from_checkpoint(self, checkpoint: str, model: torch.nn.Module | None = None) -> None:
        with checkpoints.readable_damage(checkpoint):
            if self.initial is None:
                super()._load_from_checkpoint(checkpoint, model)  # type: ignore[misc]
            else:
                self.initial = initial_weights.restore(self.model, Path(checkpoint), self.initial)
        # PEFT makes all weights of the adapter trainable.
        lora.freeze(self.model, self.tuned)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        with checkpoints.readable_damage(checkpoint):
            super()._load_optimizer_and_scheduler(checkpoint)  # type: ignore[misc]
        if checkpoint:
            self._continue_schedule(Path(checkpoint))

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> LambdaLR:
        """The schedule of learning rates; its length is compared with that of a run that is resumed."""
        self._steps_of_schedule = num_training_steps
        schedule: LambdaLR = super().create_scheduler(num_training_steps, optimizer)  # type: ignore[misc]
        return schedule

    def _continue_schedule(self, checkpoint: Path) -> None:
        """Take the learning rates of the new schedule where a run is resumed to take more steps."""
        planned = TrainerState.load_from_json(str(checkpoint / checkpoints.STATE)).max_steps
        steps, schedule = self._steps_of_schedule, self.lr_scheduler
        if planned == steps:
            return
        done = schedule.last_epoch
        rates = [
            base * factor(done) for base, factor in zip(schedule.base_lrs, schedule.lr_lambdas, strict=True)
        ]
        for group, rate in zip(schedule.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        schedule._last_lr = rates
        if self.args.process_index == 0:
            name = SchedulerType(self.args.lr_scheduler_type).value
            print(
                f"The run takes {steps:,} steps instead of {planned:,}: the learning rate follows the schedule {name} "
                f"of {steps:,} steps and goes on with {rates[0]:.3g} after step {done:,}.",
                flush=True,
            )

    def _load_rng_state(self, checkpoint: str | None) -> None:
        with checkpoints.readable_damage(checkpoint):
            super()._load_rng_state(checkpoint)  # type: ignore[misc]

    def get_decay_parameter_names(self, model: PreTrainedModel) -> list[str]:
        """The parameters with weight decay: the matrices of LoRA, without the magnitudes of DoRA, biases and norms."""
        matrices = {
            name
            for name, parameter in model.named_parameters()
            # Under DeepSpeed ZeRO-3 a parameter is flat here; its real shape is in an attribute.
            if len(getattr(parameter, "ds_shape", parameter.shape)) > 1
        }
        names: list[str] = super().get_decay_parameter_names(model)  # type: ignore[misc]
        return [name for name in names if name in matrices]

    def _save(self, output_dir: str | None = None, state_dict: dict[str, torch.Tensor] | None = None) -> None:
        """The adapter with its provenance and, unless it is a checkpoint, its processor and card.

        Raises:
            GeoClickError: a trained weight is not finite.
        """
        if not self.args.should_save:
            return
        folder = Path(output_dir or self.args.output_dir)
        model = self.accelerator.unwrap_model(self.model)
        trained = [weight for weight in model.parameters() if weight.requires_grad]
        weights = list(state_dict.values()) if state_dict else trained
        if not all(weight.isfinite().all() for weight in weights):
            raise self._diverged("A trained weight")
        record = adapter_runs.at_step(self.record, self.state.global_step)
        adapter_folder.save(model, folder, record, state_dict, self.initial)
        if not folder.name.startswith(PREFIX_CHECKPOINT_DIR):
            run = Path(self.args.output_dir)
            name = run.name if folder == run else f"{run.name}/{BEST}"
            adapter_folder.complete(folder, self.processing_class, name)


class ClickTrainer(EvaluationMixin, AdapterSavingMixin, SourceLossMixin, AnswerLossMixin, SFTTrainer):  # type: ignore[misc]
    """SFTTrainer for click answers.

    Args:
        train_dataset: the rows.
        record: provenance, written next to every adapter that is saved.
        monitor: the evaluation during training, or None.
        train_on: the rows of `train_dataset` in packs, augmented, mixed or by length, to train on instead; None trains
            on batches of the rows as they are.
        tower_lr: learning rates of towers; towers without one have the run's.
        loss_average: what the loss is the mean over, `tokens` or `samples`.
    """

    train_dataset: LazyRows | TrainOn

    def __init__(
        self,
        *args: Any,
        train_dataset: LazyRows,
        record: AdapterRecord,
        monitor: Monitor | None = None,
        train_on: TrainOn | None = None,
        tower_lr: dict[str, float] | None = None,
        loss_average: str = "tokens",
        **kwargs: Any,
    ) -> None:
        # TRL inspects the first row of its dataset.
        first = Dataset.from_list([{**train_dataset[0]}])
        super().__init__(*args, train_dataset=first, **kwargs)
        self.record = record
        self.watch(monitor)
        self.tower_lr = tower_lr or {}
        self.loss_average = loss_average
        if self.args.label_smoothing_factor:
            self.label_smoother = AnswerSmoother(self.args.label_smoothing_factor)
        self._samples = 0
        self.train_dataset = train_dataset if train_on is None else train_on
        # Qwen-VL declares that it takes no `num_items_in_batch`, and Trainer would then average the mean losses of the
        # processes, whatever their numbers of answer tokens. TRL's loss divides by the count over all processes.
        self.model_accepts_loss_kwargs = True
        self.remove_callback(PrinterCallback)
        self.add_callback(TowerCheckpointing())

    def training_step(
        self, model: torch.nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """One forward and backward pass; counts the samples of this process."""
        self._samples += sample_count(inputs)
        return super().training_step(model, inputs, *args, **kwargs)

    def count_samples(self) -> int:
        """Samples that all processes trained on in this session; every process must call it."""
        count = torch.tensor([self._samples], device=self.accelerator.device)
        return int(self.accelerator.gather(count).sum())

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[Any] | None:
        if isinstance(self.train_dataset, TrainOn):
            return EpochSampler(self.train_dataset)
        return super()._get_train_sampler(train_dataset)

    def create_optimizer(self, model: PreTrainedModel | None = None) -> torch.optim.Optimizer:
        """The run's optimizer, with a parameter group for each tower that has its own learning rate.

        The language model's groups come first, because the rate of the first group is logged.
        """
        optimizer = super().create_optimizer(model)
        if self.tower_lr:
            model = self.model if model is None else model
            towers = {parameter: tower_of(name) for name, parameter in model.named_parameters()}
            groups = []
            for tower in (*TOWERS, "other"):
                for group in optimizer.param_groups:
                    if members := [p for p in group["params"] if towers[p] == tower]:
                        lr = self.tower_lr.get(tower, group["lr"])
                        groups.append(group | {"params": members, "lr": lr})
            optimizer.param_groups[:] = groups
        return optimizer
