"""Parts of the management API that are imported when they are first asked.

The routes and values of one room take up to two megabytes of every worker, and most workers are never asked for most
rooms. Importing one takes a tenth of a second, in a thread.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, FastAPI
from starlette.types import Receive, Scope, Send


@dataclass(frozen=True)
class Room:
    """A module with a ``router``, where its paths begin (whole segments, as in ``/mtls/v1/alerts``), and what of that
    its own routes leave out."""

    module: str
    paths: tuple[str, ...]
    prefix: str = ""

    def answers(self, path: str) -> bool:
        """Whether the path may be one of this room."""
        return any(path == each or path.startswith(f"{each}/") for each in self.paths)

    def router(self) -> APIRouter:
        """Its routes, imported."""
        router: APIRouter = importlib.import_module(self.module).router
        return router


class AppWithRooms(FastAPI):
    """An application whose ``rooms`` are added when they are first asked, and all of them for its OpenAPI document."""

    def __init__(self, rooms: Iterable[Room], **given: Any) -> None:
        super().__init__(**given)
        self._rooms = tuple(rooms)
        self._closed = list(self._rooms)
        self._opening = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._closed and scope["type"] == "http" and self._asked(scope["path"]):
            async with self._opening:
                for room in self._asked(scope["path"]):
                    await asyncio.to_thread(room.router)
                    self._open(room)
        await super().__call__(scope, receive, send)

    def openapi(self) -> dict[str, Any]:
        """The document of everything."""
        for room in self._closed.copy():
            self._open(room)
        return super().openapi()

    def _asked(self, path: str) -> list[Room]:
        return [room for room in self._closed if path == self.openapi_url or room.answers(path)]

    def _open(self, room: Room) -> None:
        if room in self._closed:  # the document may have been asked for meanwhile
            self.include_router(room.router(), prefix=room.prefix)
            self._closed.remove(room)
