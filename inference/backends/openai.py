"""A model on a server with OpenAI's chat API: GPT-5, or what vLLM, SGLang or transformers serve.

Images are sent as files of a known largest side, and coordinates are relative to the image: the server may resize it
unseen. Models that count pixels of the resized image are refused for that reason.
"""

import base64
import hashlib
import importlib.util
import io
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

import numpy as np
from PIL import Image

from geoclick import codec, prompts
from geoclick.codec import Answer
from geoclick.errors import GeoClickError, UsageError
from geoclick.inference.backends import chat_api
from geoclick.inference.backends.base import Reply
from geoclick.inference.backends.ledger import Ledger
from geoclick.inference.backends.sending import Request, Rules, Sender
from geoclick.inference.generative import mask_decoding
from geoclick.jobs import processes
from geoclick.prompts import THINKING
from geoclick.yaml_file import Yaml

if TYPE_CHECKING:
    from openai import AsyncOpenAI

    from geoclick.options import GenerationOptions
    from geoclick.prompts import Chat

OPENAI = "https://api.openai.com/v1"
"""It refuses arguments that it does not know, such as those of a chat template."""
KEY = "OPENAI_API_KEY"
NO_KEY = "none"
"""What is sent to servers of one's own that ask for no key."""

SAVING = {"png": {"compress_level": 1}, "jpeg": {"quality": 95}}
"""How image files are written: Pillow's default compression of PNG takes four times as long for a sixth less."""

LOOPBACK = ("localhost", "127.0.0.1", "::1")

_QWEN2_5_VL = re.compile(r"qwen[-_ ]?2[._-]?5[-_ ]?(vl|omni)", re.IGNORECASE)


@dataclass(frozen=True)
class Server:
    """A model on a server as a backend.

    Attributes:
        name: of the model, as the user gave it.
        sender: of the requests.
        zero_shot: whether the model is asked with the zero-shot prompt.
        answer_format: of the answers.
        side: longest side in pixels of the images that are sent.
        image_format: `png` or `jpeg`.
        temperature: None leaves it to the server, since some models accept none.
        max_new_tokens: None leaves it to the server, since models that reason need many.
        structured: the value of --structured.
        reasoning_effort: None leaves it to the server.
        thinking: whether the chat template lets the model think; None leaves it to the server.
        revision: empty, since a server tells none; likewise `fingerprint`, `quantized` and `record`.
    """

    name: str
    sender: Sender
    zero_shot: bool
    answer_format: str
    side: int
    image_format: str
    temperature: float | None
    max_new_tokens: int | None
    structured: str
    reasoning_effort: str | None = None
    thinking: bool | None = None
    revision: str = ""
    fingerprint: str = ""
    quantized: str = ""
    record: None = None

    def refusal(self, size: tuple[int, int]) -> str:
        """See `Backend`."""
        return mask_decoding.refusal(size)

    def answer(self, images: Sequence[np.ndarray], queries: Sequence[str]) -> list[Reply]:
        """See `Backend`; raises GeoClickError if no further request makes sense."""
        return [replies[0] for replies in self.sample(images, queries, 1)]

    def sample(self, images: Sequence[np.ndarray], queries: Sequence[str], count: int) -> list[list[Reply]]:
        """See `Backend`; raises as `answer`."""
        files = {id(image): encode(image, self.side, self.image_format) for image in images}
        replies = self.sender.send(
            [
                self._request(files[id(image)], query, number)
                for image, query in zip(images, queries, strict=True)
                for number in range(count)
            ]
        )
        return [replies[start : start + count] for start in range(0, len(replies), count)]

    def read(self, text: str, size: tuple[int, int]) -> Answer:
        """See `Backend`."""
        listed = unwrapped(text) if self.zero_shot else text
        return codec.decode(listed, family="qwen3_vl", answer_format=self.answer_format, image_size=size)

    def describe(self) -> dict[str, Yaml]:
        """The part of a protocol that is about the model: everything that decides its answers."""
        return {
            "backend": "openai",
            "vlm": self.name,
            "answer_format": self.answer_format,
            "prompt_version": prompts.ZERO_SHOT_VERSION if self.zero_shot else prompts.PROMPT_VERSION,
            "image_side": self.side,
            "image_format": self.image_format,
            "structured": self.structured,
            "max_new_tokens": self.max_new_tokens,
            "temperature": self.temperature,
            # Only then, so that the folders of earlier versions can be continued.
            **({"reasoning_effort": self.reasoning_effort} if self.reasoning_effort else {}),
            **({} if self.thinking is None else {"thinking": "on" if self.thinking else "off"}),
        }

    def _request(self, url: str, query: str, number: int) -> Request:
        """The request of an answer, by its number among those to the query: equal requests are sent once."""
        chat = prompts.zero_shot(query) if self.zero_shot else trained(query, self.answer_format)
        body: dict[str, Yaml] = {"model": self.name, "messages": cast("Yaml", with_image(chat, url))}
        if self.temperature is not None:
            body["temperature"] = self.temperature
        if self.max_new_tokens is not None:
            body["max_tokens"] = self.max_new_tokens
        if self.reasoning_effort is not None:
            body["reasoning_effort"] = self.reasoning_effort
        if self.thinking is not None:
            # The library passes this on as a further argument of the request.
            body["extra_body"] = {"chat_template_kwargs": {THINKING: self.thinking}}
        decisive: list[Yaml] = [body, self.structured, *([number] if number else [])]
        content = json.dumps(decisive, sort_keys=True)
        return Request(hashlib.sha256(content.encode()).hexdigest(), body)


