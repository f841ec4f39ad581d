"""`--help` is fast: no command imports a model library, scipy or scikit-image before it has parsed its options."""

import resource
import subprocess
import sys

import pytest

from geoclick.cli import COMMANDS
from tests.paths import REPO

HEAVY = ("torch", "transformers", "scipy", "skimage", "pycocotools", "pyarrow", "rasterio", "datasets")


def loaded_by(code, modules=HEAVY):
    """The given modules that a fresh interpreter has loaded after `code`, and its CPU time in seconds.

    A busy machine makes the time up to three times as long.
    """
    code = f"import sys\n{code}\nprint('LOADED', *[m for m in {modules} if m in sys.modules])"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPO)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return done.stdout.splitlines()[-1].split()[1:], seconds


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_loads_no_heavy_library(command):
    words = [*command.split(), "--help"]
    code = f"from geoclick.cli import main\ntry:\n    main({words})\nexcept SystemExit:\n    pass"
    loaded, seconds = loaded_by(code)
    assert loaded == []
    assert seconds < 3 * 0.5


def test_the_list_of_commands_loads_next_to_nothing():
    code = "from geoclick.cli import main; main(['--help'])"
    loaded, seconds = loaded_by(code, ("torch", "numpy", "yaml", "argparse"))
    assert loaded == []
    assert seconds < 3 * 0.1


def test_the_lower_floors_are_light():
    """Together, so that one interpreter is enough."""
    names = [
        "masks",
        "distance",
        "codec",
        "scoring.metrics",
        "store",
        "config",
        "clicks",
        "prompts",
        "images",
    ]
    names += ["vlms", "vlms.families", "vlms.resizing"]
    loaded, _ = loaded_by("".join(f"import geoclick.{name}\n" for name in names))
    assert not {"torch", "transformers", "scipy", "skimage"} & set(loaded)


REQUESTS = (
    "synth --root no-root --output OUT",
    "synth --root . --output OUT --sequences 2 --policy center",
    "evaluate --root no-root --output OUT",
    "train sft --clicks no-store --root . --output OUT",
    "train sft --clicks no-store --root . --output FINISHED",
    "train grpo --adapter no-adapter --root . --output OUT",
    "train grpo --adapter . --root no-root --output OUT",
    "merge no-adapter --output FINISHED",
    "predict no-image.png --text tank --output OUT",
    "predict README.md --text tank --output FINISHED",
    "predict README.md --classes road;road --output OUT",
    "predict README.md --classes road;tree --output FINISHED",
)


def test_a_wrong_request_is_refused_before_a_model_library_is_imported(tmp_path):
    """One after another in one interpreter, which names the first request that imports one."""
    finished = tmp_path / "finished"
    finished.mkdir()
    (finished / "adapter_model.safetensors").touch()
    names = {"OUT": str(tmp_path / "out"), "FINISHED": str(finished)}
    requests = [[names.get(word, word) for word in words.split()] for words in REQUESTS]
    code = f"""
from geoclick.cli import main
for words in {requests}:
    assert main(words) in (1, 2), words
    assert not {{"torch", "transformers", "trl"}} & sys.modules.keys(), words"""
    assert loaded_by(code, ("torch", "transformers", "trl"))[0] == []
    assert not (tmp_path / "out").exists()


def test_a_segmenter_loads_without_torchvision():
    code = "from geoclick import segmenters; segmenters.load()"
    assert loaded_by(code, ("torchvision", "torch._dynamo", "transformers", "skimage"))[0] == []
