"""OCSP over HTTP: POST and GET (RFC 6960 appendix A, RFC 5019 sections 5 and 6), as a raw ASGI application.

The way of a cached answer is kept short on purpose: one look in a dictionary by path and body, two messages.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Sequence
from functools import lru_cache

from intaglio.authority.context import Authority
from intaglio.core.clock import monotonic
from intaglio.core.errors import IntaglioError, InvalidInput
from intaglio.db.listen import Watch
from intaglio.db.live import Change
from intaglio.validation.conditional import (
    Document,
    Receive,
    Scope,
    Send,
    document,
    is_not_modified,
    plain,
    send_not_modified,
)
from intaglio.validation.ocsp.answers import Answer, Memory, Outcome
from intaglio.validation.ocsp.bodies import (
    HEAD_TOO_LARGE,
    TOO_LARGE,
    TOO_MANY,
    TOO_SLOW,
    Bodies,
    BodyTooLarge,
    BodyTooSlow,
    head_octets,
)
from intaglio.validation.ocsp.requests import MAX_REQUEST_OCTETS, decode_get_path
from intaglio.validation.ocsp.responder import Responder
from intaglio.validation.settings import Ocsp

#: Finished answers kept by one process, in octets.
CACHE_OCTETS = 48 * 1024 * 1024
#: Seconds for which a request about a certificate that is not known yet may wait, and between two looks.
LONGEST_HOLD = 17.0
HOLD_STEP = 0.5
#: Requests of one process that may wait so; more are told to try later.
MAX_HELD = 256
#: Answers that one process signs anew at the same time before somebody has to wait for them.
MAX_REFRESHING = 32

_CONTENT_TYPE = b"application/ocsp-response"
_CONTENT_TYPE_HEADER = (b"content-type", _CONTENT_TYPE)
_LONGEST_GET = MAX_REQUEST_OCTETS * 4 // 3 + 512
_LONGEST_PATH = 200  # far more than two names; longer ones are not worth remembering
# Names are lower case or start with a digit; the base64 of a SEQUENCE starts with "M".
_PATH = re.compile(
    r"(?:(/ocsp/[a-z0-9_-]+/[a-z0-9_-]+)|(/eva/[a-z0-9][a-z0-9~._-]{0,99})|(/eva)|/ocsp)(?:/(.*))?", re.DOTALL
)
_NOT_ALLOWED = plain("Use GET or POST.", (b"allow", b"GET, POST"))
_TOO_LONG = plain("The URL is too long; use POST.")

Question = str | tuple[str, bytes]


class OcspApp:
    """ASGI application for everything at and below ``/ocsp`` and ``/eva``."""

    def __init__(self, authority: Authority, watch: Watch) -> None:
        # The server ends a request that takes too long with an answer of its own; this one has to come before that.
        self._longest = authority.settings.request_timeout * 0.9
        self.responder = Responder(authority, watch, self._forget)
        # By the path of a GET, by path and body of a POST.
        self._cache: Memory[Question, Document] = Memory(CACHE_OCTETS)
        self._bodies = Bodies()
        #: Requests that are being answered, or still arriving.
        self.running = 0
        #: Requests that wait until a certificate is known.
        self.held = 0
        self._refreshing: set[asyncio.Task[None]] = set()
        self._forgotten = 0  # how often answers were taken back

    async def close(self) -> None:
        for task in self._refreshing:
            task.cancel()
        await self.responder.close()

    def at_once(self, scope: Scope, body: bytes) -> tuple[int, tuple[tuple[bytes, bytes], ...], bytes] | None:
        """Status, headers and body of the answer to a request that arrived whole, when it is in memory or differs from
        one that is by its nonce; None: call."""
        limits, method, path = self.responder.limits, scope["method"], scope["path"]
        if (
            not self.responder.current
            or head_octets(scope) > limits.max_header_octets
            or len(body) > limits.max_body_octets
            or (limits.listen_limit and self.running >= limits.listen_limit)
        ):
            return None
        if method == "POST":
            found = self._cache.get((path, body), self._refresh)
            if found is None:
                signed = self.responder.answer_again(body, _place(path))
                return None if signed is None else (200, tuple(_posted_headers(len(signed))), signed)
        elif method == "GET" and len(path) <= _LONGEST_GET:
            found = self._cache.get(path, self._refresh)
            if found is None or (found.etag and is_not_modified(scope["headers"], found)):
                return None
        else:
            return None
        return 200, tuple(found.headers), found.body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        limits = self.responder.limits
        if head_octets(scope) > limits.max_header_octets:
            await HEAD_TOO_LARGE.send(send, 431)
        elif limits.listen_limit and self.running >= limits.listen_limit:
            await TOO_MANY.send(send, 503)
        else:
            self.running += 1
            try:
                await self._serve(scope, receive, send, limits)
            except BodyTooLarge:
                await TOO_LARGE.send(send, 413)
            except BodyTooSlow:
                await TOO_SLOW.send(send, 503)
            finally:
                self.running -= 1

    async def _serve(self, scope: Scope, receive: Receive, send: Send, limits: Ocsp) -> None:
        method: str = scope["method"]
        path: str = scope["path"]
        if method == "POST":
            body = await self._bodies.read(receive, limits.max_body_octets, min(limits.read_timeout, self._longest))
            if (found := await self._cached((path, body))) is not None:
                await found.send(send)
            elif (signed := self.responder.answer_again(body, _place(path))) is not None:
                await send({"type": "http.response.start", "status": 200, "headers": _posted_headers(len(signed))})
                await send({"type": "http.response.body", "body": signed})
            else:
                await self._answer((path, body), receive, send)
        elif method == "GET":
            if len(path) > _LONGEST_GET:
                await _TOO_LONG.send(send, 414)
                return
            found = await self._cached(path)
            if found is None:
                await self._answer(path, receive, send)
            elif found.etag and is_not_modified(scope["headers"], found):
                await send_not_modified(send, found)
            else:
                await found.send(send)
        else:
            await _NOT_ALLOWED.send(send, 405, head=method == "HEAD")

    async def _cached(self, question: Question) -> Document | None:
        if not self.responder.current:
            with contextlib.suppress(IntaglioError):  # then nothing in memory may be used; answering says why
                await self.responder.catch_up()
            if not self.responder.current:
                return None
        return self._cache.get(question, self._refresh)

    async def _answer(self, question: Question, receive: Receive, send: Send) -> None:
        answer = await self._ask(question, hold=True)
        if answer.outcome is Outcome.HELD:
            waited = await self._wait(question, receive)
            if waited is None:
                return  # nobody listens any more
            answer = waited
        await self._document(question, answer).send(send, answer.http_status)

    async def _ask(self, question: Question, *, hold: bool) -> Answer:
        if not isinstance(question, str):
            return await self.responder.answer(question[1], _place(question[0]), hold=hold)
        matched = _PATH.fullmatch(question)
        try:
            data = decode_get_path((matched.group(4) or "") if matched else "")
        except InvalidInput:
            data = b""  # malformed, like everything that is not a request
        return await self.responder.answer(data, _where(matched), hold=hold)

    async def _wait(self, question: Question, receive: Receive) -> Answer | None:
        """Look again and again whether the certificate has become known; None when the client went away."""
        if self.held >= MAX_HELD:
            return self.responder.failure(None if isinstance(question, str) else _place(question[0]))
        until = monotonic() + LONGEST_HOLD
        self.held += 1
        gone = asyncio.ensure_future(receive())
        try:
            while monotonic() < until:
                await asyncio.wait({gone}, timeout=HOLD_STEP)
                if gone.done():
                    return None
                answer = await self._ask(question, hold=True)
                if answer.outcome is not Outcome.HELD:
                    return answer
            return await self._ask(question, hold=False)
        finally:
            self.held -= 1
            gone.cancel()

    def _document(self, question: Question, answer: Answer) -> Document:
        if not answer.cacheable or answer.produced_at is None:
            return document(answer.body, _CONTENT_TYPE)
        if isinstance(question, str) and answer.next_update is None:
            made = document(answer.body, _CONTENT_TYPE)
        elif isinstance(question, str) and answer.next_update is not None:
            # An answer leaves our cache at half of its life, so a cache that keeps it for the other half never serves
            # it after nextUpdate.
            made = document(
                answer.body,
                _CONTENT_TYPE,
                last_modified=answer.produced_at,
                expires=answer.next_update,
                max_age=int((answer.next_update - answer.produced_at).total_seconds()) // 2,
            )
        else:
            made = Document(answer.body, _posted_headers(len(answer.body)))
        # What is asked is kept as well, and can be made many times longer than what is answered.
        asked = len(question) if isinstance(question, str) else len(question[0]) + len(question[1])
        self._cache.put(question, made, about=answer.about, octets=asked + len(answer.body), stale_at=answer.stale_at)
        return made

    def _refresh(self, question: Question) -> None:
        """Make an answer anew that is still asked for and soon too old, while the old one is given."""
        if len(self._refreshing) < MAX_REFRESHING:
            task = asyncio.get_running_loop().create_task(self._make_anew(question), name="ocsp-refresh")
            self._refreshing.add(task)
            task.add_done_callback(self._refreshing.discard)

    async def _make_anew(self, question: Question) -> None:
        forgotten = self._forgotten
        answer = await self._ask(question, hold=False)
        if answer.cacheable and forgotten == self._forgotten and self.responder.current:
            self._document(question, answer)

    def _forget(self, changes: Sequence[Change] | None) -> None:
        self._forgotten += 1
        if changes is None:
            self._cache.clear()
        else:
            self._cache.drop(changes)


@lru_cache(maxsize=1024)
def _posted_headers(length: int) -> list[tuple[bytes, bytes]]:
    """Headers of what was posted for; answers of one length share them, so nobody may change them."""
    # What is posted is not stored by caches (RFC 9110 section 9.3.3), so nothing has to be said about it.
    return [_CONTENT_TYPE_HEADER, (b"content-length", b"%d" % length)]


def _place(path: str) -> str | None:
    """Where something was posted to: the path of a CA or of an authority, or that of all; None for all of our own."""
    return _known_place(path) if len(path) <= _LONGEST_PATH else None


@lru_cache(maxsize=4096)
def _known_place(path: str) -> str | None:
    return _where(_PATH.fullmatch(path.rstrip("/")))


def _where(matched: re.Match[str] | None) -> str | None:
    return None if matched is None else matched.group(1) or matched.group(2) or matched.group(3)
