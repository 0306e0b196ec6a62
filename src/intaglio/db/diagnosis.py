"""What the operator of a host wants to know about the database: why it is not reached, and whether it is safe."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import psycopg

from intaglio.core import clock
from intaglio.core.errors import Unavailable
from intaglio.db import address
from intaglio.db.engine import translated_errors

_LONGEST_REASON = 500
_TOLERATED, _LARGEST = timedelta(seconds=1), timedelta(seconds=10)


@dataclass
class State:
    """What is wrong, and what works and could be safer; one sentence each."""

    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def look(url: str, *, connections: int = 0) -> State:
    """Connect as the server would, and judge clock, encryption, rights, and whether there is room for as many
    ``connections`` as the server may open.

    Raises Unavailable with the reason, InvalidInput for an unreadable address.
    """
    with translated_errors(), open_connection(url) as connection:
        before = clock.now()
        row = connection.execute(
            "SELECT clock_timestamp(), (SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()), rolsuper"
            ", current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int"
            " FROM pg_roles WHERE rolname = current_user"
        ).fetchone()
        after = clock.now()
        assert row is not None
        local = connection.info.host.startswith("/")
    state = State()
    _judge_clock(state, row[0], before, after)
    if connections > row[3]:
        state.warnings.append(
            f"The server may open {connections} connections, the database admits {row[3]} altogether. Raise its "
            "max_connections, or lower INTAGLIO_DATABASE_POOL_SIZE or INTAGLIO_WORKERS."
        )
    if not local:
        _judge_encryption(state, encrypted=bool(row[1]), mode=_verification(url))
        if row[2]:
            state.warnings.append("The role is a superuser. To own its database is all it needs.")
    return state


def open_connection(url: str) -> psycopg.Connection[Any]:
    """A connection for a command on this host. Raises Unavailable, which says why, and InvalidInput for the address.

    The reason is for whoever configured the address; what clients of the server are told says less.
    """
    address.parse(url)
    try:
        return psycopg.connect(url, connect_timeout=10, options="-c timezone=UTC")
    except psycopg.OperationalError as error:
        reason = " ".join(str(error).split())[:_LONGEST_REASON].rstrip(".")
        raise Unavailable(
            f"The database is not reachable: {reason}.",
            code="database-unavailable",
            remedy="Check the address (INTAGLIO_DATABASE_URL), the password, and whether PostgreSQL runs.",
        ) from None


def _judge_clock(state: State, theirs: datetime, before: datetime, after: datetime) -> None:
    """The database's time was taken between two looks at ours."""
    offset = max(before - theirs, theirs - after, timedelta(0))
    if offset > _TOLERATED:
        to = state.errors if offset > _LARGEST else state.warnings
        seconds = round(offset.total_seconds())
        to.append(f"The clocks of this host and of the database differ by {seconds} seconds. Synchronize both.")


def _judge_encryption(state: State, *, encrypted: bool, mode: str) -> None:
    if not encrypted:
        state.warnings.append("The connection is not encrypted. Use sslmode=verify-full.")
    elif mode != "verify-full":
        state.warnings.append(f"The name of the database server is not verified (sslmode={mode}). Use verify-full.")


def _verification(url: str) -> str:
    return str(address.parse(url).get("sslmode") or os.environ.get("PGSSLMODE") or "prefer")
