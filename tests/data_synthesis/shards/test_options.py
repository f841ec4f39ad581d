from dataclasses import fields
from typing import get_args

import pytest

from geoclick.data_synthesis.shards.options import CHANGEABLE, OF_MODEL, RECORDED_NAMES, SynthOptions
from geoclick.data_synthesis.simulation.policies import POLICIES, Clicker
from geoclick.errors import UsageError
from geoclick.segmenters.clicking import Multimask


def choices(name):
    (field,) = [field for field in fields(SynthOptions) if field.name == name]
    return field.metadata["choices"]


def test_choices_are_those_of_the_code():
    assert choices("policy") == (*POLICIES, "on-policy")
    assert choices("expert") == tuple(POLICIES)
    assert set(choices("multimask")) == set(get_args(Multimask))


def test_every_switch_of_a_clicker_is_an_option():
    options = SynthOptions(output="out", policy="lookahead", tie="positive", jitter=2, candidates=3)
    assert options.clicker == Clicker("lookahead", "positive", jitter=2, candidates=3)


def test_options_that_move_no_click_may_change_in_an_interrupted_job():
    recorded = SynthOptions(output="out").recorded()
    names = {RECORDED_NAMES.get(field.name, field.name) for field in fields(SynthOptions)}
    assert set(recorded) | set(CHANGEABLE) | set(OF_MODEL) == names
    assert not set(recorded) & set(CHANGEABLE)
    assert recorded == SynthOptions(output="elsewhere", device="cpu", batch=1).recorded()
    assert recorded != SynthOptions(output="out", seed=1).recorded()


def test_the_expert_clicks_after_a_model():
    options = SynthOptions(output="out", policy="on-policy", adapter="runs/lora", expert="lookahead")
    options.check()
    assert options.clicker == Clicker("lookahead")
    recorded = options.recorded()
    assert (recorded["policy"], recorded["expert"], recorded["own_clicks"]) == (
        "on-policy",
        "lookahead",
        "best",
    )
    # The student describes its weights itself, wherever they are.
    assert not {"adapter", "vlm"} & set(recorded)
    assert "expert" not in SynthOptions(output="out").recorded()


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"adapter": "runs/lora"}, "--adapter is for --policy on-policy; add it"),
        ({"expert": "lookahead"}, "--expert is for --policy on-policy; add it"),
        ({"policy": "on-policy"}, "--policy on-policy needs --adapter"),
        (
            {"policy": "on-policy", "adapter": "a", "sequences": 2},
            "add --jitter or --own-clicks random, or use --expert",
        ),
    ],
)
def test_options_of_a_model_that_do_not_fit(options, error):
    with pytest.raises(UsageError, match=error):
        SynthOptions(output="out", **options).check()
