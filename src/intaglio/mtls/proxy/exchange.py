"""One request on its way through the gateway, whichever version of HTTP brought it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

Header = tuple[bytes, bytes]

#: Fields of one connection, not of the message (RFC 9110 section 7.6.1).
HOP_BY_HOP = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade",
     b"proxy-authenticate", b"proxy-authorization", b"http2-settings"}
)  # fmt: skip


class Malformed(Exception):
    """The request could mean different things to the gateway and to the service behind it, or breaks the protocol.

    ``status`` is what to answer, ``code`` a stable code, ``detail`` one sentence.
    """

    def __init__(self, detail: str, *, status: int = 400, code: str = "malformed-request") -> None:
        super().__init__(detail)
        self.detail, self.status, self.code = detail, status, code


class ClientGone(Exception):
    """The client closed the connection or the stream."""


@dataclass(frozen=True)
class RequestHead:
    """A request as it came in. Header names are lower-case; ``target`` is a checked origin-form (path and query).

    ``protocol`` is the one of an upgrade (``websocket``), empty otherwise; ``has_body`` says whether one may follow.
    """

    method: bytes
    target: bytes
    authority: bytes
    headers: Sequence[Header]
    has_body: bool
    protocol: bytes = b""
    version: str = "1.1"

    @property
    def path(self) -> str:
        return self.target.partition(b"?")[0].decode("ascii")

    def values(self, name: bytes) -> list[bytes]:
        return [value for key, value in self.headers if key == name]


@dataclass(frozen=True)
class ResponseHead:
    """An answer of the service, already without the fields of its connection. ``length`` is None when not known."""

    status: int
    headers: Sequence[Header]
    length: int | None = None


class Duplex(Protocol):
    """Octets both ways, once a connection was upgraded."""

    async def receive(self) -> bytes:
        """What came next; empty at the end."""

    async def send(self, data: bytes) -> None: ...
    def close(self) -> None: ...


class Downstream(Protocol):
    """The client's side of one exchange. Every method may raise ClientGone."""

    head: RequestHead

    def body(self) -> AsyncIterator[bytes]:
        """The request body as it arrives. Raises TooMuch when it exceeds the limit."""

    async def respond(self, head: ResponseHead) -> None: ...
    async def send(self, data: bytes) -> None: ...
    async def end(self) -> None: ...
    async def upgrade(self, head: ResponseHead) -> Duplex:
        """Answer 101 and hand the connection over."""

    @property
    def responded(self) -> bool:
        """Whether the head of an answer has left."""

    def abort(self) -> None:
        """End the exchange so that the client does not take it for complete."""


class TooMuch(Exception):
    """The request body exceeds the limit."""
