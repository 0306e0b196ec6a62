"""Status authorities that read CRLs from a server on the loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import select
from tests.support.authority import OPERATOR
from tests.support.crl_server import FileServer
from tests.support.foreign import ForeignCa
from tests.support.outgoing import list_networks

from intaglio.authority.context import Authority
from intaglio.core.identifiers import serial_octets
from intaglio.core.secrets import MasterKey
from intaglio.db.engine import Database, Transaction
from intaglio.db.listen import Watch
from intaglio.validation import models
from intaglio.validation.authorities import reading, service
from intaglio.validation.authorities.values import AuthoritySpec
from intaglio.validation.context import Validation
from intaglio.validation.sources import crl_source, freshness
from intaglio.validation.sources.crl_source import Looked
from intaglio.validation.sources.freshness import State


@pytest.fixture
def validation(authority: Authority, master_key: MasterKey, watch: Watch) -> Validation:
    """The validation authority of one process."""
    return Validation(authority, master_key, watch)


@pytest_asyncio.fixture
async def files(database: Database) -> AsyncIterator[FileServer]:
    await list_networks(database)
    async with FileServer() as server:
        yield server


@pytest.fixture
def ca() -> ForeignCa:
    return ForeignCa()


async def nobody_else(tx: Transaction) -> None:
    """Confirms that no other process has taken over."""


class Reader:
    """One status authority over CRLs, looked at when the test says so."""

    def __init__(self, validation: Validation, name: str) -> None:
        self.validation, self.name = validation, name

    async def look(self, progress: Callable[[int], None] = lambda _: None) -> Looked:
        async with self.validation.database.read() as view:
            authority = await reading.load(view, self.name)
        return await crl_source.look(self.validation, authority, nobody_else, progress)

    async def statuses(self) -> dict[int, str]:
        """What is known, by serial number; listed good ones too."""
        async with self.validation.database.read() as view:
            authority = await reading.load(view, self.name)
            e = models.status_entry.c
            rows = await view.all(select(e.serial, e.state).where(e.set_id == authority.set_id))
        return {int.from_bytes(row["serial"]): ("good", "revoked", "held")[row["state"]] for row in rows}

    async def entry(self, serial: int) -> Any:
        async with self.validation.database.read() as view:
            authority = await reading.load(view, self.name)
            e = models.status_entry.c
            query = select(models.status_entry).where(e.set_id == authority.set_id, e.serial == serial_octets(serial))
            return await view.one_or_none(query)

    async def state(self) -> State:
        async with self.validation.database.read() as view:
            authority = await reading.load(view, self.name)
            return (await freshness.states(view, view.now))[authority.id]

    async def part(self, part: str = "") -> Any:
        async with self.validation.database.read() as view:
            authority = await reading.load(view, self.name)
            s = models.status_source.c
            query = select(models.status_source).where(s.set_id == authority.set_id, s.part == part)
            return await view.one_or_none(query)


Open = Callable[..., Awaitable[Reader]]


@pytest.fixture
def open_reader(validation: Validation, ca: ForeignCa) -> Open:
    """Makes an authority over CRLs: ``crls`` as configured, with further options."""

    async def make(*crls: dict[str, Any], name: str = "foreign", profile: str = "CRLProfile", **options: Any) -> Reader:
        source = {"crls": list(crls), "timeout": "1s", **options}
        spec = AuthoritySpec.model_validate(
            {"name": name, "profile": profile, "issuers": ca.pem, "source": "crl", "crl": source}
        )
        await service.create(validation, OPERATOR, spec)
        return Reader(validation, name)

    return make
