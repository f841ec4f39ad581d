"""A command that quantizes nothing does not import bitsandbytes; other programs and QLoRA do."""

import json
import sys
from types import SimpleNamespace

import pytest

from geoclick.vlms import bitsandbytes_import

HIDDEN = {"bitsandbytes": None}


@pytest.fixture
def modules(monkeypatch):
    """The modules of a process that runs a command and has imported nothing."""
    modules = {}
    monkeypatch.setattr(bitsandbytes_import, "sys", SimpleNamespace(modules=modules))
    monkeypatch.setattr(bitsandbytes_import, "_is_command", lambda: True)
    return modules


def test_the_embedded_model_needs_none(modules):
    bitsandbytes_import.leave_out("embedded")
    assert modules == HIDDEN


@pytest.mark.parametrize("optimizer", ["adamw_bnb_8bit", "paged_adamw_32bit", "lion_32bit", "rmsprop_bnb"])
def test_optimizers_that_need_it_have_it(modules, optimizer):
    bitsandbytes_import.leave_out("embedded", optimizer=optimizer)
    assert modules == {}


def test_a_quantized_or_unknown_model_has_it(modules, tmp_path):
    bitsandbytes_import.leave_out(str(tmp_path))
    bitsandbytes_import.leave_out("nobody/nothing-of-this-name")
    (tmp_path / "config.json").write_text(json.dumps({"quantization_config": {"load_in_4bit": True}}))
    bitsandbytes_import.leave_out(str(tmp_path))
    assert modules == {}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen3_vl"}))
    bitsandbytes_import.leave_out(str(tmp_path), optimizer="adamw_torch_fused")
    assert modules == HIDDEN


def test_one_that_is_imported_stays(modules):
    modules["bitsandbytes"] = sys
    bitsandbytes_import.leave_out("embedded")
    assert modules == {"bitsandbytes": sys}


def test_another_program_is_left_alone():
    bitsandbytes_import.leave_out("embedded")
    assert sys.modules.get("bitsandbytes", sys) is not None
