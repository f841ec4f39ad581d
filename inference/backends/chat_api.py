"""One request to a server with OpenAI's chat API: sending it, reading what comes back, and what an error means.

The answer is read in pieces with a limit of its size and of the whole time, since a server may send anything.
"""

import asyncio
import importlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, cast

from geoclick import secrets
from geoclick.errors import GeoClickError, first_line, single_line
from geoclick.yaml_file import Yaml

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from httpx2 import AsyncByteStream, AsyncClient, Response
    from openai import APIStatusError, AsyncOpenAI

MAX_BYTES = 4 << 20
"""Largest body of an answer."""
MAX_ERROR_BYTES = 1 << 16
"""Bytes that are read of the body of an error or a redirection; the rest is not."""
MAX_CHARACTERS = 1 << 16
"""Longest answer: a hundred points take less than ten thousand characters."""
MAX_QUOTED = 200
"""Characters of a server's own words in a message."""
LONGEST_WAIT = 300.0
"""Seconds that a run waits when the server asks for it; after a longer time it ends, to be continued then."""


class TryAgain(Exception):
    """The request failed in a way that may pass.

    Attributes:
        reason: for the record.
        after: seconds that the server asks to wait; None if it does not say.
        cut: whether there was no connection, or it was cut.
    """

    def __init__(self, reason: str, after: float | None = None, cut: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.after, self.cut = reason, after, cut


class Refused(Exception):
    """The server does not answer this request, however often it is sent."""


class Rejected(Exception):
    """The server does not accept the form of the request (status 400 or 422)."""


@dataclass(frozen=True)
class Completion:
    """What a server wrote.

    Attributes:
        text: the answer.
        model: the name that the server returned; empty if it gives none.
        tokens: of input and output; None if the server does not count them.
        finish: why the answer ended.
    """

    text: str
    model: str
    tokens: tuple[int, int] | None
    finish: str


async def complete(
    client: "AsyncOpenAI", body: "Mapping[str, Yaml]", *, timeout: float, key: str
) -> Completion:
    """Send a request once.

    Args:
        client: of the openai library.
        body: the arguments of its `chat.completions.create`.
        timeout: seconds until the answer must be complete.
        key: the secret, which no message quotes.

    Raises:
        TryAgain: it may succeed later.
        Refused: it will not succeed.
        Rejected: another form of it may succeed.
        GeoClickError: no request will succeed.
    """
    import openai

    def quoted(error: BaseException) -> str:
        body = getattr(error, "body", None)
        said = body.get("message") if isinstance(body, dict) else None
        text = single_line(secrets.redacted(said if isinstance(said, str) else first_line(error), key))
        return text if len(text) <= MAX_QUOTED else f"{text[:MAX_QUOTED]}..."

    try:
        async with asyncio.timeout(timeout):
            raw = await _read(client, body)
    except TimeoutError:
        raise TryAgain(f"no answer within {timeout:g} seconds") from None
    except openai.APITimeoutError:
        raise TryAgain(f"no answer within {timeout:g} seconds") from None
    except openai.APIStatusError as error:
        raise _meaning(error, quoted(error), str(body["model"])) from None
    except openai.APIConnectionError as error:
        raise TryAgain(f"the connection failed: {quoted(error.__cause__ or error)}", cut=True) from None
    except openai.OpenAIError as error:
        raise TryAgain(quoted(error)) from None
    except Exception as error:
        # The connection may also be cut while the body is read, which is an error of the library's own transport.
        if type(error).__module__.partition(".")[0] not in ("httpx", "httpx2", "httpcore", "httpcore2"):
            raise
        raise TryAgain(f"the connection failed: {quoted(error)}", cut=True) from None
    return read_completion(raw)


async def is_reachable(client: "AsyncOpenAI", *, timeout: float) -> bool:
    """Whether a server answers at all, whatever it answers."""
    import openai

    try:
        async with asyncio.timeout(timeout), client.models.with_streaming_response.list():
            pass
    except openai.APIConnectionError:
        return False
    except (TimeoutError, ValueError, openai.OpenAIError):
        return True
    return True


def http_client() -> "AsyncClient":
    """An HTTP client for the openai library that reads the beginning of an error only; by default it reads all."""
    import openai

    # httpx2 since openai 3, httpx before.
    names = (parent.__module__.partition(".")[0] for parent in openai.DefaultAsyncHttpxClient.__mro__)
    http = importlib.import_module(next(name for name in names if name.startswith("httpx")))

    class Limited(http.AsyncByteStream):  # type: ignore[misc, name-defined]
        """The first bytes of a body."""

        def __init__(self, body: "AsyncByteStream") -> None:
            self._body = body

        async def __aiter__(self) -> "AsyncIterator[bytes]":
            left = MAX_ERROR_BYTES
            async for piece in self._body:
                yield piece[:left]
                left -= len(piece)
                if left <= 0:
                    return

        async def aclose(self) -> None:
            await self._body.aclose()

    async def limit(response: "Response") -> None:
        if not response.is_success and isinstance(response.stream, http.AsyncByteStream):
            response.stream = Limited(response.stream)

    return openai.DefaultAsyncHttpxClient(event_hooks={"response": [limit]})


async def _read(client: "AsyncOpenAI", body: "Mapping[str, Yaml]") -> bytes:
    """The body of the answer."""
    raw = bytearray()
    async with client.chat.completions.with_streaming_response.create(
        **cast("dict[str, Any]", body)
    ) as response:
        async for piece in response.iter_bytes():
            raw += piece
            if len(raw) > MAX_BYTES:
                raise Refused(f"the answer is larger than {MAX_BYTES >> 20} MiB")
    return bytes(raw)


def read_completion(raw: bytes) -> Completion:
    """The body of an answer.

    Raises:
        TryAgain: it is not what the API defines.
        Refused: the answer is too long.
    """
    try:
        content = json.loads(raw)
        choice = content["choices"][0]
        message = choice["message"]
        text = message.get("content") or message.get("refusal") or ""
        if not isinstance(text, str):
            raise TypeError("the content is no text")
        tokens = _tokens(content.get("usage"))
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
        raise TryAgain("the answer is not in the format of OpenAI's chat API") from None
    if len(text) > MAX_CHARACTERS:
        raise Refused(f"the answer has {len(text):,} characters")
    # Lone surrogates, which JSON can hold, can be written to no file.
    clean = text.encode("utf-8", "replace").decode("utf-8").strip()
    model, finish = content.get("model"), choice.get("finish_reason")
    return Completion(clean, _name(model), tokens, _name(finish))


def _tokens(usage: Yaml) -> tuple[int, int] | None:
    """The tokens of input and output; None if the server does not count both."""
    if not isinstance(usage, dict):
        return None
    given, written = usage.get("prompt_tokens"), usage.get("completion_tokens")
    if isinstance(given, int) and isinstance(written, int) and min(given, written) >= 0:
        return given, written
    return None


def _name(value: Yaml) -> str:
    return single_line(value)[:MAX_QUOTED] if isinstance(value, str) else ""


def _meaning(error: "APIStatusError", words: str, model: str) -> Exception:
    """What a status of HTTP means for the request and for the run.

    Args:
        error: of the library.
        words: of the server, without secrets.
        model: the name that was sent.
    """
    status = error.status_code
    if status in (401, 403):
        return GeoClickError(
            f"The server refuses the key ({words}); set OPENAI_API_KEY to a valid one and rerun the command."
        )
    if status == 404:
        return GeoClickError(
            f"The server has no model {model!r} at this address ({words}); fix --vlm or --base-url."
        )
    if getattr(error, "code", None) == "insufficient_quota":
        return GeoClickError(f"The account has no credit left ({words}); add some and rerun to continue.")
    if status in (408, 409, 425, 429) or status >= 500:
        return TryAgain(words, after=retry_after(error.response.headers))
    if status in (400, 422):
        return Rejected(words)
    return Refused(words)


def retry_after(headers: "Mapping[str, str]") -> float | None:
    """The seconds that a server asks to wait: of `retry-after-ms`, or `Retry-After` as a number or a date."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = headers.get(name, "")
        try:
            seconds = float(value) * unit
        except ValueError:
            continue
        return seconds if 0 <= seconds < float("inf") else None
    try:
        date = parsedate_to_datetime(headers.get("retry-after", ""))
    except ValueError:
        return None
    aware = date if date.tzinfo else date.replace(tzinfo=UTC)
    return max(0.0, (aware - datetime.now(UTC)).total_seconds())
