"""A trail of audit records, the key that seals it, and short ways to tamper with it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
from sqlalchemy import text

from intaglio.audit import sealing, verification
from intaglio.audit.record import record
from intaglio.core.principal import operator
from intaglio.db.engine import Database
from intaglio.keystore.audit_key import audit_public_keys, audit_signer
from intaglio.keystore.service import KeyStore

OPERATOR = operator("root")

Write = Callable[[int], Awaitable[None]]
Seal = Callable[[], Awaitable[None]]
Verify = Callable[..., Awaitable[verification.Report]]
Tamper = Callable[[str], Awaitable[None]]


@pytest.fixture
def write(database: Database) -> Write:
    async def write(count: int) -> None:
        async with database.transaction() as tx:
            for number in range(count):
                record(tx, OPERATOR, "thing.do", "thing", f"thing {number}", note="ümlaut \u2028", value=number / 3)

    return write


@pytest.fixture
def seal(database: Database, keystore: KeyStore) -> Seal:
    async def seal() -> None:
        signer = await audit_signer(database, keystore)
        while await sealing.seal_once(database, signer, chunk=10):
            pass

    return seal


@pytest.fixture
def verify(database: Database, keystore: KeyStore) -> Verify:
    async def verify(**options: object) -> verification.Report:
        async with database.read() as view:
            keys = await audit_public_keys(view, keystore)
            return await verification.verify(view, keys, **options)  # type: ignore[arg-type]

    return verify


@pytest.fixture
def tamper(database: Database) -> Tamper:
    async def tamper(statement: str) -> None:
        async with database.transaction() as tx:
            await tx.execute(text(statement))

    return tamper
