"""Gradient checkpointing tower by tower: layers of a frozen tower are not computed twice.

transformers switches checkpointing on in the vision tower too, and for PEFT lets the patch embeddings of Qwen2-VL and
Qwen2.5-VL ask for a gradient. Together they compute every block of a frozen tower again in each backward pass, and
carry a gradient through it, for nothing.
"""

from typing import Any

from torch import nn
from transformers import TrainerCallback

from geoclick.vlms.families import tower_of


class TowerCheckpointing(TrainerCallback):
    """Confines gradient checkpointing to the towers that are trained, once the trainer has switched it on."""

    def on_train_begin(self, args: Any, state: Any, control: Any, model: nn.Module, **kwargs: Any) -> None:
        """Where the run checkpoints at all."""
        if args.gradient_checkpointing:
            confine(model)


def confine(model: nn.Module) -> None:
    """Cut the graph in front of the vision blocks, and checkpoint them only if they are trained.

    Args:
        model: a Qwen-VL with checkpointing switched on, wrapped by PEFT or not.
    """
    visual = next(module for name, module in model.named_modules() if name.endswith("model.visual"))
    trained = any(p.requires_grad and tower_of(n) == "vision" for n, p in model.named_parameters())

    def enter(block: nn.Module, args: tuple) -> tuple:
        # Reentrant checkpointing, which ZeRO-3 needs, trains nothing in a block whose input asks for no gradient.
        return args[0].detach().requires_grad_(trained), *args[1:]

    visual.blocks[0].register_forward_pre_hook(enter)
    if not trained:
        for module in visual.modules():
            if hasattr(module, "gradient_checkpointing"):
                module.gradient_checkpointing = False
