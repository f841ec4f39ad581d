import pytest

from geoclick.errors import UsageError
from geoclick.scoring.modes import MODES, mode_named


def test_modes_name_the_question_they_ask():
    questions = {mode: rules.question for mode, rules in MODES.items()}
    assert questions == {
        "native": None,
        "rmsin": None,
        "segearth-r1": "first",
        "think2seg": "random",
        "semantic": None,
    }


def test_unknown_modes_are_usage_errors():
    assert mode_named("rmsin") is MODES["rmsin"]
    with pytest.raises(UsageError, match="segearth-r1"):
        mode_named("coco")
