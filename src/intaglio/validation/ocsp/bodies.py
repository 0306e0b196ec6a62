"""What is refused before anything is done for it: heads and bodies that are too large, too slow, or too many."""

from __future__ import annotations

from intaglio.core.patience import OutOfPatience, Patience
from intaglio.validation.conditional import Receive, Scope, plain

_CLOSE = (b"connection", b"close")
HEAD_TOO_LARGE = plain("The head of the request is too large; use POST.", _CLOSE)
TOO_LARGE = plain("The OCSP request is too large.", _CLOSE)
TOO_SLOW = plain("The request took too long to arrive.", _CLOSE)
TOO_MANY = plain("Too many requests are being answered.", (b"retry-after", b"1"))

_OVERHEAD = 4  # octets of a header line besides name and value
_REQUEST_LINE = 15  # octets of "POST  HTTP/1.1" and the end of the line


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
    """Reads bodies within limits of size and time."""

    def __init__(self) -> None:
        self._patience = Patience()

    async def read(self, receive: Receive, limit: int, seconds: float) -> bytes:
        """The whole body. Raises BodyTooLarge beyond ``limit`` octets, BodyTooSlow after ``seconds``."""
        try:
            return await self._patience.limited(_whole(receive, limit), seconds)
        except OutOfPatience:
            raise BodyTooSlow from None


async def _whole(receive: Receive, limit: int) -> bytes:
    body = b""
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
