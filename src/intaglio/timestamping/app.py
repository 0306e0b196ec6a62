"""Timestamps over HTTP (RFC 3161 section 3.4), as a raw ASGI application for everything below ``/tsa/``.

``POST /tsa/{issuer}`` answers a request; ``GET /tsa/health`` says whether it could. What is too large, too slow or not
a request costs no signature and no look at the database.
"""

from __future__ import annotations

import asyncio
import json
from typing import Final

from intaglio.core.clock import monotonic
from intaglio.core.errors import IntaglioError, TooLarge, Unavailable
from intaglio.core.patience import OutOfPatience, Patience
from intaglio.timestamping import health
from intaglio.timestamping.context import Timestamps
from intaglio.timestamping.directory import ReadyIssuer
from intaglio.timestamping.http import REQUEST_TYPE, Receive, Refusal, Scope, Send, reply_headers, send_body, send_reply
from intaglio.timestamping.metrics import Tally
from intaglio.timestamping.request_log import RequestLog
from intaglio.timestamping.service import Reply, TimestampService
from intaglio.timestamping.settings import Timestamping

_PREFIX_LENGTH: Final = len("/tsa/")
_HEALTH: Final = "health"
_FLUSH_AFTER: Final = 0.25  # seconds a count may wait
_OVERHEAD: Final = 4  # octets of a header line besides name and value
_REQUEST_LINE: Final = 15  # octets of "POST  HTTP/1.1" and the end of the line
_CONNECTION_CLOSE: Final = (b"connection", b"close")


