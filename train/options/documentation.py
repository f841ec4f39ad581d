"""docs/training_options.md, made from the table of TRL's options.

python -m geoclick.train.options.documentation > docs/training_options.md
"""

from geoclick.train.options import grpo, sft
from geoclick.train.options.trl_rules import DIFFERS, WORKS, Condition, Rule
from geoclick.train.options.trl_table import RULES

INTRODUCTION = """# Options of TRL

<!-- Made by `python -m geoclick.train.options.documentation > docs/training_options.md`; edit
train/options/trl_table.py. -->

`geoclick train sft` and `geoclick train grpo` take their own options (`--help` lists them) and those of TRL's SFTConfig
and GRPOConfig, in the same file or on the same command line. For every option of TRL this page says whether it works as
TRL and transformers document it, means something else here, or is refused, with the reason. A refused option may be
given with the value that changes nothing. Options that are not in this table, such as those of a newer TRL, are
refused.

Defaults in brackets are GeoClick's; all others are TRL's.

| option | `train sft` | `train grpo` |
|---|---|---|
"""


def markdown() -> str:
    """The content of the page."""
    commands = (("SFTConfig", sft.DEFAULTS), ("GRPOConfig", grpo.DEFAULTS))
    names = dict.fromkeys(name for rules in RULES.values() for name in rules)
    lines = []
    for name in names:
        cells = []
        for trl_class, defaults in commands:
            rule = RULES[trl_class].get(name)
            text = _text(rule) if rule else ""
            cells.append(f"{text} [{str(defaults[name]).lower()}]" if name in defaults else text)
        if cells[0] == cells[1] != "works":
            cells[1] = "the same"
        lines.append(f"| `{name}` | {cells[0]} | {cells[1]} |")
    return INTRODUCTION + "\n".join(lines) + "\n"


def _text(rule: Rule) -> str:
    """What an option does in one command."""
    if rule.status not in (WORKS, DIFFERS):
        instead = f"; use {rule.instead}" if rule.instead else ""
        return f"refused: {rule.note}{instead}"
    parts = [rule.note or "works", *_limits(rule.condition)]
    by_limit: dict[str, list[str]] = {}
    for value, condition in rule.values.items():
        by_limit.setdefault(", ".join(_limits(condition)), []).append(f"`{value}`")
    parts += [f"{', '.join(values)}: {limit}" for limit, values in by_limit.items()]
    return "; ".join(parts)


def _limits(condition: Condition) -> list[str]:
    """The parts of a condition in words."""
    limits = []
    if condition.reason:
        limits.append(f"refused: {condition.reason}")
    if condition.package:
        limits.append(f"needs the package {condition.package}")
    if condition.needs:
        limits.append(f"only with {condition.needs}")
    if condition.without:
        limits.append(f"not with {condition.without}")
    return limits


if __name__ == "__main__":
    print(markdown(), end="")
