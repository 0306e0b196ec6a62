"""The boundary round every application: what holds for each request, whatever it asks.

Correlation id, size and time limits, draining, security headers, the access log, metrics, and the last resort for
errors. One pure ASGI layer, because it is on every hot path.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from intaglio.core.clock import monotonic
from intaglio.core.errors import IntaglioError, TimedOut, TooLarge, Unavailable
from intaglio.core.logging import correlation_id, get_logger
from intaglio.server.access_log import AccessLog
from intaglio.server.metrics import request_seconds, requests_in_flight, requests_total
from intaglio.server.problems import Renderer, Unexpected, render
from intaglio.server.prompt import Answered, at_once_of

log = get_logger(__name__)

_SANE_ID = re.compile(rb"[A-Za-z0-9._:-]{1,64}")
_DISCARD_LIMIT = 16 << 20  # octets of an oversized body that are read away, so that the client sees the answer
_DISCARD_TIME = 2.0  # seconds for the same
_SWEEP = 0.25  # seconds between looks at running requests
_UNMATCHED = "unmatched"
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

_PLAIN_HEADERS = [(b"x-content-type-options", b"nosniff")]
_TLS_HEADERS = [
    *_PLAIN_HEADERS,
    (b"strict-transport-security", b"max-age=31536000"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
]
_STRICT_POLICY = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")


class Draining:
    """Whether this worker is shutting down; shared by its listeners."""

    def __init__(self) -> None:
        self.active = False


@dataclass(frozen=True)
class Limits:
    """``body`` in octets, ``time`` in seconds (until the answer starts, and then between its parts)."""

    body: int
    time: float


class Boundary:
    """Wraps the application of one listener.

    ``scope["route"]`` (set by FastAPI) or ``scope["intaglio.route"]`` names the route template in metrics, and
    ``scope["intaglio.role"]`` the role of the caller, ``scope["intaglio.caller"]`` his name in the access log; they are
    set by the application. ``renderer`` writes refusals in the listener's wire format. ``log_successes=False`` keeps
    only refusals in the access log.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        listener: str,
        secure: bool,
        limits: Limits,
        draining: Draining,
        access_log: AccessLog,
        renderer: Renderer = render,
        log_successes: bool = True,
    ) -> None:
        self._app = app
        self._ask_at_once = at_once_of(app)
        self.listener = listener
        self.limits = limits
        self.draining = draining
        self.access_log = access_log
        self.renderer = renderer
        self.log_successes = log_successes
        self.headers = list(_TLS_HEADERS if secure else _PLAIN_HEADERS)
        self.strict_policy = secure
        self._numbers, self._run_id = itertools.count(), os.urandom(9).hex()
        self._in_flight = requests_in_flight.labels(listener)
        self._running: set[_Exchange] = set()
        self._sweep: asyncio.TimerHandle | None = None
        # Requests since the last sweep; a counter shared between processes costs more than a dictionary.
        self._tally: Counter[tuple[str, str, int, str]] = Counter()
        self._durations: defaultdict[str, list[float]] = defaultdict(list)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(self, scope, receive, send)
        self._running.add(exchange)
        if self._sweep is None:
            self._look_at_running()
        try:
            await exchange.run(self._app)
        finally:
            self._running.discard(exchange)
            seconds = monotonic() - exchange.started
            self._record(scope, exchange.status, seconds, exchange.octets, exchange.request_id)

    def at_once(self, scope: Scope, body: bytes) -> Answered | None:
        """The answer to a request that arrived whole, when the application has it without waiting; None: call.

        Whoever wants his correlation id back is called, and so is everybody where all answers are logged.
        """
        started, ask = monotonic(), self._ask_at_once
        if ask is None or self.log_successes or self.draining.active or len(body) > self.limits.body:
            return None
        for name, _ in scope["headers"]:
            if name == b"x-correlation-id":
                return None
        try:
            answer = ask(scope, body)
        except Exception as error:
            log.debug("a request is answered in the long way", path=scope["path"], exc_info=error)
            return None
        if answer is None:
            return None
        status, headers, octets = answer
        self._record(scope, status, monotonic() - started, len(octets))
        if self._sweep is None:
            self._look_at_running()
        return status, (*headers, *self.headers), octets

    def new_request_id(self) -> str:
        """Unique over all processes; no secret, so random once and then counted."""
        return f"{self._run_id}{next(self._numbers):06x}"

    def _look_at_running(self) -> None:
        """End what takes too long. One timer for all requests costs a fraction of one for each."""
        now = monotonic()
        for exchange in self._running:
            if now > exchange.deadline:
                exchange.time_out()
        self._in_flight.set(len(self._running))
        busy = bool(self._running or self._tally)
        self._count()
        self._sweep = asyncio.get_running_loop().call_later(_SWEEP, self._look_at_running) if busy else None

    def _count(self) -> None:
        tally, self._tally = self._tally, Counter()
        for (route, method, status, role), number in tally.items():
            requests_total.labels(self.listener, route, method, str(status), role).inc(number)
        durations, self._durations = self._durations, defaultdict(list)
        for route, seconds in durations.items():
            request_seconds.labels(self.listener, route).observe_all(seconds)

    def _record(self, scope: Scope, status: int, seconds: float, octets: int, request_id: str = "") -> None:
        """Count an answer for the metrics, and log it where that is wanted."""
        route = str(scope.get("intaglio.route") or getattr(scope.get("route"), "path", _UNMATCHED))
        method: str = scope["method"] if scope["method"] in _METHODS else "other"
        self._tally[route, method, status, str(scope.get("intaglio.role", ""))] += 1
        self._durations[route].append(seconds)
        if (self.log_successes or status >= 400) and self.access_log.enabled:
            client = scope.get("client")
            self.access_log.add(
                self.listener, client[0] if client else "local", method, scope["path"],
                status, seconds, octets, request_id or self.new_request_id(), str(scope.get("intaglio.caller", "")),
            )  # fmt: skip


