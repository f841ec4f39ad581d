"""Adapter folders with random LoRA weights, as `geoclick train sft` leaves them."""

import dataclasses
import json

import torch
from peft import LoraConfig, get_peft_model

from geoclick import vlms
from geoclick.vlms import adapter, families, loading


def random_adapter(folder, base, *, clicks="", root="", std=0.2, **lora):
    """Write an adapter of `base` whose weights change its answers; returns the folder."""
    vlm = vlms.load(str(base), device="cpu")
    options = {"r": 4, "target_modules": families.LORA_TARGETS} | lora
    torch.manual_seed(1)
    model = get_peft_model(vlm.model, LoraConfig(**options))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=std)
    model.save_pretrained(folder, save_embedding_layers=False)
    limits = loading.pixel_limits(vlm.processor)
    record = adapter.AdapterRecord(
        base=str(base),
        revision="",
        family=vlm.family,
        fingerprint=vlm.fingerprint,
        answer_format="compact",
        min_pixels=limits[0],
        max_pixels=limits[1],
        targets=families.LORA_TARGETS,
        versions=adapter.library_versions(),
        config={"clicks": str(clicks), "root": str(root), "lora_r": 4, "max_clicks": 6},
    )
    adapter.write_record(folder, record)
    metrics = {"loss": [], "rows": 8, "rows_left_out": {"below min_iou": 2}, "steps": 3, "seconds": 1.5}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    (folder / "config.yaml").write_text(f"clicks: {clicks}\n")
    return folder


def with_record(folder, **changes):
    """Change the record of an adapter folder."""
    adapter.write_record(folder, dataclasses.replace(adapter.read_record(folder), **changes))


def evaluated(folder, **protocol):
    """Write the metrics.json of an evaluation; returns the folder."""
    folder.mkdir(parents=True)
    block = {"miou": 0.75, "oiou": 0.5} | {f"pr@0.{n}": 1 - n / 10 for n in range(5, 10)}
    block |= {"n": 4, "miou_interval": [0.7, 0.8]}
    common = {"dataset": "folder", "root": "/home/somebody/scenes", "split": "test", "n": 4, "mode": "native"}
    content = {"scores": block, "by_task": {"referring": block}, "protocol": common | protocol}
    (folder / "metrics.json").write_text(json.dumps(content))
    return folder