class TimestampApp:
    """ASGI application of one process. ``request_timeout`` is what the server allows every request, in seconds."""

    def __init__(self, timestamps: Timestamps, *, request_timeout: float, log: RequestLog | None = None) -> None:
        self.service = TimestampService(timestamps)
        # The server ends a request that takes too long with an answer of its own; this one has to come before that.
        self._longest = request_timeout * 0.9
        self._log = log or RequestLog()
        self._tally = Tally()
        self._timer: asyncio.TimerHandle | None = None
        self._patience = Patience()
        self._running = 0

    @property
    def _settings(self) -> Timestamping:
        return self.service.directory.settings

    @property
    def _read_limit(self) -> float:
        return min(self._settings.read_timeout, self._longest)

    @property
    def _write_limit(self) -> float:
        return min(self._settings.write_timeout, self._longest)

    async def configuration_changed(self) -> None:
        """Take in what was changed; called when the process hears of it. Raises Unavailable, TimedOut."""
        await self.service.follow_configuration(changed=True)

    async def events_arrived(self) -> None:
        """Look whether a signer was revoked; called when certificate events were heard of."""
        await self.service.directory.recheck_status()

    async def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._patience.close()
        self._flush()
        self._log.flush()
        await self.service.close()

    def at_once(self, scope: Scope, body: bytes) -> tuple[int, tuple[tuple[bytes, bytes], ...], bytes] | None:
        """Status, headers and body of the answer to a request that arrived whole, when it is a token that can be given,
        or a rejection that can be made, without waiting; None: call."""
        started, issuer = monotonic(), self.service.ready(scope["path"][_PREFIX_LENGTH:])
        if issuer is None or len(body) > self._settings.max_body_octets:
            return None
        try:
            self._check_head(scope)
        except Refusal:
            return None
        reply = self.service.respond_now(issuer, body)
        if reply is None:
            return None
        self._note(scope, issuer, reply, monotonic() - started)
        return 200, reply_headers(len(reply.body)), reply.body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started, name, reply = monotonic(), scope["path"][_PREFIX_LENGTH:], None
        try:
            if name == _HEALTH:
                await self._health(scope, send)
                return
            issuer = self.service.ready(name) or await self._issuer(name)
            self._check_head(scope)
            self._running += 1
            try:
                message = await self._patience.limited(receive(), self._read_limit)
                body: bytes = message.get("body", b"")
                if message.get("more_body", False) or len(body) > self._settings.max_body_octets:
                    body = await self._rest(body, receive)
                reply = self.service.respond_now(issuer, body) or await self.service.respond(issuer, body)
            finally:
                self._running -= 1
            self._note(scope, issuer, reply, monotonic() - started)
            await self._patience.limited(send_reply(send, reply.body), self._write_limit)
        except Refusal as refusal:
            await refusal.send(send, head=scope["method"] == "HEAD")
        except OutOfPatience as out:
            await self._give_up(out, send, reply)

    async def _issuer(self, name: str) -> ReadyIssuer:
        try:
            issuer = await self.service.issuer(name)
        except IntaglioError as error:
            raise Refusal(503, error.detail, (b"retry-after", b"1")) from None
        if issuer is None:
            raise Refusal(404, "There is no such timestamp issuer.")
        return issuer

    def _check_head(self, scope: Scope) -> None:
        if scope["method"] != "POST":
            raise Refusal(405, "Use POST.", (b"allow", b"POST"))
        settings = self._settings
        octets, length, content_type = len(scope["raw_path"]) + len(scope["query_string"]) + _REQUEST_LINE, 0, b""
        for header, value in scope["headers"]:
            octets += len(header) + len(value) + _OVERHEAD
            if header == b"content-length":
                length = int(value)  # the parser admits digits only
            elif header == b"content-type":
                content_type = value
        if settings.listen_limit and self._running >= settings.listen_limit:
            raise Refusal(503, "Too many requests are being answered.", (b"retry-after", b"1"))
        if octets > settings.max_header_octets:
            limit = settings.max_header_octets
            raise Refusal(431, f"The head of the request exceeds {limit} octets.", _CONNECTION_CLOSE)
        if length > settings.max_body_octets:
            raise self._too_large()
        if content_type not in (REQUEST_TYPE, b"") and _media_type(content_type) != REQUEST_TYPE:
            raise Refusal(415, "Send application/timestamp-query.", (b"accept", REQUEST_TYPE))

    async def _rest(self, body: bytes, receive: Receive) -> bytes:
        """A body of several parts, from its first on. Raises TooLarge."""
        more = True
        while more and len(body) <= self._settings.max_body_octets:
            message = await self._patience.limited(receive(), self._read_limit)
            if message["type"] != "http.request":
                raise Refusal(400, "The request was broken off.")
            body += message.get("body", b"")
            more = message.get("more_body", False)
        if len(body) > self._settings.max_body_octets:
            raise self._too_large()
        return body

    async def _give_up(self, out: OutOfPatience, send: Send, reply: Reply | None) -> None:
        """A client that does not send gets an answer; one that does not read loses its connection, for what was sent
        cannot be taken back."""
        if reply is not None:
            raise Unavailable("A client did not read its answer in time.", code="timestamp-unread") from out
        await Refusal(503, "The request took too long to arrive.", _CONNECTION_CLOSE).send(send)

    def _too_large(self) -> TooLarge:
        # The boundary answers it, after it has read away what the client still sends.
        return TooLarge(f"A timestamp request has at most {self._settings.max_body_octets} octets.")

    async def _health(self, scope: Scope, send: Send) -> None:
        if scope["method"] not in ("GET", "HEAD"):
            raise Refusal(405, "Use GET.", (b"allow", b"GET, HEAD"))
        found = await health.examine(self.service)
        body = json.dumps(found.members, separators=(",", ":")).encode()
        status = 200 if found.up else 503
        await send_body(send, status, b"application/json", body, head=scope["method"] == "HEAD")

    def _note(self, scope: Scope, issuer: ReadyIssuer, reply: Reply, seconds: float) -> None:
        self._tally.add(issuer.name, "granted" if reply.failure is None else reply.failure.label)
        client = scope.get("client")
        self._log.add(
            issuer.name,
            client[0] if client else "local",
            reply,
            seconds,
            successes=self._settings.log_requests,
            encoded=issuer.record.profile.log_responses,
        )
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_FLUSH_AFTER, self._flush)

    def _flush(self) -> None:
        self._timer = None
        self._tally.flush(self.service.gate.state)


def _media_type(value: bytes) -> bytes:
    return value.partition(b";")[0].strip().lower()
