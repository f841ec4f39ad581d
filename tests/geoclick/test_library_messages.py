import importlib.util
import logging
from pathlib import Path

import pytest

from geoclick import library_messages


@pytest.mark.parametrize(("name", "words"), library_messages.DROPPED.items())
def test_only_the_message_that_a_user_cannot_act_on_is_dropped(name, words):
    library_messages.drop()
    library_messages.drop()
    logger, shown = logging.getLogger(name), []
    handler = logging.Handler()
    handler.emit = lambda record: shown.append(record.getMessage())
    logger.addHandler(handler)
    try:
        logger.warning("Before %s.", words)
        logger.warning("Another message.")
    finally:
        logger.removeHandler(handler)
    assert shown == ["Another message."]
    assert len([one for one in logger.filters if words in getattr(one, "words", "")]) == 1


@pytest.mark.parametrize(
    ("package", "file", "words"),
    [
        ("bitsandbytes", "backends/cpu/ops.py", "kernels-community"),
        ("deepspeed", "accelerator/real_accelerator.py", "Setting accelerator to CPU"),
    ],
)
def test_the_installed_libraries_still_say_so(package, file, words):
    spec = importlib.util.find_spec(package)
    if spec is None:
        pytest.skip(f"{package} is not installed")
    assert words in (Path(spec.origin).parent / file).read_text()
