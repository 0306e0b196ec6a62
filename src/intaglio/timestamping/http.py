"""Finished HTTP answers, and the ASGI types. Source: RFC 3161 section 3.4, RFC 9110."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from functools import lru_cache
from typing import Any, Final

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

REQUEST_TYPE: Final = b"application/timestamp-query"
REPLY_TYPE: Final = (b"content-type", b"application/timestamp-reply")
_NOT_STORED: Final = (b"cache-control", b"no-store")


@lru_cache(maxsize=1024)
def reply_headers(octets: int) -> tuple[tuple[bytes, bytes], ...]:
    """Headers of a TimeStampResp of that length. What is posted is not stored by caches, so nothing has to be said
    about it."""
    return REPLY_TYPE, (b"content-length", b"%d" % octets)


async def send_reply(send: Send, body: bytes) -> None:
    """A TimeStampResp."""
    await send({"type": "http.response.start", "status": 200, "headers": reply_headers(len(body))})
    await send({"type": "http.response.body", "body": body})


async def send_body(
    send: Send, status: int, content_type: bytes, body: bytes, *extra: tuple[bytes, bytes], head: bool = False
) -> None:
    """Any other answer."""
    headers = [(b"content-type", content_type), (b"content-length", b"%d" % len(body)), _NOT_STORED, *extra]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if head else body})


class Refusal(Exception):
    """A request that is refused as HTTP, with a line of text for people."""

    def __init__(self, status: int, text: str, *headers: tuple[bytes, bytes]) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.headers = headers

    async def send(self, send: Send, *, head: bool = False) -> None:
        """Send it."""
        body = self.text.encode() + b"\n"
        await send_body(send, self.status, b"text/plain; charset=utf-8", body, *self.headers, head=head)
