from dataclasses import fields
from typing import get_args

from geoclick.data_synthesis.shards.options import CHANGEABLE, RECORDED_NAMES, SynthOptions
from geoclick.data_synthesis.simulation.policies import POLICIES, Clicker
from geoclick.segmenters.clicking import Multimask


def choices(name):
    (field,) = [field for field in fields(SynthOptions) if field.name == name]
    return field.metadata["choices"]


def test_choices_are_those_of_the_code():
    assert choices("policy") == tuple(POLICIES)
    assert set(choices("multimask")) == set(get_args(Multimask))


def test_every_switch_of_a_clicker_is_an_option():
    options = SynthOptions(output="out", policy="lookahead", tie="positive", jitter=2, candidates=3)
    assert options.clicker == Clicker("lookahead", "positive", jitter=2, candidates=3)


def test_options_that_move_no_click_may_change_in_an_interrupted_job():
    recorded = SynthOptions(output="out").recorded()
    names = {RECORDED_NAMES.get(field.name, field.name) for field in fields(SynthOptions)}
    assert set(recorded) | set(CHANGEABLE) == names
    assert not set(recorded) & set(CHANGEABLE)
    assert recorded == SynthOptions(output="elsewhere", device="cpu", batch=1).recorded()
    assert recorded != SynthOptions(output="out", seed=1).recorded()
