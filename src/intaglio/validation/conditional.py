"""Plain HTTP around finished bytes: headers, validators, conditional requests. Source: RFC 9110 and 9111."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Document:
    """Bytes with their headers, ready to be sent. ``etag`` is quoted; ``last_modified`` has whole seconds."""

    body: bytes = field(repr=False)
    headers: Headers
    etag: bytes = b""
    last_modified: datetime | None = None

    async def send(self, send: Send, status: int = 200, *, head: bool = False) -> None:
        await send({"type": "http.response.start", "status": status, "headers": self.headers})
        await send({"type": "http.response.body", "body": b"" if head else self.body})


def document(
    body: bytes,
    content_type: bytes,
    *,
    last_modified: datetime | None = None,
    expires: datetime | None = None,
    max_age: int | None = None,
) -> Document:
    """A document with validators; without ``max_age`` (seconds) it must not be stored by caches."""
    headers: Headers = [(b"content-type", content_type), (b"content-length", str(len(body)).encode())]
    if max_age is None:
        return Document(body, [*headers, (b"cache-control", b"no-store")])
    etag = b'"%s"' % hashlib.sha256(body).hexdigest()[:40].encode()
    headers += [(b"etag", etag), _cache_control(max_age)]
    if last_modified is not None:
        headers.append((b"last-modified", http_date(last_modified)))
    if expires is not None:
        headers.append((b"expires", http_date(expires)))
    return Document(body, headers, etag, last_modified)


def with_lifetime(made: Document, *, expires: datetime, max_age: int) -> Document:
    """The same document with what is left of its lifetime by now; ``max_age`` in seconds."""
    others = [entry for entry in made.headers if entry[0] not in (b"cache-control", b"expires")]
    return replace(made, headers=[*others, _cache_control(max_age), (b"expires", http_date(expires))])


def plain(text: str, *extra: tuple[bytes, bytes]) -> Document:
    """A line of text for people, not to be stored."""
    made = document(text.encode() + b"\n", b"text/plain; charset=utf-8")
    return Document(made.body, [*made.headers, *extra])


NOT_FOUND = plain("Not found.")


def _cache_control(max_age: int) -> tuple[bytes, bytes]:
    return b"cache-control", b"max-age=%d, public, no-transform, must-revalidate" % max_age


def http_date(moment: datetime) -> bytes:
    """``Sun, 06 Nov 1994 08:49:37 GMT``."""
    return format_datetime(moment.astimezone(UTC), usegmt=True).encode()


def is_not_modified(request_headers: Iterable[tuple[bytes, bytes]], current: Document) -> bool:
    """Whether the client's copy is still the current one (RFC 9110 section 13.2.2)."""
    since: bytes | None = None
    for name, value in request_headers:
        if name == b"if-none-match":
            tags = [tag.strip().removeprefix(b"W/") for tag in value.split(b",")]
            return b"*" in tags or current.etag in tags
        if name == b"if-modified-since":
            since = value
    if since is None or current.last_modified is None:
        return False
    try:
        return current.last_modified <= parsedate_to_datetime(since.decode("latin-1"))
    except (ValueError, TypeError, OverflowError):
        return False


async def send_not_modified(send: Send, current: Document) -> None:
    """304 with the validators and caching headers of the current document."""
    headers = [entry for entry in current.headers if entry[0] not in (b"content-type", b"content-length")]
    await send({"type": "http.response.start", "status": 304, "headers": headers})
    await send({"type": "http.response.body", "body": b""})
