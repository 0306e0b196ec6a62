"""Servers for the tests of this folder."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from tests.server import management_client
from tests.server.management_client import Management
from tests.server.running import House
from tests.support.database import MakeStage, Stage
from tests.support.folders import fast_folder

from intaglio.core.secrets import MasterKey


@pytest.fixture
def new_house(database_url: str) -> Iterator[Callable[..., House]]:
    """Makes servers on a database of this test's own, not yet started; settings as keyword arguments in capitals."""
    made: list[House] = []
    with tempfile.TemporaryDirectory(prefix="intaglio-house-", dir=fast_folder(), ignore_cleanup_errors=True) as name:

        def new(database: str | None = database_url, **settings: str) -> House:
            folder = Path(name) / f"house-{len(made)}"
            folder.mkdir()
            made.append(House(folder, database, **settings))
            return made[-1]

        yield new
        for house in made:
            house.destroy()


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    """One running server with two workers and an embedded database, shared by the tests of a module."""
    with tempfile.TemporaryDirectory(prefix="intaglio-house-", dir=fast_folder(), ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o711)
        one = House(folder, None, WORKERS="2", REQUEST_LIMIT="65536", REQUEST_TIMEOUT="1.5", HEALTH__HOST="127.0.0.1")
        try:
            yield one.start(HOUSE_JOBS="forever")
        finally:
            one.destroy()


@pytest_asyncio.fixture
async def management(database_url: str, master_key: MasterKey, tmp_path: Path) -> AsyncIterator[Management]:
    """The management API on a fresh database."""
    async with management_client.management(database_url, master_key, tmp_path) as started:
        yield started


@pytest_asyncio.fixture
async def operator(management: Management) -> AsyncIterator[httpx.AsyncClient]:
    """The operator of the host."""
    async with management.client(operator=True) as client:
        yield client


@pytest.fixture(scope="session")
def managed_hierarchy_stage(make_stage: MakeStage) -> Stage:
    """A database with the organization ``demo``, ``root`` and ``issuing``, as the management API makes them."""
    bodies = (
        ("/organizations", {"name": "demo"}),
        ("/organizations/demo/cas", management_client.root_body()),
        ("/organizations/demo/cas", management_client.issuing_body()),
    )

    async def build(database_url: str, master_key: MasterKey, folder: Path) -> None:
        async with (
            management_client.management(database_url, master_key, folder) as started,
            started.client(operator=True) as operator,
        ):
            for path, body in bodies:
                answer = await operator.post(path, json=body)
                assert answer.status_code == 201, answer.text

    return make_stage(build)


@pytest.fixture
def hierarchy(managed_hierarchy_stage: Stage) -> None:
    """The organization ``demo`` with ``root`` and ``issuing``."""
