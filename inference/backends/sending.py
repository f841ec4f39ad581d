"""Many requests to one server: some at a time, again after errors that may pass, within a budget, each paid once."""

import asyncio
import random
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

from geoclick.errors import GeoClickError
from geoclick.inference.backends import chat_api
from geoclick.inference.backends.base import Reply
from geoclick.inference.backends.chat_api import Completion, Refused, Rejected, TryAgain
from geoclick.inference.backends.ledger import Entry, Ledger
from geoclick.prompts import THINKING
from geoclick.yaml_file import Yaml

if TYPE_CHECKING:
    from openai import AsyncOpenAI

T = TypeVar("T")

FIRST_WAIT, LARGEST_WAIT = 0.5, 30.0
"""Seconds before the second attempt, doubled before each further one, where the server does not say how many."""
MOST_FAILURES = 10
"""Failed requests in a row after which the run ends: the server is broken, not a request."""


@dataclass(frozen=True)
class Request:
    """A request.

    Attributes:
        key: SHA-256 of everything that is sent.
        body: the arguments of `chat.completions.create`, without those of structured output.
    """

    key: str
    body: Mapping[str, Yaml]


@dataclass(frozen=True)
class Rules:
    """How requests are sent.

    Attributes:
        server: address, for the records.
        key: the secret of the server.
        concurrency: largest number of open requests.
        retries: further attempts of a request.
        timeout: seconds until an answer must be complete.
        prices: of a million tokens of input and of output; None if costs are not counted.
        budget: cost after which no request is sent; None for no limit.
        structured: the argument for structured output; None for free text.
        check_model: raises GeoClickError for a model that the pipeline cannot use, by its name.
    """

    server: str
    key: str = field(repr=False)
    concurrency: int
    retries: int
    timeout: float
    prices: tuple[float, float] | None
    budget: float | None
    structured: Mapping[str, Yaml] | None
    check_model: Callable[[str], None]


