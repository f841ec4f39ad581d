"""Small runs of `geoclick train grpo` for tests: scenes, an adapter of the embedded VLM, and the flags."""

import json

from safetensors.torch import load_file

from geoclick.scenes import run
from tests.train.adapters import random_adapter, with_record


def setting(folder, *, scenes=6, **record):
    """The flags of a run of four steps on `scenes` samples, three an image; the adapter hardly changes the VLM."""
    options = ["--split", "train", "--count", str(scenes), "--seed", "0"]
    assert run.main([str(folder / "scenes"), *options]) == 0
    adapter = random_adapter(folder / "adapter", "embedded", clicks="/somewhere/clicks", std=0.001)
    with_record(adapter, answer_format="json", **record)
    flags = ["--adapter", adapter, "--root", folder / "scenes", "--num_generations", 4]
    flags += ["--learning_rate", 0.001, "--per_device_train_batch_size", 4, "--max_completion_length", 40]
    flags += ["--max_steps", 4, "--logging_steps", 1, "--save_strategy", "steps", "--save_steps", 2]
    return [str(flag) for flag in [*flags, "--use_cpu", "true"]]


def weights(folder):
    """The weights of an adapter."""
    return load_file(folder / "adapter_model.safetensors")


def metrics(output):
    """The content of metrics.json."""
    return json.loads((output / "metrics.json").read_text())
