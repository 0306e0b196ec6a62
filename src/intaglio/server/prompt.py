"""Answers that are known at once.

A task, an exchange of messages and a look at the time limit cost more than most answers of the public listener. An
application that can often answer without waiting for anything offers ``at_once`` beside its ASGI interface; it is asked
as soon as a request has arrived whole, and called as usual when it returns None.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, Final, cast

from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

Headers = tuple[tuple[bytes, bytes], ...]
#: Status, headers (``content-length`` among them) and body.
Answered = tuple[int, Headers, bytes]
#: Scope and body of a request that arrived whole; None: call the application.
AtOnce = Callable[[Scope, bytes], Answered | None]

_HEADS: Final = 1024  # one for each status, set of headers and length of body; more than there are in use


def at_once_of(app: object) -> AtOnce | None:
    """How ``app`` answers at once; None when it does not."""
    return cast("AtOnce | None", getattr(app, "at_once", None))


def encoded(answer: Answered, default_headers: Iterable[tuple[bytes, bytes]], *, close: bool) -> bytes:
    """An answer in HTTP/1.1, with the headers that every answer of the listener has; ``close`` says that it is the last
    one of its connection."""
    status, headers, body = answer
    defaults = b"".join([b"%b: %b\r\n" % header for header in default_headers])
    end = b"connection: close\r\n\r\n" if close else b"\r\n"
    return b"".join((_head(status, headers), defaults, end, body))


@lru_cache(maxsize=_HEADS)
def _head(status: int, headers: Headers) -> bytes:
    lines: list[Any] = [b"%b: %b" % header for header in headers]
    if any(b"\r" in line or b"\n" in line for line in lines):
        raise ValueError("a header of an answer has several lines")
    return b"".join((STATUS_LINE[status], *(line + b"\r\n" for line in lines)))
