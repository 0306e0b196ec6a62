"""OCSP over HTTP: POST and GET (RFC 6960 appendix A, RFC 5019 sections 5 and 6), as a raw ASGI application.

The way of a cached answer is kept short on purpose: one look in a dictionary by path and body, two messages.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from functools import lru_cache

from intaglio.authority.context import Authority
from intaglio.authority.live_status import Key
from intaglio.core.errors import IntaglioError, InvalidInput
from intaglio.db.listen import Watch
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
from intaglio.validation.ocsp.answers import Answer, Memory
from intaglio.validation.ocsp.requests import MAX_REQUEST_OCTETS, decode_get_path
from intaglio.validation.ocsp.responder import Responder

#: Finished answers kept by one process, in octets.
CACHE_OCTETS = 48 * 1024 * 1024

_CONTENT_TYPE = b"application/ocsp-response"
_CONTENT_TYPE_HEADER = (b"content-type", _CONTENT_TYPE)
_LONGEST_GET = MAX_REQUEST_OCTETS * 4 // 3 + 512
_LONGEST_CA_PATH = 200  # far more than two names; longer ones are not worth remembering
# Names of organizations and CAs are lower case; the base64 of a SEQUENCE starts with "M".
_CA_PATH = re.compile(r"(/ocsp/[a-z0-9_-]+/[a-z0-9_-]+)(?:/(.*))?", re.DOTALL)
_NOT_ALLOWED = plain("Use GET or POST.", (b"allow", b"GET, POST"))
_TOO_LONG = plain("The URL is too long; use POST.")


class OcspApp:
    """ASGI application for everything at and below ``/ocsp``."""

    def __init__(self, authority: Authority, watch: Watch) -> None:
        self.responder = Responder(authority, watch, self._forget)
        # By the path of a GET, by path and body of a POST.
        self._cache: Memory[str | tuple[str, bytes], Document] = Memory(CACHE_OCTETS)

    async def close(self) -> None:
        await self.responder.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        method: str = scope["method"]
        path: str = scope["path"]
        if method == "POST":
            message = await receive()
            body: bytes = message.get("body", b"")
            if message.get("more_body", False):
                body = await _rest(body, receive)
            if (found := await self._cached((path, body))) is not None:
                await found.send(send)
            elif (signed := self.responder.answer_again(body, _posted_to(path))) is not None:
                await send({"type": "http.response.start", "status": 200, "headers": _posted_headers(signed)})
                await send({"type": "http.response.body", "body": signed})
            else:
                await (await self._post(path, body)).send(send)
        elif method == "GET":
            if len(path) > _LONGEST_GET:
                await _TOO_LONG.send(send, 414)
                return
            found = await self._cached(path) or await self._get(path)
            if found.etag and is_not_modified(scope["headers"], found):
                await send_not_modified(send, found)
            else:
                await found.send(send)
        else:
            await _NOT_ALLOWED.send(send, 405, head=method == "HEAD")

    async def _cached(self, question: str | tuple[str, bytes]) -> Document | None:
        if not self.responder.current:
            with contextlib.suppress(IntaglioError):  # then nothing in memory may be used; answering says why
                await self.responder.catch_up()
            if not self.responder.current:
                return None
        return self._cache.get(question)

    async def _post(self, path: str, body: bytes) -> Document:
        # A request that is too large is refused by the parser, which sees that it is one octet over the limit.
        return self._document((path, body), await self.responder.answer(body, _posted_to(path)))

    async def _get(self, path: str) -> Document:
        matched = _CA_PATH.fullmatch(path)
        rest = (matched.group(2) or "") if matched else path.removeprefix("/ocsp")
        try:
            data = decode_get_path(rest)
        except InvalidInput:
            data = b""
        return self._document(path, await self.responder.answer(data, matched.group(1) if matched else None))

    def _document(self, question: str | tuple[str, bytes], answer: Answer) -> Document:
        if not answer.cacheable or answer.this_update is None or answer.next_update is None:
            return document(answer.body, _CONTENT_TYPE)
        if isinstance(question, str):
            # An answer leaves our cache at half of its life, so a cache that keeps it for the other half never serves
            # it after nextUpdate.
            made = document(
                answer.body,
                _CONTENT_TYPE,
                last_modified=answer.this_update,
                expires=answer.next_update,
                max_age=int((answer.next_update - answer.this_update).total_seconds()) // 2,
            )
        else:
            made = Document(answer.body, _posted_headers(answer.body))
        # What is asked is kept as well, and can be made many times longer than what is answered.
        asked = len(question) if isinstance(question, str) else len(question[0]) + len(question[1])
        self._cache.put(question, made, about=answer.about, octets=asked + len(answer.body), stale_at=answer.stale_at)
        return made

    def _forget(self, keys: Sequence[Key] | None) -> None:
        if keys is None:
            self._cache.clear()
        else:
            self._cache.drop(keys)


def _posted_headers(body: bytes) -> list[tuple[bytes, bytes]]:
    # What is posted is not stored by caches (RFC 9110 section 9.3.3), so nothing has to be said about it.
    return [_CONTENT_TYPE_HEADER, (b"content-length", b"%d" % len(body))]


def _posted_to(path: str) -> str | None:
    """The path of a CA; None for the one that all CAs share."""
    return _ca_path(path) if len(path) <= _LONGEST_CA_PATH else None


@lru_cache(maxsize=4096)
def _ca_path(path: str) -> str | None:
    matched = _CA_PATH.fullmatch(path.rstrip("/"))
    return matched.group(1) if matched else None


async def _rest(body: bytes, receive: Receive) -> bytes:
    """The whole body; reading ends one octet beyond the limit."""
    while len(body) <= MAX_REQUEST_OCTETS:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body", False):
            return body
    return body[: MAX_REQUEST_OCTETS + 1]
