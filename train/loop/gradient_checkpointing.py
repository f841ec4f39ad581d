"""Gradient checkpointing by tower: the layers of a frozen tower are not computed twice.

transformers enables checkpointing in the vision tower too, and for PEFT it makes the patch embeddings of Qwen2-VL and
Qwen2.5-VL require a gradient. Each backward pass would then compute every block of a frozen tower again, for a gradient
that nothing uses.
"""

from typing import Any

from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from geoclick.vlms.families import tower_of


class TowerCheckpointing(TrainerCallback):  # type: ignore[misc]
    """Limits gradient checkpointing to the trained towers, after the trainer has enabled it."""

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: nn.Module,
        **kwargs: Any,
    ) -> None:
        """Only if the run uses gradient checkpointing."""
        if args.gradient_checkpointing:
            limit_to_trained(model)


def limit_to_trained(model: nn.Module) -> None:
    """Detach the input of the vision blocks, and checkpoint them only if they are trained.

    Args:
        model: a Qwen-VL with checkpointing enabled, wrapped by PEFT or not.
    """
    visual: Any = next(module for name, module in model.named_modules() if name.endswith("model.visual"))
    trained = any(p.requires_grad and tower_of(n) == "vision" for n, p in model.named_parameters())

    def detach(block: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        # Reentrant checkpointing, which ZeRO-3 needs, trains nothing in a block whose input requires no gradient.
        return args[0].detach().requires_grad_(trained), *args[1:]

    visual.blocks[0].register_forward_pre_hook(detach)
    if not trained:
        for module in visual.modules():
            if hasattr(module, "gradient_checkpointing"):
                module.gradient_checkpointing = False
