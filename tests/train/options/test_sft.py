import pytest

from geoclick.errors import UsageError
from geoclick.train.options import grpo
from geoclick.train.options.sft import DEFAULTS, parse
from geoclick.train.options.trl_options import TrlCommand

REQUIRED = ["--clicks", "c", "--root", "r", "--output", "o"]


def test_file_and_flags_join_and_flags_win(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text(
        "clicks: c\nroot: r\noutput: o\nlora_r: 8\nuse_dora: true\nlearning_rate: 2e-3\n"
        "bf16: true\nlr_scheduler_kwargs: {num_cycles: 2}\nwarmup_steps: null\n"
    )
    options, settings = parse(
        ["--config", str(file), "--lora-r=16", "--learning-rate", "1e-3", "--no-use-dora"]
    )
    assert (options.clicks, options.lora_r, options.use_dora, options.vlm) == (("c",), 16, False, "embedded")
    assert settings == DEFAULTS | {
        "learning_rate": 1e-3,
        "bf16": True,
        "lr_scheduler_kwargs": {"num_cycles": 2},
        "warmup_steps": None,
    }


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--lora-rr", "8"], "did you mean 'lora_r'"),
        (["--learning_rat", "1"], "did you mean 'learning_rate'"),
        (["--learning_rate", "fast"], "learning_rate"),
        (["--learning_rate", "1", "2"], "takes one value"),
        (["--lora-r", "0"], "--lora-r must be 1 or more"),
        (["--min-iou", "-0.1"], "--min-iou must be from 0 to 1, not -0.1"),
        (["--lora-r", "x"], "lora_r must be of type int"),
        (["--packing", "true"], "packing in the command line is set by GeoClick"),
        (["--packing-tokens", "-1"], "--packing-tokens must be 0 or more"),
        (["--packing-tokens", "9", "--per_device_train_batch_size", "2"], "a batch is one pack"),
        (["--packing-tokens", "9", "--train_sampling_strategy", "sequential"], "an order of their own"),
        (["--augment", "flip", "--train_sampling_strategy", "sequential"], "an order of their own"),
        (["--augment", "blur"], "invalid choice: 'blur'"),
        (["--other-format-share", "1.5"], "a fraction, 0 to 1"),
        (["--output_dir", "x"], "use output instead"),
        (["--save_strategy", "never"], "save_strategy"),
        (["--tune", "vision", "head"], "tune must be one of|invalid choice: 'head'"),
        (["--projector-lr", "1e-5"], "--projector-lr is given but projector is not tuned"),
        (["--learning_rate", "inf"], "learning_rate must be a finite number, not inf"),
        (["--learning_rate", "-1"], "learning_rate must be above 0 and at most 10, not -1"),
        (["--weight_decay", "nan"], "weight_decay must be a finite number, not nan"),
        (["--num_train_epochs", "0"], "num_train_epochs must be above 0 and at most 1e.06, not 0"),
        (["--max_steps", "0"], "max_steps must be 1 or more, or -1"),
        (["--gradient_accumulation_steps", "-1"], "gradient_accumulation_steps must be 1 or more, not -1"),
        (["--quantise", "int3"], "invalid choice: 'int3'"),
        (["--label_smoothing_factor", "1"], "label_smoothing_factor must be from 0 to below 1, not 1"),
        (["--dataloader_num_workers", "-1"], "dataloader_num_workers must be from 0 to 1024, not -1"),
        (["--seed", "-1"], "seed must be 0 or more, not -1"),
        (["--learning_rate", "0"], "learning_rate must be above 0 and at most 10, not 0"),
        (["--learning_rate", "1e30"], "learning_rate must be above 0 and at most 10, not 1e.30"),
        (["--lora-alpha", "1000000000"], "lora_alpha must be from 1 to 1e.06, not 1e.09"),
        (["--adam_beta1", "1"], "adam_beta1 must be from 0 to below 1, not 1"),
        (["--max_grad_norm", "-1"], "max_grad_norm must be 0 or more, not -1"),
        (["--save_steps", "0"], "save_steps must be above 0, not 0"),
        (["--save_steps", str(2**63)], "save_steps must be"),
        (["--save_steps", "1_0"], "save_steps must be a number, not '1_0'"),
        (["--learning_rate=\u0663"], "learning_rate must be a number, not"),
        (["--warmup_steps", "1e12"], "warmup_steps must be at most 1000000000, not 1e.12"),
        (["--loss-average", "rows"], "invalid choice: 'rows'"),
    ],
)
def test_a_wrong_flag_is_one_sentence(words, expected):
    with pytest.raises(UsageError, match=expected) as caught:
        parse([*REQUIRED, *words])
    assert "\n" not in str(caught.value)


def test_packing_makes_a_batch_of_one_pack_and_nothing_else_does():
    assert parse([*REQUIRED, "--packing-tokens", "2048"])[1] == DEFAULTS | {"per_device_train_batch_size": 1}
    for words in ([], ["--packing-tokens", "0"]):
        assert parse([*REQUIRED, *words])[1] == DEFAULTS


def test_an_unknown_key_in_the_file_names_the_file(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("learning_rates: 1\n")
    with pytest.raises(UsageError, match=r"'learning_rates' in .*run.yaml; did you mean 'learning_rate'"):
        parse([*REQUIRED, "--config", str(file)])


def test_towers_and_their_rates_come_from_a_file_as_from_flags(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("tune: [language_model, vision]\nvision_lr: 1.0e-5\n")
    options, _ = parse([*REQUIRED, "--config", str(file)])
    assert options == parse([*REQUIRED, "--tune", "language_model", "vision", "--vision-lr", "1e-5"])[0]
    assert options.tower_lr == {"vision": 1e-5}
    assert not options.constant_features
    assert parse(REQUIRED)[0].constant_features
    assert parse([*REQUIRED, "--augment", "jitter", "shuffle"])[0].constant_features
    assert not parse([*REQUIRED, "--augment", "jitter", "crop"])[0].constant_features


def test_required_options_are_asked_for():
    with pytest.raises(UsageError, match="--root"):
        parse(["--clicks", "c"])


@pytest.mark.parametrize(
    ("recipe", "clicks"),
    [("embedded", 2), ("qwen3_vl_2b", 6), ("qwen3_vl_2b_qlora", 6), ("qwen2_5_vl_7b", 6)],
)
def test_recipes_parse(recipe, clicks):
    options, settings = parse(["--config", f"configs/sft/{recipe}.yaml", *REQUIRED])
    assert options.max_clicks == clicks
    assert options.lora_r == 32
    assert settings["num_train_epochs"] >= 3


def test_no_iterations_of_grpo_are_refused():
    with pytest.raises(UsageError, match="num_iterations must be 1 or more, not 0"):
        grpo.parse(["--adapter", "a", "--root", "r", "--output", "o", "--num_iterations", "0"])


def test_the_check_knows_the_optimizer_and_comes_before_trl_is_imported(monkeypatch):
    order = []
    monkeypatch.setattr(TrlCommand, "_trl_values", lambda *_: order.append("TRL") or {})
    parse([*REQUIRED, "--optim", "adamw_8bit"], lambda _, optimizer: order.append(optimizer))
    assert order[:2] == ["adamw_8bit", "TRL"]
