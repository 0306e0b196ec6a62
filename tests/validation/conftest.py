"""The public listener of one process over a two-tier hierarchy."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest_asyncio
from tests.support.eventually import eventually

from intaglio.authority.cas.values import CreatedCa
from intaglio.authority.context import Authority
from intaglio.authority.directory import CaView
from intaglio.db.engine import Database
from intaglio.db.listen import Watch
from intaglio.validation.api import PublicApp, public_app


@pytest_asyncio.fixture
async def issuing(authority: Authority, hierarchy: tuple[CreatedCa, CreatedCa]) -> CaView:
    """The CA ``demo~issuing`` below ``demo~root``."""
    return (await authority.snapshot()).ca(hierarchy[1].ca.id)


@pytest_asyncio.fixture
async def watch(database: Database) -> AsyncIterator[Watch]:
    started = Watch(database)
    await started.start()
    await eventually(lambda: started.current)
    yield started
    await started.stop()


@pytest_asyncio.fixture
async def public(authority: Authority, watch: Watch) -> AsyncIterator[PublicApp]:
    app = public_app(authority, watch)
    yield app
    await app.close()


@pytest_asyncio.fixture
async def client(public: PublicApp) -> AsyncIterator[httpx.AsyncClient]:
    """Requests straight to the application."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(public), base_url="http://pki.example") as client:
        yield client
