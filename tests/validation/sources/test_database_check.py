"""What is said of a database in which a table or a privilege is missing."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from urllib.parse import quote

import pytest
import pytest_asyncio
from sqlalchemy import text
from tests.support.authority import OPERATOR

from intaglio.authority.context import Authority
from intaglio.core.secrets import MasterKey
from intaglio.db.engine import Database
from intaglio.db.listen import Watch
from intaglio.keystore.service import KeyStore
from intaglio.validation.context import Validation
from intaglio.validation.sources.service import check_database

_TABLES = {"status_authority", "status_entry", "status_source", "status_pull", "status_change", "status_head"}


async def _run(database: Database, *statements: str) -> None:
    async with database.transaction() as tx:
        for statement in statements:
            await tx.execute(text(statement))


async def _wrong(validation: Validation) -> dict[str, str]:
    """What is wrong, by what it is about; everything else has to be there."""
    found = await check_database(validation, OPERATOR)
    assert {each.about for each in found} == {"database", *_TABLES}
    return {each.about: each.detail for each in found if not each.ok}


@pytest_asyncio.fixture
async def role(database: Database) -> AsyncIterator[str]:
    """A role that may read and write every table, and is no superuser."""
    name = f"test_{secrets.token_hex(6)}"
    await _run(database, f"CREATE ROLE {name}", f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {name}")
    yield name
    await _run(database, f"DROP OWNED BY {name}", f"DROP ROLE {name}")


@pytest_asyncio.fixture
async def limited(
    role: str, database_url: str, authority: Authority, keystore: KeyStore, master_key: MasterKey, watch: Watch
) -> AsyncIterator[Validation]:
    """The validation authority of a process whose database connections have the privileges of ``role``."""
    separator = "&" if "?" in database_url else "?"
    limited = Database(f"{database_url}{separator}options={quote(f'-c role={role}')}", pool_size=1)
    yield Validation(Authority(authority.settings, limited, keystore), master_key, watch)
    await limited.close()


async def test_nothing_is_wrong_with_a_migrated_database(validation: Validation) -> None:
    assert await _wrong(validation) == {}


@pytest.mark.parametrize("table", sorted(_TABLES))
async def test_a_table_of_another_name_is_named_as_missing(
    validation: Validation, database: Database, table: str
) -> None:
    await _run(database, f"ALTER TABLE {table} RENAME TO {table}_before")
    assert await _wrong(validation) == {table: "The table is missing; run: intaglio db migrate"}


async def test_revoked_privileges_are_named(limited: Validation, database: Database, role: str) -> None:
    assert await _wrong(limited) == {}
    await _run(
        database, f"REVOKE DELETE ON status_entry FROM {role}", f"REVOKE INSERT, UPDATE ON status_head FROM {role}"
    )
    assert await _wrong(limited) == {
        "status_entry": "The database role lacks DELETE.",
        "status_head": "The database role lacks INSERT, UPDATE.",
    }
    await _run(database, f"GRANT ALL ON status_entry, status_head TO {role}")
    assert await _wrong(limited) == {}
