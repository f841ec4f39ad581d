import dataclasses

import pytest
import trl

from geoclick import secrets

TOKEN = "hf_abcdefghijklmnopqrst"


def test_secrets_leave_options_at_any_depth():
    values = {
        "hub_token": TOKEN,
        "lora_r": 4,
        "pad_token": "<pad>",
        "start": {"api-key": "x", "kwargs": [{"password": "y", "max_tokens": 3}]},
        "run_name": f"run {TOKEN}",
    }
    assert secrets.without_secrets(values) == {
        "lora_r": 4,
        "pad_token": "<pad>",
        "start": {"kwargs": [{"max_tokens": 3}]},
        "run_name": "run ***",
    }
    assert list(secrets.secret_names(values)) == ["hub_token", "api-key", "password"]


@pytest.mark.parametrize("trl_class", [trl.SFTConfig, trl.GRPOConfig])
def test_the_options_of_trl_that_hold_a_secret_are_known(trl_class):
    names = {field.name for field in dataclasses.fields(trl_class)}
    assert {name for name in names if secrets.is_name(name)} == {"hub_token"}
    about = ("token", "key", "password", "secret", "credential")
    assert {name for name in names if any(word in name for word in about)} <= {
        *("hub_token", "eos_token", "pad_token"),
        *("average_tokens_across_devices", "include_num_input_tokens_seen"),
    }


def test_a_token_in_escaped_markdown_is_recognized():
    assert secrets.has_token(f"a {TOKEN}")
    assert secrets.has_token(TOKEN.replace("_", "\\_"))
    assert not secrets.has_token("hf_home")


def test_a_key_of_openai_is_recognized_and_any_secret_is_replaced():
    key = "sk-proj-abcdefghij0123456789"
    assert secrets.has_token(f"a {key}")
    assert not secrets.has_token("sk-learn-classifiers-of-land-cover")
    assert secrets.redacted(f"wrong key: {key} or s3cret", "s3cret") == "wrong key: *** or ***"
    assert secrets.redacted("no secret", "") == "no secret"
