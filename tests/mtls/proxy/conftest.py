"""A gateway for the tests of this folder."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from tests.mtls.proxy.running import Pki, RunningGateway
from tests.server import management_client
from tests.server.management_client import Management

from intaglio.core.secrets import MasterKey


@pytest_asyncio.fixture
async def management(database_url: str, master_key: MasterKey, tmp_path: Path) -> AsyncIterator[Management]:
    """The management API on a fresh database."""
    async with management_client.management(database_url, master_key, tmp_path) as started:
        yield started


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """One gateway that enforces and does not refuse in the handshake, shared by the tests of a module."""
    running = RunningGateway(Pki(tmp_path_factory.mktemp("gateway")), refuse_in_handshake=False)
    yield running
    running.close()


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """One that refuses in the handshake what it can."""
    running = RunningGateway(Pki(tmp_path_factory.mktemp("strict")))
    yield running
    running.close()


@pytest.fixture(scope="module")
def permissive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """One that only watches."""
    running = RunningGateway(Pki(tmp_path_factory.mktemp("permissive")), mode="permissive")
    yield running
    running.close()


@pytest.fixture
def new_gateway(tmp_path: Path) -> Iterator[Callable[..., RunningGateway]]:
    """Makes gateways of a test's own."""
    made: list[RunningGateway] = []

    def new(**options: object) -> RunningGateway:
        folder = tmp_path / f"gateway-{len(made)}"
        folder.mkdir()
        made.append(RunningGateway(Pki(folder), **options))  # type: ignore[arg-type]
        return made[-1]

    yield new
    for running in made:
        running.close()
