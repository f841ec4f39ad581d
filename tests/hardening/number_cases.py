"""Numbers out of range for every numeric option, GeoClick's and TRL's, as flags and in config files."""

import dataclasses
import importlib
import typing

import yaml

from geoclick.cli import COMMANDS
from geoclick.option_values import kind_of
from tests.hardening.cases import Case
from tests.hardening.inputs import HEAVY, base, replaced

TRAINERS = {"train sft": "SFTConfig", "train grpo": "GRPOConfig"}

NEVER = ("nan", "inf", "-inf", "1e30", "-1e30", str(2**63), "9" * 5000, "1e999")
"""No numeric option has these values."""

SIGNED = ("class_bias", "class_biases", "max_steps", "entropy_coef_delta", "local_rank")
"""Options with negative values."""

WORDS = ("", "one", "1,5", "0x10", "1_0", "٣", "true", "[1]", "{}")
"""No numbers, for a program that does not read Python; the Arabic digit is 3."""


def options_of(command):
    """The dataclass of a command's options."""
    module = importlib.import_module(COMMANDS[command][0])
    if command in TRAINERS:
        name = "geoclick.train.options." + command.split()[1]
        module = importlib.import_module(name)
        return getattr(module, f"{command.split()[1].capitalize()}Options")
    return module.main.options


def numeric(command):
    """{name: (type, whether 0 is out of range)} of a command's numeric options."""
    options = options_of(command)
    hints = typing.get_type_hints(options)
    found = {}
    for field in dataclasses.fields(options):
        kind = kind_of(hints[field.name])
        if kind.plain in (int, float):
            minimum = field.metadata["minimum"]
            found[field.metadata["name"] or field.name] = kind.plain, minimum is not None and minimum > 0
    return found | trl_numbers(command)


def trl_numbers(command):
    """As `numeric`, of the options of TRL that a user can set."""
    if command not in TRAINERS:
        return {}
    import trl

    from geoclick.train.options.trl_rules import REFUSED
    from geoclick.train.options.trl_table import RULES

    config = getattr(trl, TRAINERS[command])
    hints = typing.get_type_hints(config)
    found = {}
    for name, rule in RULES[TRAINERS[command]].items():
        types = typing.get_args(hints.get(name)) or (hints.get(name),)
        plain = next((one for one in (float, int) if one in types), None)
        if plain and rule.status != REFUSED and bool not in types:
            found[name] = plain, False
    return found


USELESS = {
    "learning_rate": ("0",),
    "num_train_epochs": ("0", "-3"),
    "gradient_accumulation_steps": ("0", "-1"),
    "per_device_train_batch_size": ("0", "-1"),
    "max_steps": ("0", "-7"),
    "lora_alpha": ("0",),
    "lora_r": ("0", "100000"),
    "lora_dropout": ("1", "7"),
    "adam_beta1": ("1", "2"),
    "adam_beta2": ("1", "2"),
    "save_steps": ("0",),
    "logging_steps": ("0",),
    "num_generations": ("0", "1"),
    "temperature": (),
    "epochs": ("0",),
    "train_samples": ("0",),
    "test_samples": ("0",),
    "vote_threshold": ("1.5",),
    "validation_share": ("1",),
    "threshold": ("2",),
    "min_iou": ("2",),
    "predicted_ious": ("7",),
    "stability_score": ("7",),
    "predicted_iou": ("7",),
    "min_same": ("2",),
}
"""Values with which a command would do nothing of use."""


def cases(commands=tuple(COMMANDS)):
    """The cases of this kind; those of the trainers need TRL."""
    return [*flags(commands), *typed(commands)]


def flags(commands):
    """A value of a flag."""
    for command in commands:
        for name, (plain, positive) in numeric(command).items():
            refused = [*NEVER, *WORDS, *USELESS.get(name, ())]
            refused += ["0"] if positive and "0" not in refused else []
            refused += ["-1"] if name not in SIGNED else []
            refused += ["1.5"] if plain is int else []
            for value in dict.fromkeys(refused):
                yield flag_case(command, name, value)


def flag_case(command, name, value):
    flag = f"--{name.replace('_', '-')}"

    def words(inputs, folder):
        own = replaced(base(command, inputs, folder), flag)[:-1]
        if name in ("num_train_epochs", "epochs"):
            own = replaced(own, "--max-steps")[:-1]
        return [*own, f"{flag}={value}"]

    shown = value if len(value) < 20 else f"{len(value)} digits"
    return Case("numbers", command, f"{flag}={shown}", words, heavy=command in HEAVY)


VALUES = {
    "infinity": ".inf",
    "not a number": ".nan",
    "a huge integer": "9" * 400,
    "a list": "[1, 2, 3]",
    "a mapping": "{a: 1}",
    "a date": "2026-01-01",
    "a base-60 integer": "1:30:00",
    "a boolean": "true",
}
"""Values of a config file; sequences may be lists."""


def typed(commands):
    """A value of a config file."""
    for command in commands:
        options = options_of(command)
        hints = typing.get_type_hints(options)
        for field in dataclasses.fields(options):
            kind = kind_of(hints[field.name])
            if kind.plain not in (int, float) or kind.many:
                continue
            for name, value in VALUES.items():
                yield file_case(command, field.metadata["name"] or field.name, name, value)


def file_case(command, option, name, value):
    def words(inputs, folder):
        path = folder / "options.yaml"
        own = list(map(str, base(command, inputs, folder)))
        lines = [f"{option}: {value}\n"]
        if "--config" in own:
            from geoclick import recipes

            recipe = recipes.recipes()[own[own.index("--config") + 1]]
            content = yaml.safe_load(recipe.read_text())
            content.pop(option, None)
            lines.append(yaml.safe_dump(content))
        flag = f"--{option.replace('_', '-')}"
        if flag in own:
            own[own.index(flag) : own.index(flag) + 2] = []
        path.write_text("".join(lines))
        return replaced(own, "--config", path)

    return Case("numbers", command, f"{option}: {name}", words, heavy=command in HEAVY)
