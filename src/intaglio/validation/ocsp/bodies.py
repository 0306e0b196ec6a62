"""What is refused before anything is done for it: heads and bodies that are too large, too slow, or too many."""

from __future__ import annotations

import asyncio
from typing import Any

from intaglio.core.clock import monotonic
from intaglio.validation.conditional import Receive, Scope, plain

_CLOSE = (b"connection", b"close")
HEAD_TOO_LARGE = plain("The head of the request is too large; use POST.", _CLOSE)
TOO_LARGE = plain("The OCSP request is too large.", _CLOSE)
TOO_SLOW = plain("The request took too long to arrive.", _CLOSE)
TOO_MANY = plain("Too many requests are being answered.", (b"retry-after", b"1"))

_OVERHEAD = 4  # octets of a header line besides name and value
_REQUEST_LINE = 15  # octets of "POST  HTTP/1.1" and the end of the line
_SWEEP = 0.25  # seconds between looks at bodies that are still arriving


class BodyTooLarge(Exception):
    """The body has more octets than are allowed."""


class BodyTooSlow(Exception):
    """The body did not arrive in its time, or was broken off."""


def head_octets(scope: Scope) -> int:
    """Octets of request line and headers."""
    headers = scope["headers"]
    octets = len(scope.get("raw_path") or scope["path"]) + _REQUEST_LINE + _OVERHEAD * len(headers)
    for name, value in headers:
        octets += len(name) + len(value)
    return octets


class Bodies:
    """Reads bodies; one timer for all of them costs a fraction of one for each."""

    def __init__(self) -> None:
        self._deadlines: dict[asyncio.Task[Any], float] = {}
        self._late: set[asyncio.Task[Any]] = set()
        self._timer: asyncio.TimerHandle | None = None

    async def read(self, receive: Receive, limit: int, seconds: float) -> bytes:
        """The whole body. Raises BodyTooLarge beyond ``limit`` octets, BodyTooSlow after ``seconds``."""
        task = asyncio.current_task()
        assert task is not None
        self._deadlines[task] = monotonic() + seconds
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_SWEEP, self._look)
        body = b""
        try:
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    raise BodyTooSlow
                part: bytes = message.get("body", b"")
                body = body + part if body else part
                if len(body) > limit:
                    raise BodyTooLarge
                if not message.get("more_body", False):
                    return body
        except asyncio.CancelledError:
            if task in self._late:
                task.uncancel()
                raise BodyTooSlow from None
            raise
        finally:
            del self._deadlines[task]
            self._late.discard(task)

    def _look(self) -> None:
        now = monotonic()
        for task, deadline in self._deadlines.items():
            if now > deadline and task not in self._late:
                self._late.add(task)
                task.cancel()
        waiting = bool(self._deadlines)
        self._timer = asyncio.get_running_loop().call_later(_SWEEP, self._look) if waiting else None