class Sender:
    """Sends requests and records every answer; its state holds for all requests of a run.

    Attributes:
        ledger: of the run.
        structured_rejected: requests that the server rejected because of structured output.
    """

    def __init__(self, rules: Rules, ledger: Ledger, client: "Callable[[], AsyncOpenAI]") -> None:
        """Prepare to send.

        Args:
            rules: how.
            ledger: where the answers are recorded.
            client: makes a client of the openai library, with the first request.
        """
        self.rules, self.ledger = rules, ledger
        self.structured_rejected = 0
        self._make_client = client
        self._client: AsyncOpenAI | None = None
        self._structured, self._accepted = rules.structured is not None, False
        self._length = "max_completion_tokens"
        self._resume_at = 0.0
        self._failures_in_a_row = 0
        self._end: Exception | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def send(self, requests: Sequence[Request]) -> list[Reply]:
        """The replies to requests, in order; those that the ledger holds are not sent, and equal ones are sent once.

        Raises:
            GeoClickError: no further request makes sense: wrong key or model, no server, the budget is spent.
        """
        missing = {r.key: r for r in requests if r.key not in self.ledger.answers}
        failures = self._run(self._send_all(list(missing.values()))) if missing else {}
        replies = []
        for request in requests:
            if request.key in failures:
                replies.append(Reply("", failures[request.key]))
            else:
                entry = self.ledger.answers[request.key]
                replies.append(Reply(entry.get("text", ""), cut=entry.get("finish") == "length"))
        return replies

    def _run(self, coroutine: Coroutine[None, None, T]) -> T:
        """Run a coroutine in a thread with an event loop, since a notebook has a running loop in this one."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            threading.Thread(target=self._loop.run_forever, daemon=True).start()
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    async def _send_all(self, requests: Sequence[Request]) -> dict[str, str]:
        """Send requests; returns the errors of those that failed, by key."""
        if self._client is None:
            self._client = self._make_client()
        self._end = None
        waiting, failures = iter(requests), dict[str, str]()
        count = min(self.rules.concurrency, len(requests))
        await asyncio.gather(*(self._work(waiting, failures) for _ in range(count)))
        if self._end:
            raise self._end
        return failures

    async def _work(self, waiting: Iterator[Request], failures: dict[str, str]) -> None:
        """Send one request after the other until none is left or the run ends."""
        try:
            for request in waiting:
                await self._send_one(request, failures)
                if self._end:
                    return
        except Exception as error:
            self._end = self._end or error

    async def _send_one(self, request: Request, failures: dict[str, str]) -> None:
        """Send a request until it is answered or has failed."""
        attempt, plain, reason = 0, False, ""
        while attempt <= self.rules.retries:
            await self._wait()
            if self._end:
                return
            self._check_budget()
            structured = self._structured and not plain
            attempt += 1
            try:
                completion = await self._complete(request, structured)
            except Rejected as error:
                reason = str(error)
                if self._adapt(reason):
                    attempt -= 1
                elif structured and not self._accepted:
                    plain, attempt = True, attempt - 1
                else:
                    break
            except Refused as error:
                reason = str(error)
                break
            except TryAgain as error:
                reason = error.reason
                self._pause(error, attempt)
                if error.cut and attempt > self.rules.retries:
                    await self._check_reachable(reason)
                if attempt <= self.rules.retries and error.after is None:
                    await asyncio.sleep(_backoff(attempt))
            else:
                self._answered(request, completion, attempt, structured, rejected=plain)
                return
        self._failed(request, reason, attempt)
        failures[request.key] = f"The server did not answer: {reason}."

    async def _complete(self, request: Request, structured: bool) -> Completion:
        assert self._client is not None
        body = dict(request.body)
        if "max_tokens" in body:
            body[self._length] = body.pop("max_tokens")
        if structured and self.rules.structured:
            body["response_format"] = dict(self.rules.structured)
        return await chat_api.complete(self._client, body, timeout=self.rules.timeout, key=self.rules.key)

    async def _check_reachable(self, reason: str) -> None:
        """Raise GeoClickError if there is no server any more: then it is not the request that failed."""
        assert self._client is not None
        if not await chat_api.is_reachable(self._client, timeout=self.rules.timeout):
            raise GeoClickError(
                f"The server {self.rules.server} cannot be reached ({reason}); start it or fix --base-url, and rerun "
                "the command to continue."
            )

    def _adapt(self, reason: str) -> bool:
        """Change the form of all requests after a rejection that names an argument; returns whether that was done.

        Raises:
            GeoClickError: the user must change an option.
        """
        if "max_completion_tokens" in reason and self._length != "max_tokens":
            self._length = "max_tokens"
            return True
        if "temperature" in reason:
            raise GeoClickError(f"The server refuses --temperature ({reason}); leave it out.")
        if "reasoning_effort" in reason:
            raise GeoClickError(f"The server refuses --reasoning-effort ({reason}); leave it out.")
        if "chat_template_kwargs" in reason or THINKING in reason:
            raise GeoClickError(
                f"The server takes no arguments of chat templates ({reason}); give --thinking server, and let the "
                "server itself switch thoughts off."
            )
        return False

    async def _wait(self) -> None:
        """Wait until the server takes requests again."""
        while (seconds := self._resume_at - time.monotonic()) > 0 and not self._end:
            await asyncio.sleep(min(seconds, 1.0))

    def _pause(self, error: TryAgain, attempt: int) -> None:
        """Let all requests wait as long as the server asks for."""
        if error.after is None:
            return
        if error.after > chat_api.LONGEST_WAIT:
            raise GeoClickError(
                f"The server asks to wait {error.after:,.0f} seconds ({error.reason}); rerun the command then to "
                "continue."
            )
        self._resume_at = max(self._resume_at, time.monotonic() + error.after)

    def _check_budget(self) -> None:
        budget = self.rules.budget
        if budget is not None and self.ledger.cost >= budget:
            raise GeoClickError(
                f"The budget of {budget:g} is spent: {len(self.ledger.answers):,} requests have cost "
                f"{self.ledger.cost:.4f}; rerun the command with a larger --budget to continue."
            )

    def _answered(
        self, request: Request, completion: Completion, attempts: int, structured: bool, *, rejected: bool
    ) -> None:
        """Record an answer."""
        self._failures_in_a_row = 0
        self._accepted |= structured
        if rejected:
            self.structured_rejected += 1
            if self._structured:
                self._structured = False
                print(
                    "The server rejects structured output; answers are free text, as with --structured none."
                )
        entry: Entry = {
            "key": request.key,
            "server": self.rules.server,
            "date": _now(),
            "attempts": attempts,
            "text": completion.text,
            "model": completion.model,
            "finish": completion.finish,
            "structured": structured,
        }
        if completion.tokens:
            entry["input_tokens"], entry["output_tokens"] = completion.tokens
        if self.rules.prices and completion.tokens:
            pairs = zip(self.rules.prices, completion.tokens, strict=True)
            entry["cost"] = sum(price * tokens for price, tokens in pairs) / 1e6
        self.ledger.add(entry)
        self.rules.check_model(completion.model)
        if self.rules.budget is not None and not completion.tokens:
            raise GeoClickError("The server counts no tokens, so that no --budget can be kept; leave it out.")

    def _failed(self, request: Request, reason: str, attempts: int) -> None:
        """Record a failure.

        Raises:
            GeoClickError: it is one of many in a row.
        """
        server = self.rules.server
        self.ledger.add(
            {"key": request.key, "server": server, "date": _now(), "attempts": attempts, "error": reason}
        )
        self._failures_in_a_row += 1
        if self._failures_in_a_row >= MOST_FAILURES:
            raise GeoClickError(
                f"{self._failures_in_a_row} requests in a row failed, the last one with: {reason}; fix the server and "
                "rerun the command to continue."
            )


def _backoff(attempt: int) -> float:
    """Seconds before the next attempt, spread so that not all requests come at once."""
    return min(FIRST_WAIT * 2 ** (attempt - 1), LARGEST_WAIT) * random.uniform(0.5, 1.0)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