def trained(query: str, answer_format: str) -> "Chat":
    """The chat of a query to a model that was trained by GeoClick."""
    return prompts.messages(query, answer_format=answer_format)


def with_image(chat: "Chat", url: str) -> "Chat":
    """A chat whose image is a data URL, as the API takes it."""
    image = {"type": "image_url", "image_url": {"url": url, "detail": "high"}}
    return [
        message | {"content": [image if part["type"] == "image" else part for part in message["content"]]}
        for message in chat
    ]


def sent_size(size: tuple[int, int], side: int) -> tuple[int, int]:
    """The (height, width) at which an image of `size` is sent: its own, or `side` along its longest side."""
    if max(size) <= side:
        return size
    height, width = (max(1, round(length * side / max(size))) for length in size)
    return height, width


def encode(image: np.ndarray, side: int, image_format: str) -> str:
    """An image, uint8 [H, W, 3] RGB, as the data URL of a file with a longest side of at most `side` pixels."""
    picture = Image.fromarray(image)
    height, width = sent_size((image.shape[0], image.shape[1]), side)
    if picture.size != (width, height):
        picture = picture.resize((width, height), Image.Resampling.BICUBIC)
    file = io.BytesIO()
    picture.save(file, image_format.upper(), **SAVING[image_format])
    return f"data:image/{image_format};base64,{base64.b64encode(file.getvalue()).decode('ascii')}"


def unwrapped(text: str) -> str:
    """The list of points of an answer to the zero-shot prompt, as text; another text is returned as it is."""
    inside = text.strip()
    if inside.startswith("```"):
        inside = inside.removeprefix("```").removeprefix("json").removesuffix("```").strip()
    try:
        content = json.loads(inside)
    except (ValueError, RecursionError):
        return text
    points = content.get(prompts.ZERO_SHOT_LIST) if isinstance(content, dict) else None
    return json.dumps(points) if isinstance(points, list) else text


def check(options: "GenerationOptions") -> tuple[str, str]:
    """Check all that can be checked before a request; returns the address of the server and the key.

    Raises:
        UsageError: options that do not fit each other, or the address.
        GeoClickError: the openai library or the key is missing, or the model counts pixels.
    """
    options.check_backend()
    check_model(options.vlm or "")
    if options.budget is not None and processes.count() > 1:
        raise UsageError("--budget is counted by one process; run one, with a larger --concurrency.")
    url = address(options.base_url)
    key = read_key(own_server=options.base_url is not None)
    if importlib.util.find_spec("openai") is None:
        raise GeoClickError("--backend openai needs the openai library; run pip install 'geoclick[openai]'.")
    return url, key


