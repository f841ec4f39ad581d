import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.test_commands import check
from tests.paths import REPO

NOTEBOOK = REPO / "notebooks" / "tutorial.ipynb"


def cells():
    return json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]


def code():
    return ["".join(cell["source"]) for cell in cells() if cell["cell_type"] == "code"]


def test_no_outputs_and_no_paths_of_a_machine_are_committed():
    for cell in cells():
        assert cell.get("outputs", []) == []
        assert cell.get("execution_count") is None
    assert not re.search(r"/tmp/|/root/|/home/|/opt/|/work/|pypi\.org", NOTEBOOK.read_text(encoding="utf-8"))


def test_each_code_cell_is_python():
    for source in code():
        compile(source, "cell", "exec")


def test_the_first_code_cell_chooses_the_models_and_real_ones_are_the_default():
    assert code()[0].startswith('MODELS = "real"')
    chosen: dict = {}
    exec(code()[0], chosen)
    assert chosen["chosen"] is chosen["CHOICES"]["real"]
    assert chosen["CHOICES"].keys() == {"real", "embedded"}
    for one in chosen["CHOICES"].values():
        words = shlex.split(
            f"train sft --config {one['recipe']} --clicks a --root b --output c {one['training']}"
        )
        check(words)


@pytest.mark.slow
def test_the_notebook_runs_on_the_embedded_models(tmp_path):
    source = "\n\n".join(code())
    assert source.count('MODELS = "real"') == 1
    script = tmp_path / "notebook.py"
    script.write_text(source.replace('MODELS = "real"', 'MODELS = "embedded"'), encoding="utf-8")
    environment = {**os.environ, "GEOCLICK_CACHE": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path,
        env=environment,
        text=True,
        capture_output=True,
        timeout=7200,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    base, tuned = (
        json.loads((tmp_path / "runs" / run / "metrics.json").read_text()) for run in ("base", "tuned")
    )
    assert tuned["scores"]["miou"] > base["scores"]["miou"] + 0.1
    assert Path(tmp_path / "court.png").stat().st_size > 1000
    assert "none 0 pixels" in done.stdout
