import dataclasses

import pytest
import yaml

from geoclick import config
from geoclick.config import option
from geoclick.errors import UsageError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    images: tuple[str, ...] = option((), help="images", positional=True)
    seed: int = option(0, help="seed")
    rate: float = option(1e-4, help="learning rate of 10% steps")
    half: bool = option(True, help="half of 50%")
    limit: int | None = option(None, help="at most (default: all)", minimum=1)
    mode: str = option("native", help="mode", choices=("native", "rmsin"))
    kinds: tuple[str, ...] = option(("a",), help="kinds", choices=("a", "b"))
    sizes: tuple[int, ...] = option((1, 2), help="sizes")
    max_pixels: int = option(
        9, help="largest area", name="largest_area", aliases=("area",), deprecated=("pixels",)
    )
    output: str = option(help="folder for 100% of the results")


def parse(*argv):
    return config.parse(Options, argv, prog="geoclick try", description="Tries.", example="geoclick try")


def parse_file(tmp_path, text, *argv):
    path = tmp_path / "options.yaml"
    path.write_text(text, encoding="utf-8")
    return parse("--config", str(path), *argv)


def test_defaults_flags_and_positionals():
    parsed = parse("a.png", "b.png", "--output", "o", "--no-half", "--limit", "3", "--sizes", "4", "5")
    assert parsed == Options(images=("a.png", "b.png"), output="o", half=False, limit=3, sizes=(4, 5))


@pytest.mark.parametrize(
    "argv",
    [
        ("a.png", "--output", "o", "b.png", "c.png"),
        ("--output", "o", "a.png", "--seed", "1", "b.png", "--half", "c.png"),
        ("a.png", "b.png", "c.png", "--output", "o"),
        ("a.png", "--output", "o", "--", "b.png", "c.png"),
    ],
)
def test_positionals_and_flags_stand_in_any_order(argv):
    assert parse(*argv).images == ("a.png", "b.png", "c.png")
    assert parse(*argv).output == "o"


def test_a_positional_may_look_like_a_flag_after_two_dashes():
    assert parse("a.png", "--output", "o", "--", "--seed").images == ("a.png", "--seed")


def test_flags_override_the_file(tmp_path):
    text = "output: file\nseed: 3\nrate: 2e-5\nhalf: false\nkinds: [b, a]\nlimit: null\n"
    parsed = parse_file(tmp_path, text, "--seed", "4", "--half")
    assert parsed == Options(output="file", seed=4, rate=2e-5, half=True, kinds=("b", "a"))


def test_written_config_reads_back(tmp_path):
    options = Options(output="o", images=("x y.png",), limit=7, kinds=("b",))
    config.write_config(options, tmp_path / "run")
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["images"] == ["x y.png"]
    assert parse("--config", str(tmp_path / "run" / "config.yaml")) == options


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([], "Missing --output"),
        (["--output", "o", "--sead", "3"], "--sead"),
        (["--out", "o"], "--out"),
        (["--output"], "--output"),
        (["--output", "o", "--seed", "x"], "seed must be of type int, not 'x'"),
        (["--output", "o", "--seed", "1.5"], "seed must be of type int"),
        (["--output", "o", "--rate", "fast"], "rate must be of type float"),
        (["--output", "o", "--limit", "0"], "--limit must be 1 or more, not 0"),
        (["--output", "o", "--mode", "coco"], "mode"),
        (["--output", "o", "--kinds", "a", "c"], "kinds"),
        (["--config", "no/such.yaml"], "does not exist"),
    ],
)
def test_wrong_flags_are_usage_errors(argv, words):
    with pytest.raises(UsageError, match=words) as caught:
        parse(*argv)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("output: o\nsede: 3", "did you mean 'seed'"),
        ("output: o\nzzzzzz: 3", "known: half"),
        ("output: o\nseed: {a: 1}", "seed must be of type int"),
        ("output: {a: 1}", "output must be of type str"),
        ("output: [a, b]", "output must be of type str"),
        ("output: o\nseed: 1.5", "seed must be of type int"),
        ("output: o\nseed: .inf", "seed must be of type int"),
        ("output: o\nseed:", "seed needs a value"),
        ("output: o\nhalf: maybe", "half must be true or false"),
        ("output: o\nmode: coco", "mode must be one of native, rmsin, not 'coco'"),
        ("output: o\nkinds: [a, c]", "kinds must be one of a, b, not 'c'"),
        ("- output", "key: value"),
        ("output: [", "cannot be read as YAML"),
        ("output: !!python/object/apply:os.getcwd []", "cannot be read as YAML"),
        ("output: \x00", "cannot be read as YAML"),
        ("output: o\nseed: 010", "line 2: YAML takes 010 for a number in base 8 or 60"),
        ("output: o\nseed: 1:30:00", "YAML takes 1:30:00 for a number in base 8 or 60"),
        ("output: 1:30", "in quotes if it is a text"),
    ],
)
def test_wrong_files_are_usage_errors(tmp_path, text, words):
    with pytest.raises(UsageError, match=words) as caught:
        parse_file(tmp_path, text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "flag", ["--largest-area", "--largest_area", "--max-pixels", "--max_pixels", "--area", "--pixels"]
)
def test_a_flag_has_aliases_and_two_spellings(tmp_path, capsys, flag):
    expected = Options(output="a_b", max_pixels=4)
    assert parse("--output", "a_b", flag, "4") == parse("--output=a_b", f"{flag}=4") == expected
    assert parse_file(tmp_path, f"{flag.removeprefix('--')}: 4\noutput: a_b") == expected
    warnings = capsys.readouterr().err.splitlines()
    assert len(warnings) == (3 if flag == "--pixels" else 0)
    assert all("is deprecated; use" in line and "largest" in line for line in warnings)