class _Exchange:
    """One request and its answer."""

    def __init__(self, boundary: Boundary, scope: Scope, receive: Receive, send: Send) -> None:
        self.boundary = boundary
        self.scope = scope
        self.started = monotonic()
        self.status = 0
        self.octets = 0
        self.received = 0
        self.declared = 0
        self.complete = False
        self.streamed = False
        self.expects_continue = False
        self.request_id = ""
        self.asks_for_id = False
        self.deadline = self.started + boundary.limits.time
        self.timed_out = False
        self._task = asyncio.current_task()
        self._receive = receive
        self._send = send

    async def run(self, app: ASGIApp) -> None:
        """Answer the request, by the application or, when it fails or takes too long, by a refusal."""
        self._read_headers()
        correlation_id.set(self.request_id)
        try:
            self._admit()
            await app(self.scope, self._limited_receive if self.streamed else self._receive, self._answer)
        except IntaglioError as error:
            await self._refuse(error)
        except asyncio.CancelledError:
            await self._cut_off()
        except Exception as error:
            await self._fail(error)

    def time_out(self) -> None:
        """Cancel the request, once."""
        if not self.timed_out and self._task is not None:
            self.timed_out = True
            self._task.cancel()

    async def _cut_off(self) -> None:
        """Answer a request that was cancelled: its time was up, or the shutdown could not wait for it."""
        if self._task is not None:
            self._task.uncancel()
        if self.timed_out:
            limit = self.boundary.limits.time
            await self._refuse(TimedOut(f"The request was not answered within {limit:g} seconds."), close=True)
        elif self.boundary.draining.active:
            await self._refuse(_shutting_down())
        else:
            raise asyncio.CancelledError

    def _read_headers(self) -> None:
        for name, value in self.scope["headers"]:
            if name == b"x-correlation-id":
                self.asks_for_id = True
                if _SANE_ID.fullmatch(value):
                    self.request_id = value.decode("ascii")
            elif name == b"content-length":
                self.declared = int(value)  # the parser admits digits only
            elif name == b"transfer-encoding":
                self.streamed = True
            elif name == b"expect":
                self.expects_continue = True
        if not self.request_id:
            self.request_id = self.boundary.new_request_id()

    def _admit(self) -> None:
        if self.boundary.draining.active:
            raise _shutting_down()
        if self.declared > self.boundary.limits.body:
            raise self._too_large()

    async def _limited_receive(self) -> Message:
        message = await self._receive()
        self.received += len(message.get("body", b""))
        if self.received > self.boundary.limits.body:
            raise self._too_large()
        return message

    async def _answer(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = self._complete_headers(message.get("headers", ()))
        else:
            self.octets += len(message.get("body", b""))
            if message.get("more_body", False):
                self.deadline = monotonic() + self.boundary.limits.time  # may take long, as long as it moves
            else:
                self.complete = True
        await self._send(message)

    def _complete_headers(self, given: Any) -> list[tuple[bytes, bytes]]:
        headers = [*given, *self.boundary.headers]
        if self.boundary.log_successes or self.status >= 400 or self.asks_for_id:
            # Where successes are not logged, an id of ours would lead nowhere.
            headers.append((b"x-correlation-id", self.request_id.encode()))
        if self.boundary.strict_policy and not any(name == b"content-security-policy" for name, _ in given):
            headers.append(_STRICT_POLICY)
        return headers

    async def _refuse(self, error: IntaglioError, *, close: bool = False) -> None:
        if self.status:
            if not self.complete:
                log.warning("an answer was broken off", reason=error.detail, code=error.code, path=self.scope["path"])
                raise error
            return
        if error.status >= 500:
            log.warning("request refused", code=error.code, reason=error.detail, path=self.scope["path"])
        too_large = isinstance(error, TooLarge)
        if too_large and not self.expects_continue:
            await self._discard_body()
        content_type, body = self.boundary.renderer(error)
        headers = [(b"content-type", content_type), (b"content-length", b"%d" % len(body))]
        if error.retry_after is not None:
            headers.append((b"retry-after", b"%d" % max(1, error.retry_after)))
        if close or too_large or self.boundary.draining.active:
            headers.append((b"connection", b"close"))
        await self._answer({"type": "http.response.start", "status": error.status, "headers": headers})
        await self._answer({"type": "http.response.body", "body": body})

    async def _fail(self, error: Exception) -> None:
        log.error("request failed unexpectedly", path=self.scope["path"], exc_info=error)
        if not (self.status and self.complete):
            await self._refuse(Unexpected(), close=True)

    async def _discard_body(self) -> None:
        """Read an oversized body away, within bounds: a client still sending would get a reset, no answer."""
        remaining = _DISCARD_LIMIT
        try:
            async with asyncio.timeout(_DISCARD_TIME):
                while remaining > 0:
                    message = await self._receive()
                    remaining -= len(message.get("body", b""))
                    if message["type"] != "http.request" or not message.get("more_body", False):
                        return
        except TimeoutError:
            return

    def _too_large(self) -> TooLarge:
        limit = self.boundary.limits.body
        return TooLarge(
            f"The request body exceeds {limit} octets.",
            remedy="Send less at once, or raise INTAGLIO_REQUEST_LIMIT.",
            extra={"limit": limit},
        )


def _shutting_down() -> Unavailable:
    return Unavailable("This server is shutting down.", code="shutting-down", retry_after=1)
