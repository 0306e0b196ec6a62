"""Waiting for something that happens by itself, without a fixed sleep."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable

from intaglio.core.clock import monotonic


async def eventually(condition: Callable[[], bool | Awaitable[bool]], *, timeout: float = 10.0) -> None:
    """Return as soon as ``condition`` holds; fail when it does not within ``timeout`` seconds."""
    deadline = monotonic() + timeout
    while True:
        held = condition()
        if await held if inspect.isawaitable(held) else held:
            return
        assert monotonic() < deadline, f"did not happen within {timeout} seconds"
        await asyncio.sleep(0.02)
