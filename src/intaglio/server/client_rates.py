"""How many requests a second one client may make: a limit of the public listener, whose clients nobody knows.

Counted by address in each serving process, IPv6 by its /64: who has one address there has all of them.
"""

from __future__ import annotations

import socket
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from intaglio.core.clock import monotonic
from intaglio.server.prompt import Answered, at_once_of
from intaglio.validation.conditional import Document, document, plain

_WINDOW: Final = 1.0  # seconds
_MOST_CLIENTS: Final = 100_000  # that are told apart in one window; what comes then is counted as one client
_OTHERS: Final = ""
_RETRY: Final = (b"retry-after", b"1")
_OCSP_PATHS: Final = ("/ocsp", "/eva")
_TOO_MANY: Final = plain("Too many requests from your address; try again in a second.", _RETRY)
_TRY_LATER: Final = document(b"\x30\x03\x0a\x01\x03", b"application/ocsp-response")  # RFC 6960 section 4.2.1


class ClientRates:
    """Requests of the current second by client."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._counts: dict[str | bytes, int] = {}
        self._ends = 0.0

    def admits(self, address: str) -> bool:
        """Count a request; False when it is one too many."""
        now = monotonic()
        if now >= self._ends:
            self._counts, self._ends = {}, now + _WINDOW
        client: str | bytes = _network(address) if ":" in address else address
        counts = self._counts
        count = counts.get(client, 0) + 1
        if count == 1 and len(counts) >= _MOST_CLIENTS:
            client, count = _OTHERS, counts.get(_OTHERS, 0) + 1
        counts[client] = count
        return count <= self._most


class RateLimited:
    """An application whose clients may make ``most`` requests a second each. OCSP clients are told ``tryLater``, all
    others 429 (RFC 6585 section 4)."""

    def __init__(self, app: ASGIApp, most: int) -> None:
        self._app = app
        self._ask_at_once = at_once_of(app)
        self._rates = ClientRates(most)

    def at_once(self, scope: Scope, body: bytes) -> Answered | None:
        """The answer of the application, or a refusal, without waiting; None: call."""
        refusal = self._refusal(scope)
        if refusal is not None:
            status, answer = refusal
            return status, tuple(answer.headers), answer.body
        scope["intaglio.counted"] = True
        return None if self._ask_at_once is None else self._ask_at_once(scope, body)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = None if scope.get("intaglio.counted") else self._refusal(scope)
        if refusal is None:
            await self._app(scope, receive, send)
        else:
            await refusal[1].send(send, refusal[0], head=scope["method"] == "HEAD")

    def _refusal(self, scope: Scope) -> tuple[int, Document] | None:
        client = scope.get("client")
        if client is None or self._rates.admits(client[0]):
            return None
        scope["intaglio.route"] = "too-many-requests"  # for the metrics of the listener
        if scope["path"].startswith(_OCSP_PATHS) and not scope["path"].endswith("/health"):
            return 200, _TRY_LATER
        return 429, _TOO_MANY


def _network(address: str) -> bytes:
    """The /64 of an IPv6 address; a link-local one may name its interface behind %."""
    return socket.inet_pton(socket.AF_INET6, address.partition("%")[0])[:8]
