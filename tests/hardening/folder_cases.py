"""Output folders that hold something else, and devices that this machine has not."""

import shutil

from geoclick.cli import COMMANDS
from tests.hardening.cases import Case
from tests.hardening.inputs import HEAVY, base, replaced
from tests.hardening.number_cases import options_of

DEVICES = ("mps", "xpu", "meta", "cuda:9", "cuda", "cuda:-1", "vulkan", "gpu", "", "cpu:7", "CPU", "cpu cpu")
ALLOWED = ("cpu:0",)


def dataset(inputs, folder):
    shutil.copytree(inputs.scenes, folder / "place")
    return folder / "place"


def inside_dataset(inputs, folder):
    return dataset(inputs, folder) / "train" / "images"


def store(inputs, folder):
    shutil.copytree(inputs.clicks, folder / "place")
    return folder / "place"


def evaluation(inputs, folder):
    shutil.copytree(inputs.evaluation("a"), folder / "place")
    return folder / "place"


def file(inputs, folder):
    (folder / "place").write_text("text")
    return folder / "place"


def below_file(inputs, folder):
    return file(inputs, folder) / "out"


def link_to_nothing(inputs, folder):
    (folder / "place").symlink_to(folder / "none")
    return folder / "place"


def read_only(inputs, folder):
    return "/proc/geoclick"


def foreign(inputs, folder):
    (folder / "place").mkdir()
    for name in ("config.yaml", "metrics.json", "manifest.json", "adapter_config.json", "README.md"):
        (folder / "place" / name).write_text("mine\n")
    return folder / "place"


PLACES = {
    "empty": lambda inputs, folder: "",
    "a device": lambda inputs, folder: "/dev/null",
    "a file": file,
    "below a file": below_file,
    "read-only": read_only,
    "a link to nothing": link_to_nothing,
    "a name of 5,000 letters": lambda inputs, folder: "a" * 5000,
    "a NUL byte": lambda inputs, folder: "a\0b",
    "files of the user": foreign,
    "a click store": store,
    "an evaluation": evaluation,
}
"""Places that no command may write to, unless it made them; see OWN."""

OWN = {
    "a click store": ("synth",),
    "an evaluation": ("evaluate",),
    "files of the user": ("predict", "scenes", "card", "prepare", "compare", "ablate"),
    "a link to nothing": tuple(COMMANDS),
    "a device": ("configs",),
    "empty": ("configs", "predict"),
}
"""Commands that may write there."""


def with_output(command, inputs, folder, place):
    """The command line whose output is a place."""
    words = base(command, inputs, folder)
    if command in ("scenes", "card"):
        return [place, *words[1:]]
    return replaced(words, "--output", place)


def cases():
    """The cases of both kinds."""
    return [*output_cases(), *dataset_cases(), *device_cases()]


def output_cases(commands=tuple(COMMANDS)):
    for command in commands:
        for name, make in PLACES.items():

            def words(inputs, folder, command=command, make=make):
                return with_output(command, inputs, folder, make(inputs, folder))

            refuse = command not in OWN.get(name, ())
            yield Case("folders", command, f"output: {name}", words, refuse=refuse, heavy=command in HEAVY)


def dataset_cases():
    """The output is the dataset that is read, or a folder of its images."""
    for command in ("synth", "evaluate", "export", "quality", "train sft", "train grpo", "ablate"):
        for name, inner in (("the dataset", ""), ("the images", "test/images"), ("the split", "train")):

            def words(inputs, folder, command=command, inner=inner):
                data = inputs.maps if command == "ablate" else inputs.scenes
                shutil.copytree(data, folder / "place")
                place = folder / "place" / inner if (folder / "place" / inner).exists() else folder / "place"
                own = replaced(base(command, inputs, folder), "--root", folder / "place")
                return replaced(own, "--output", place)

            yield Case("folders", command, f"output: {name}", words, heavy=command in HEAVY)


def device_cases(commands=tuple(COMMANDS)):
    for command in commands:
        names = [field for field in options_of(command).__dataclass_fields__ if field == "device"]
        for device in DEVICES if names else ():

            def words(inputs, folder, command=command, device=device):
                return [*base(command, inputs, folder), f"--device={device}"]

            yield Case("devices", command, device or "empty", words, heavy=command in HEAVY)
