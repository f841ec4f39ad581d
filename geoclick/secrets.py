"""Secrets among options, such as the token of the hub: they are used, but never written to a file."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_NAME = re.compile(r"(.*[_.-])?(token|key|password|passwd|passphrase|secret|credentials?)", re.IGNORECASE)
_SPECIAL_TOKENS = re.compile(
    r"(eos|bos|pad|unk|cls|sep|mask|image|video|audio|vision|decoder|additional_special)_.*"
)
"""Names of tokens of a vocabulary."""
_TOKEN = re.compile(r"\bhf_[A-Za-z0-9]{16,}|\bsk-(?=[A-Za-z_-]*[0-9])[A-Za-z0-9_-]{16,}")
"""A token of the hub or a key of OpenAI in a text."""


def is_name(name: str) -> bool:
    """Whether an option holds a token, a key or a password, by its name."""
    return bool(_NAME.fullmatch(name)) and not _SPECIAL_TOKENS.fullmatch(name)


def without_secrets(values: Any) -> Any:
    """JSON values without the options that hold a secret, at any depth, and with tokens in texts replaced by `***`."""
    if isinstance(values, Mapping):
        public = {key: value for key, value in values.items() if not is_name(str(key))}
        return {key: without_secrets(value) for key, value in public.items()}
    if isinstance(values, list | tuple):
        return [without_secrets(value) for value in values]
    return _TOKEN.sub("***", values) if isinstance(values, str) else values


def redacted(text: str, secret: str) -> str:
    """A text, such as the error of a server, in which a secret and all tokens are replaced by `***`."""
    hidden = text.replace(secret, "***") if secret else text
    return _TOKEN.sub("***", hidden)


def secret_names(values: Any) -> Iterator[str]:
    """The names of the options in JSON values that hold a secret, at any depth; options without a value do not."""
    if isinstance(values, Mapping):
        for key, value in values.items():
            if is_name(str(key)) and value not in (None, "", [], {}):
                yield str(key)
            else:
                yield from secret_names(value)
    elif isinstance(values, Sequence) and not isinstance(values, str):
        for value in values:
            yield from secret_names(value)


def has_token(text: str) -> bool:
    """Whether a text holds a token of the hub or a key of OpenAI, also if Markdown escapes its underscore."""
    return bool(_TOKEN.search(text.replace("\\_", "_").replace("&#95;", "_")))