def load(
    options: "GenerationOptions", *, temperature: float | None = None, ledger: Path | None = None
) -> Server:
    """The backend of a command's options; nothing is sent yet.

    Args:
        options: with the name of the model and the address of the server.
        temperature: of the sampling; None leaves it to the server.
        ledger: folder in which every answer is recorded, so that a continued run does not ask again; None for none.

    Raises:
        GeoClickError: as `check`.
    """
    url, key = check(options)
    answer_format = options.answer_format or "json"
    zero_shot = options.prompt == "zero-shot"
    structured = options.structured if zero_shot else "none"
    if key and url.startswith("http://") and urlsplit(url).hostname not in LOOPBACK:
        print(f"warning: {KEY} is sent to {url} without encryption; unset it, or use https.")
    prices = (options.price_input, options.price_output)
    rules = Rules(
        server=url,
        key=key,
        concurrency=options.concurrency,
        retries=options.retries,
        timeout=options.timeout,
        prices=None if prices[0] is None or prices[1] is None else (prices[0], prices[1]),
        budget=options.budget,
        structured=schema() if structured == "json_schema" else None,
        check_model=check_model,
    )
    return Server(
        name=options.vlm or "",
        sender=Sender(rules, Ledger(ledger, processes.rank()), lambda: make_client(rules)),
        zero_shot=zero_shot,
        answer_format=answer_format,
        side=options.image_side,
        image_format=options.image_format,
        temperature=temperature,
        max_new_tokens=options.max_new_tokens,
        structured=structured,
        reasoning_effort=options.reasoning_effort,
        thinking=thinking(options, url),
    )


def thinking(options: "GenerationOptions", url: str) -> bool | None:
    """Whether the chat template lets the model think, None if no such argument is sent.

    Args:
        options: those of the command.
        url: address of the server.

    Raises:
        UsageError: the option is given for OpenAI's own server, which takes no such argument.
    """
    if urlsplit(url).hostname == urlsplit(OPENAI).hostname:
        if options.thinking in ("on", "off"):
            raise UsageError(
                "--thinking is for servers of your own; use --reasoning-effort for OpenAI's models."
            )
        return None
    if options.thinking is None:
        return False if options.prompt == "trained" else None
    return {"on": True, "off": False}.get(options.thinking)


def make_client(rules: Rules) -> "AsyncOpenAI":
    """A client of the openai library that neither retries nor reads another address from the environment."""
    from openai import AsyncOpenAI

    return AsyncOpenAI(
        api_key=rules.key or NO_KEY,
        base_url=rules.server,
        max_retries=0,
        timeout=rules.timeout,
        http_client=chat_api.http_client(),
    )


def schema() -> dict[str, Yaml]:
    """The argument that asks for the format of the zero-shot prompt."""
    named: dict[str, Yaml] = {
        "name": "points",
        "strict": True,
        "schema": cast("Yaml", prompts.ZERO_SHOT_SCHEMA),
    }
    return {"type": "json_schema", "json_schema": named}


def check_model(name: str) -> None:
    """Raise GeoClickError if a model counts pixels of the resized image, by its name or its folder's config.json."""
    path = Path(name) / "config.json"
    kind = ""
    if path.is_file():
        from geoclick import model_folders

        kind = model_folders.model_type(path.parent)
    if kind == "qwen2_5_vl" or _QWEN2_5_VL.search(name):
        raise GeoClickError(
            f"{name} writes pixels of the image as the server resizes it, at a size that the server does not tell; use "
            "--backend local, or a model with relative coordinates, such as Qwen3-VL."
        )


def address(base_url: str | None) -> str:
    """The address of the server without a final slash; raises UsageError if it is none or holds a secret."""
    if base_url is None:
        return OPENAI
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError("--base-url must be an address such as http://localhost:8000/v1.")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise UsageError(
            f"--base-url must hold no user, password or parameters, since it is recorded; give a key in {KEY}."
        )
    return base_url.rstrip("/")


def read_key(*, own_server: bool) -> str:
    """The key from the environment; empty for a server of one's own without one.

    Raises:
        GeoClickError: it is missing, or no key at all.
    """
    key = os.environ.get(KEY, "").strip()
    if not key and not own_server:
        raise GeoClickError(f"OpenAI needs a key; set {KEY}, or give --base-url for a server of your own.")
    if not (key.isascii() and key.isprintable() and " " not in key):
        raise GeoClickError(f"{KEY} holds characters that no key has; set it again.")
    return key
