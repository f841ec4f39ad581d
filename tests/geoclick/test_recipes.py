import pytest
import yaml

from geoclick import config, list_recipes, recipes
from geoclick.errors import UsageError
from tests.paths import REPO

ALL = {**recipes.recipes(), **recipes.accelerate_files()}


def test_every_file_of_the_checkout_is_installed():
    for folder, installed in (
        ("configs", recipes.recipes()),
        ("accelerate_configs", recipes.accelerate_files()),
    ):
        names = {
            p.relative_to(REPO / folder).with_suffix("").as_posix() for p in (REPO / folder).rglob("*.yaml")
        }
        assert set(installed) == names
        assert names


@pytest.mark.parametrize("name", ALL)
def test_a_file_opens_with_its_purpose_and_then_a_command(name):
    lines = ALL[name].read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("# ")
    assert lines[0].endswith(".")
    assert len(recipes.summary(ALL[name])) <= 90
    assert any(line.startswith("#   ") and f"{name}" in line for line in lines[1:4])
    assert yaml.safe_load("\n".join(lines))


def test_a_recipe_is_named_with_or_without_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = config.read_yaml("sft/embedded")
    assert recipe == config.read_yaml(REPO / "configs" / "sft" / "embedded.yaml")
    (tmp_path / "sft").mkdir()
    (tmp_path / "sft" / "embedded").write_text("seed: 5", encoding="utf-8")
    assert config.read_yaml("sft/embedded") == {"seed": 5}


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("sft/embeded", "'sft/embedded'"),
        ("configs/sft/embedded.yaml", "'sft/embedded'"),
        ("zzz", "sft/embedded,"),
    ],
)
def test_an_unknown_name_is_one_sentence_with_the_nearest(tmp_path, monkeypatch, name, hint):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=f"Config file {name} does not exist") as caught:
        config.read_yaml(name)
    assert hint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_command_lists_prints_and_copies(tmp_path, capsys):
    assert list_recipes.main([]) == 0
    listed = capsys.readouterr().out
    for name, path in ALL.items():
        assert f"  {name} " in listed
        assert recipes.summary(path) in listed
    text = ALL["sft/embedded"].read_text(encoding="utf-8")
    assert list_recipes.main(["sft/embedded"]) == 0
    assert capsys.readouterr().out == text
    copy = tmp_path / "new" / "my.yaml"
    assert list_recipes.main(["sft/embedded", "--output", str(copy)]) == 0
    assert copy.read_text(encoding="utf-8") == text


def test_wrong_uses_of_the_command_are_one_sentence(tmp_path, capsys):
    taken = tmp_path / "my.yaml"
    taken.write_text("seed: 1", encoding="utf-8")
    for words in (["sft/nothing"], ["--output", "x.yaml"], ["zero2", "--output", str(taken)]):
        assert list_recipes.main(words) == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert taken.read_text(encoding="utf-8") == "seed: 1"
