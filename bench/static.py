"""The reference for status answers: an ASGI application that does nothing but send the same octets every time."""

from __future__ import annotations

import os
from typing import Any

_BODY = b"x" * int(os.environ.get("BENCH_STATIC_SIZE", "1000"))
_START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [
        (b"content-type", b"application/ocsp-response"),
        (b"content-length", str(len(_BODY)).encode()),
    ],
}
_END = {"type": "http.response.body", "body": _BODY}


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Answer every request alike; reads the body of a POST like the responder must."""
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    if scope["method"] == "POST":
        while (await receive()).get("more_body"):
            pass
    await send(_START)
    await send(_END)
