"""The wheel holds everything: installed without the checkout, in an empty folder, the demo runs."""

import json
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile

import pytest

from tests.import_graph import PACKAGES
from tests.paths import REPO

pytestmark = pytest.mark.slow

SOURCES = (*PACKAGES, "configs", "accelerate_configs", "pyproject.toml", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from a copy of the checkout's packages."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        if (REPO / name).is_dir():
            shutil.copytree(REPO / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(REPO / name, folder / name)
    code = "from setuptools import build_meta; build_meta.build_wheel('dist')"
    (folder / "dist").mkdir()
    subprocess.run([sys.executable, "-c", code], cwd=folder, check=True, capture_output=True)
    (path,) = (folder / "dist").glob("*.whl")
    return path


@pytest.fixture(scope="module")
def programs(wheel, tmp_path_factory):
    """The folder of programs of a fresh environment: the wheel, and this environment's libraries."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    (site,) = folder.glob("lib/python*/site-packages")
    # A path line adds the libraries only: the editable install, a .pth file among them, has no effect.
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    if shutil.which("uv"):
        install = ["uv", "pip", "install", "--python", str(python)]
    else:
        install = [sys.executable, "-m", "pip", "--python", str(python), "install"]
    subprocess.run([*install, "--no-deps", str(wheel)], check=True, capture_output=True)
    return python.parent


def test_the_wheel_claims_one_name_and_holds_every_file(wheel):
    with zipfile.ZipFile(wheel) as content:
        names = set(content.namelist())
    tops = {name.split("/")[0] for name in names}
    assert len(tops) == 2
    assert "geoclick" in tops
    assert all(top == "geoclick" or top.endswith(".dist-info") for top in tops)
    for folder in ("geoclick", "train", "inference", "data_synthesis", "configs", "accelerate_configs"):
        prefix = "" if folder == "geoclick" else "geoclick/"
        files = (path for path in (REPO / folder).rglob("*") if path.is_file())
        expected = {f"{prefix}{path.relative_to(REPO).as_posix()}" for path in files if path.suffix != ".pyc"}
        assert expected <= names
    assert "geoclick/py.typed" in names


def test_the_demo_runs_in_an_empty_folder(programs, tmp_path):
    def run(*words):
        done = subprocess.run(
            [programs / "geoclick", *words], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    where = "import geoclick.train.sft as sft; print(sft.__file__)"
    file = subprocess.run(
        [programs / "python", "-c", where], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert file.stdout.startswith(str(programs.parent))
    assert "sft/qwen3_vl_2b" in run("configs")
    assert list(tmp_path.iterdir()) == []
    printed = run("demo", "--train-samples", "24", "--test-samples", "12", "--epochs", "1")
    assert "--config sft/embedded" in printed
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]
    summary = json.loads((tmp_path / "runs" / "demo" / "summary.json").read_text())
    assert summary["samples"] == 12
    assert summary["upper_bound_miou"] > 0.8
    assert (tmp_path / "runs" / "demo" / "lora" / "report.html").is_file()
