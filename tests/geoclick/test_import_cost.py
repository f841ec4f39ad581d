"""`--help` is quick: no command imports a model library, or scipy and scikit-image, before it has read its options."""

import subprocess
import sys
import time

import pytest

from geoclick.cli import COMMANDS
from tests.paths import REPO

HEAVY = ("torch", "transformers", "scipy", "skimage", "pycocotools", "pyarrow", "rasterio", "datasets")


def loaded_by(code):
    """The heavy modules that a fresh interpreter has loaded after `code`."""
    code = f"import sys\n{code}\nprint('LOADED', *[m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPO)
    return done.stdout.splitlines()[-1].split()[1:]


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_loads_no_heavy_library(command):
    words = [*command.split(), "--help"]
    assert (
        loaded_by(f"from geoclick.cli import main\ntry:\n    main({words})\nexcept SystemExit:\n    pass")
        == []
    )


def test_the_list_of_commands_loads_next_to_nothing():
    code = (
        "import sys; from geoclick.cli import main; main(['--help']); "
        "print('LOADED', *[m for m in ('torch', 'numpy', 'yaml') if m in sys.modules])"
    )
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPO)
    assert done.stdout.splitlines()[-1] == "LOADED"
    # Half a second is the aim on an idle machine; this one may be busy.
    assert time.perf_counter() - start < 5


@pytest.mark.parametrize(
    "module", ["masks", "codec", "scoring.metrics", "store", "config", "clicks", "prompts"]
)
def test_the_ground_floor_is_light(module):
    assert not {"torch", "transformers"} & set(loaded_by(f"import geoclick.{module}"))
