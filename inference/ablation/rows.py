"""The rows of an ablation: a file for each, named by everything that decides it, so that none is measured twice."""

import json
from pathlib import Path
from typing import NamedTuple

from geoclick import files
from geoclick.inference.ablation.measure import Row
from geoclick.inference.ablation.plan import ORACLE, Place, Step, Value, of_proposals
from geoclick.inference.contrastive.cache import key
from geoclick.yaml_file import Yaml

FOLDER = "rows"
VERSION = 1
"""Changes when the same setting and data give other scores."""


class Measured(NamedTuple):
    """A step of the plan with its row.

    Attributes:
        step: of the plan.
        row: its result.
    """

    step: Step
    row: Row


class RowFiles:
    """The folder of the rows.

    Args:
        output: of the command.
        data: everything besides the setting that decides the scores.
    """

    def __init__(self, output: Path, data: dict[str, Yaml]) -> None:
        self.folder, self.data = output / FOLDER, data

    def path(self, setting: dict[str, Yaml]) -> Path:
        """The file of a setting, as `measure.describe` gives it."""
        return self.folder / f"{key({'version': VERSION, 'setting': setting, 'data': self.data})}.json"

    def read(self, setting: dict[str, Yaml]) -> Row | None:
        """The row of a setting; None if it is not measured yet, or its file is damaged, which one line says."""
        path = self.path(setting)
        try:
            row: Row = json.loads(path.read_text(encoding="utf-8"))
            if row.keys() != Row.__annotations__.keys():
                raise ValueError("other keys")
        except FileNotFoundError:
            return None
        except (OSError, ValueError, AttributeError, RecursionError):
            print(f"{path} is damaged; its row is measured again.")
            return None
        return row

    def write(self, row: Row) -> None:
        """Write the row of a setting."""
        files.write_whole(self.path(row["setting"]), json.dumps(row, indent=1) + "\n")


class Table:
    """The rows in the order of the plan.

    Args:
        measured: the steps with their rows, the base first.
    """

    def __init__(self, measured: list[Measured]) -> None:
        self.measured = measured
        self._rows = {(one.step.place, one.step.is_oracle): one.row for one in measured}

    def row(self, place: Place, *, oracle: bool = False) -> Row | None:
        """The row of a place of the plan, or its oracle; None if there is none."""
        return self._rows.get((place, oracle))

    @property
    def base(self) -> Row:
        """The row of the base."""
        return self._rows[(), False]

    def oracle_of(self, place: Place) -> Row | None:
        """The oracle of the proposals and rules of a place."""
        return self.row(of_proposals(place), oracle=True)

    def of_axis(self, axis: str, values: list[Value]) -> list[tuple[Value, Row]]:
        """The values of an axis that were varied on their own, each with its row."""
        found = [(value, self.row(((axis, value),))) for value in values]
        return [(value, row) for value, row in found if row is not None]

    def best(self) -> Measured:
        """The row of the highest mIoU besides the oracles; the earlier of two equal ones."""
        rows = [one for one in self.measured if one.step.setting.select != ORACLE]
        return max(rows, key=lambda one: one.row["miou"] or 0.0)
