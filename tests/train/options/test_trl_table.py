"""Every option of TRL works, means something else that is stated, or is refused with the reason."""

import sys
from dataclasses import MISSING, fields

import pytest
import trl

from geoclick.errors import UsageError
from geoclick.train.options import documentation, grpo, sft, trl_rules
from geoclick.train.options.trl_rules import DIFFERS, NEVER, REFUSED
from geoclick.train.options.trl_table import RULES
from tests.paths import REPO

COMMANDS = {
    "SFTConfig": (sft.parse, ["--clicks", "c", "--root", "r", "--output", "o"]),
    "GRPOConfig": (grpo.parse, ["--adapter", "a", "--root", "r", "--output", "o"]),
}
SET_BY_GEOCLICK = {
    "max_length": None,
    "remove_unused_columns": False,
    "completion_only_loss": True,
    "disable_tqdm": True,
}
"""Values that are not TRL's defaults, but hold in every run."""


@pytest.fixture(params=COMMANDS)
def trl_class(request):
    return request.param


@pytest.fixture
def parse(trl_class):
    """The command's parser, given further arguments."""
    function, required = COMMANDS[trl_class]
    return lambda *words: function([*required, *words])


def defaults(trl_class):
    """The default of each option of a class of TRL."""
    values = {}
    for field in fields(getattr(trl, trl_class)):
        if field.init:
            values[field.name] = field.default if field.default is not MISSING else field.default_factory()
    return values


def test_the_table_has_every_option_of_the_installed_trl_and_no_other(trl_class):
    assert RULES[trl_class].keys() == defaults(trl_class).keys()


def test_what_differs_or_is_refused_says_so(trl_class):
    for name, rule in RULES[trl_class].items():
        assert bool(rule.note) == (rule.status in (DIFFERS, REFUSED)), name
        assert not rule.note.endswith("."), name


def test_the_accepted_value_of_a_refused_option_is_the_one_that_holds(trl_class):
    for name, rule in RULES[trl_class].items():
        if rule.status == REFUSED and rule.accepted is not NEVER:
            held = SET_BY_GEOCLICK.get(name, defaults(trl_class)[name])
            assert trl_rules.equals(held, rule.accepted), name


def test_refusals_are_one_sentence_and_need_no_library(trl_class, parse, monkeypatch):
    for module in ("trl", "transformers", "torch"):
        monkeypatch.setitem(sys.modules, module, None)
    for name, rule in RULES[trl_class].items():
        # On the command line `--debug` is a flag of every command.
        if rule.status == REFUSED and name != "debug":
            value = "false" if rule.accepted is True else "true" if rule.accepted is False else "7"
            with pytest.raises(UsageError, match=f"^{name} in the command line ") as caught:
                parse(f"--{name}={value}")
            assert "\n" not in str(caught.value)


def test_a_refused_option_may_have_the_value_that_changes_nothing(parse, trl_class, tmp_path):
    plain = parse()[1]
    assert parse("--hub_always_push", "false", "--use_cache=False", "--dataloader_in_order")[1] == plain
    file = tmp_path / "run.yaml"
    file.write_text("remove_unused_columns: false\neval_steps: null\nparallelism_config: null\n")
    assert parse("--config", str(file))[1] == plain


def test_an_option_that_the_table_does_not_have_is_refused(parse, trl_class, monkeypatch):
    others = {name: rule for name, rule in RULES[trl_class].items() if name != "adam_beta1"}
    monkeypatch.setitem(RULES, trl_class, others)
    with pytest.raises(UsageError, match="Unknown key 'adam_beta1'"):
        parse("--adam_beta1", "0.8")


@pytest.mark.parametrize(
    ("trl_class", "words", "message"),
    [
        ("SFTConfig", ["--eval_on_start", "true"], "has no effect without evaluate_every"),
        ("SFTConfig", ["--save_strategy", "best"], "has no effect without evaluate_every"),
        ("SFTConfig", ["--per_device_eval_batch_size", "4"], "has no effect without evaluate_every"),
        ("SFTConfig", ["--dataloader_prefetch_factor", "2"], "has no effect without dataloader_num_workers"),
        ("SFTConfig", ["--optim", "lomo"], "optim lomo .* updates weights during the backward pass"),
        ("SFTConfig", ["--optim", "galore_adamw"], "of low rank already"),
        ("SFTConfig", ["--pad_to_multiple_of", "8", "--packing-tokens", "99"], "not go with packing_tokens"),
        (
            "SFTConfig",
            ["--loss_type", "dft", "--loss-average", "samples"],
            "not go with loss_average samples",
        ),
        (
            "SFTConfig",
            ["--loss_type=dft", "--label_smoothing_factor=0.1"],
            "label_smoothing_factor .* not go with loss_type dft",
        ),
        ("SFTConfig", ["--liger_kernel_config", "{}"], "has no effect without use_liger_kernel"),
        ("SFTConfig", ["--lr_scheduler_type", "greedy"], "must follow from its number"),
        ("SFTConfig", ["--no_eval_do_concat_batches"], "eval_do_concat_batches .* has no effect"),
        ("SFTConfig", ["--train_sampling_strategy=batch_rebalance"], "depends on the number of processes"),
        ("GRPOConfig", ["--vllm_mode", "server"], "has no effect without use_vllm"),
        ("GRPOConfig", ["--sapo_temperature_pos", "2"], "has no effect without loss_type sapo"),
        ("GRPOConfig", ["--save_strategy", "best"], "has no effect without evaluate_every"),
        ("GRPOConfig", ["--cache_implementation", "static"], "share its cache"),
    ],
)
def test_options_that_do_not_go_together_are_refused(trl_class, words, message, parse):
    with pytest.raises(UsageError, match=message):
        parse(*words)


def test_options_go_together_with_what_they_need(tmp_path):
    _, given = COMMANDS["SFTConfig"][0](
        [
            *COMMANDS["SFTConfig"][1],
            "--eval_on_start",
            "true",
            "--evaluate-every",
            "5",
            "--save_strategy=best",
        ]
    )
    assert given["eval_on_start"] is True
    assert given["save_strategy"] == "best"
    _, given = COMMANDS["GRPOConfig"][0](
        [*COMMANDS["GRPOConfig"][1], "--beta=0.1", "--use_bias_correction_kl=0"]
    )
    assert given["use_bias_correction_kl"] is False


def test_a_missing_package_is_named(parse, trl_class, monkeypatch):
    monkeypatch.setattr(trl_rules, "find_spec", lambda name: None)
    words = ["--use_vllm", "true"] if trl_class == "GRPOConfig" else ["--optim", "grokadamw"]
    with pytest.raises(UsageError, match=r"needs the package (vllm|grokadamw), which is not installed"):
        parse(*words)


def test_the_page_is_up_to_date():
    """Run `python -m geoclick.train.options.documentation > docs/training_options.md` after a change of the table."""
    page = (REPO / "docs/training_options.md").read_text(encoding="utf-8")
    assert page == documentation.markdown()
