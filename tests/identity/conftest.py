"""An installation with its first administrator, and short ways to make users."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import SecretStr

from intaglio.core import clock
from intaglio.core.principal import Permission, Principal, operator
from intaglio.db.engine import Database
from intaglio.identity import roles, users

PASSWORD = SecretStr("mauve-Anchor-71-tundra")
OPERATOR = operator("root")

Advance = Callable[[timedelta], None]
MakeUser = Callable[..., Awaitable[Principal]]


@pytest.fixture
def advance() -> Iterator[Advance]:
    with clock.frozen(datetime(2026, 3, 1, 12, tzinfo=UTC)) as move:
        yield move


@pytest.fixture
async def installed(advance: Advance, database: Database) -> SecretStr:
    """The first administrator's one-time secret."""
    async with database.transaction() as tx:
        return await users.create_first_administrator(tx)


@pytest.fixture
def make_user(installed: SecretStr, database: Database) -> MakeUser:
    """Create a user with these permissions (through a role of his own) and return him as a principal."""

    async def make(name: str, *permissions: Permission) -> Principal:
        async with database.transaction() as tx:
            await roles.create_role(tx, OPERATOR, f"role of {name}", permissions)
            await users.create_user(tx, OPERATOR, name, roles=[f"role of {name}"], password=PASSWORD)
        return replace(OPERATOR, kind="user", name=name, permissions=frozenset(permissions))

    return make
