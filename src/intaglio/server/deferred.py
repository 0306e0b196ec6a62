"""Applications that are imported and built when they are first asked: what nobody uses costs no memory.

Building takes up to some tenths of a second; it is done in a thread, so that other requests go on meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from starlette.types import ASGIApp, Receive, Scope, Send


class DeferredApp:
    """An ASGI application that ``make`` builds for the first request. What ``make`` raises fails that request; the next
    one tries again."""

    def __init__(self, make: Callable[[], ASGIApp]) -> None:
        self._make = make
        self._app: ASGIApp | None = None
        self._building = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._app or await self._build()
        await app(scope, receive, send)

    async def _build(self) -> ASGIApp:
        async with self._building:
            if self._app is None:
                self._app = await asyncio.to_thread(self._make)
            return self._app