def test_records_have_the_name_of_the_field_and_messages_that_of_the_flag(tmp_path, capsys):
    config.write_config(Options(output="o"), tmp_path, "# geoclick try\n")
    text = (tmp_path / "config.yaml").read_text()
    assert text.startswith("# geoclick try\n")
    assert "max_pixels: 9" in text
    with pytest.raises(UsageError, match="largest_area must be of type int"):
        parse("--output", "o", "--area", "x")
    with pytest.raises(UsageError, match="twice, under two names"):
        parse_file(tmp_path, "area: 4\nmax-pixels: 5\noutput: o")
    with pytest.raises(SystemExit):
        parse("--help")
    shown = capsys.readouterr().out
    assert "--largest-area INT" in shown
    assert "--max-pixels" not in shown


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    "text",
    [
        BOMB,
        f"{BOMB}seed: *i\noutput: o",
        "seed: &s 1\nlimit: *s\noutput: o",
        f"seed: {'9' * 5000}\noutput: o",
        f"seed: 0x{'f' * 5000}\nhalf: 0x{'f' * 5000}\noutput: o",
        f"seed: {'x' * 100_000}\noutput: o",
        f"output: o\nkinds: {list(range(9999))}",
        f"output: {'[' * 20_000}",
        "output: o\nseed: 2026-99-99",
        "# " + "x" * (1 << 20),
    ],
)
def test_hostile_files_are_short_usage_errors(tmp_path, text):
    with pytest.raises(UsageError) as caught:
        parse_file(tmp_path, text)
    assert len(str(caught.value)) < 400
    assert "\n" not in str(caught.value)


def test_an_empty_file_says_nothing(tmp_path):
    assert parse_file(tmp_path, "", "--output", "o") == Options(output="o")


def test_help_shows_every_option_with_its_default(capsys):
    with pytest.raises(SystemExit) as caught:
        parse("--help")
    assert caught.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    for words in ("100% of the results (required)", "10% steps (default: 0.0001)", "50% (default: True)"):
        assert words in shown
    assert "--config FILE" in shown
    assert "at most (default: all) --mode" in shown
    assert "(default: 1 2)" in shown
    assert "--mode {native,rmsin}" in shown
    assert "--kinds {a,b} [{a,b} ...]" in shown
    assert shown.index("--output STR folder") < shown.index("--seed INT seed")


def test_a_flag_of_several_values_that_is_given_twice_adds_to_them():
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Several:
        images: tuple[str, ...] = option((), help="images", positional=True)
        sizes: tuple[int, ...] = option((1, 2), help="sizes")
        text: tuple[str, ...] = option((), help="texts", repeated=True)

    def read(*words):
        return config.parse(Several, [*words], prog="x", description="x", example="x")

    assert read("--sizes", "3", "4", "--sizes", "5").sizes == (3, 4, 5)
    assert read().sizes == (1, 2)
    options = read("--text", "a", "one.png", "--text", "b c")
    assert (options.text, options.images) == (("a", "b c"), ("one.png",))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bare:
    trial: str | None = option(None, help="trial", choices=("here", "there"), bare="here")


@pytest.mark.parametrize(
    ("flags", "text", "expected"),
    [
        ([], "", None),
        (["--trial"], "", "here"),
        (["--trial", "there"], "", "there"),
        ([], "trial: true", "here"),
        ([], "trial: false", None),
        ([], "trial: there", "there"),
        (["--trial"], "trial: there", "here"),
    ],
)
def test_a_flag_may_have_a_value_or_none(tmp_path, flags, text, expected):
    file = tmp_path / "options.yaml"
    file.write_text(text)
    words = ["--config", str(file), *flags]
    assert config.parse(Bare, words, prog="p", description="d", example="e") == Bare(trial=expected)
