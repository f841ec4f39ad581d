from types import SimpleNamespace

import pytest
import torch

from geoclick.errors import GeoClickError, UsageError
from geoclick.train.options import compute
from geoclick.train.options.compute import ComputeOptions

CPU = SimpleNamespace(device=torch.device("cpu"), bf16=False, fp16=False)
GPU = SimpleNamespace(device=torch.device("cuda"), bf16=True, fp16=False)
FLASH = (
    "flash_attention_2",
    "flash_attention_3",
    "kernels-community/flash-attn2",
    "kernels-community/vllm-flash-attn3",
)


@pytest.mark.parametrize("name", ["flash", "sdp", "other/kernels-community", "kernels-community/../x", ""])
def test_an_unknown_attention_is_refused_with_the_names(name):
    with pytest.raises(
        UsageError, match="must be sdpa, eager, flash_attention_2, flash_attention_3 or kernels-comm"
    ):
        ComputeOptions(attn_implementation=name).check_name()


@pytest.mark.parametrize("name", FLASH)
def test_a_missing_package_is_named_and_an_installed_one_is_used(name, monkeypatch):
    options = ComputeOptions(attn_implementation=name)
    monkeypatch.setattr(compute, "find_spec", lambda package: None)
    with pytest.raises(GeoClickError, match=r"needs the package .*kernels, which is not installed"):
        options.check_name()
    monkeypatch.setattr(compute, "find_spec", lambda package: package == "kernels" or None)
    options.check_name()


@pytest.mark.parametrize("name", FLASH)
def test_flash_attention_needs_a_gpu_and_half_precision_and_no_shared_prompts(name):
    options = ComputeOptions(attn_implementation=name)
    compute.check(options, GPU)
    for arguments, dtype, shares, expected in (
        (CPU, "auto", False, "needs a GPU, but the run is on the CPU; use sdpa"),
        (GPU, "float32", False, "add --dtype bfloat16"),
        (GPU, "auto", True, "answers of a group share their prompt"),
    ):
        with pytest.raises(UsageError, match=expected):
            compute.check(
                ComputeOptions(attn_implementation=name, dtype=dtype), arguments, shares_prompts=shares
            )


def test_plain_attention_goes_anywhere():
    for name in compute.PLAIN:
        options = ComputeOptions(attn_implementation=name)
        options.check_name()
        compute.check(options, CPU, shares_prompts=True)


@pytest.mark.parametrize(
    ("dtype", "arguments", "expected"),
    [
        ("auto", CPU, torch.float32),
        ("auto", GPU, torch.bfloat16),
        ("float32", GPU, torch.float32),
        ("bfloat16", CPU, torch.bfloat16),
        ("float16", CPU, torch.float16),
    ],
)
def test_the_dtype_is_the_one_that_was_asked_for(dtype, arguments, expected):
    assert compute.weights_dtype(ComputeOptions(dtype=dtype), arguments) == expected
