"""Applying and checking migrations."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine
from sqlalchemy.pool import NullPool

from intaglio.core.errors import Refused
from intaglio.db.base import metadata
from intaglio.db.diagnosis import open_connection
from intaglio.db.engine import translated_errors

MINIMUM_SERVER_VERSION = 150000
_LOCK = 0x1A7A6110  # advisory lock: two processes that start at once must not migrate at once


def migrate(url: str) -> list[str]:
    """Bring the schema to this version. Returns the revisions applied; safe to repeat.

    Raises Unavailable when the database cannot be reached, Refused when it is older than PostgreSQL 15 or newer than
    this version of Intaglio, is not encoded in UTF-8, or grants the role too little.
    """
    with _connected(url) as connection:
        _require_supported(connection)
        connection.exec_driver_sql(f"SELECT pg_advisory_lock({_LOCK})")
        connection.commit()
        try:
            before = _applied(connection)
            configuration = _configuration(connection)
            known = [script.revision for script in ScriptDirectory.from_config(configuration).walk_revisions()]
            if before is not None and before not in known:
                raise Refused(
                    f"The database schema ({before}) is newer than this version of Intaglio.",
                    code="schema-too-new",
                    remedy="Install the version of Intaglio that this database belongs to, or a newer one.",
                )
            command.upgrade(configuration, "head")
            connection.commit()
            return list(reversed(known[: known.index(before)] if before else known))
        finally:
            connection.rollback()
            connection.exec_driver_sql(f"SELECT pg_advisory_unlock({_LOCK})")
            connection.commit()


def check(url: str) -> list[str]:
    """What is wrong with the schema, one sentence each; empty when it is exactly what this version needs.

    The caller has imported every package's tables (``intaglio.tables``), as for :func:`differences`.
    """
    with _connected(url) as connection:
        _require_supported(connection)
        head = ScriptDirectory.from_config(_configuration(connection)).get_current_head()
        applied = _applied(connection)
        if applied != head:
            return [f"The schema is at {applied or 'nothing'}, this version needs {head}. Run `intaglio db migrate`."]
        return differences(connection)


def differences(connection: Connection) -> list[str]:
    """Differences between the tables in the code and in the database, as sentences."""
    context = MigrationContext.configure(connection, opts={"compare_type": True})
    return [f"Difference: {entry}" for entry in compare_metadata(context, metadata)]


def write_revision(url: str, message: str) -> str:
    """Write a migration for the difference between code and database (for developers). Returns its revision."""
    with _connected(url) as connection:
        configuration = _configuration(connection)
        number = len(list(ScriptDirectory.from_config(configuration).walk_revisions())) + 1
        command.revision(configuration, message=message, autogenerate=True, rev_id=f"{number:04d}")
        return f"{number:04d}"


def _configuration(connection: Connection) -> Config:
    configuration = Config()
    configuration.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    configuration.set_main_option("file_template", "%%(rev)s_%%(slug)s")
    configuration.attributes["connection"] = connection
    return configuration


def _applied(connection: Connection) -> str | None:
    revision = MigrationContext.configure(connection).get_current_revision()
    connection.rollback()
    return revision


def _require_supported(connection: Connection) -> None:
    version = int(connection.exec_driver_sql("SHOW server_version_num").scalar_one())
    connection.rollback()
    if version < MINIMUM_SERVER_VERSION:
        raise Refused(
            f"PostgreSQL {version // 10000} is too old.",
            code="database-version",
            remedy="Use PostgreSQL 15 or newer.",
        )
    encoding = connection.exec_driver_sql("SHOW server_encoding").scalar_one()
    connection.rollback()
    if encoding != "UTF8":
        raise Refused(
            f"The database is encoded in {encoding}, which cannot hold every name.",
            code="database-encoding",
            remedy="Create it with ENCODING 'UTF8' (and TEMPLATE template0).",
        )


@contextlib.contextmanager
def _connected(url: str) -> Iterator[Connection]:
    def connect() -> Any:
        return open_connection(url)

    try:
        with translated_errors():
            engine = create_engine("postgresql+psycopg://", creator=connect, poolclass=NullPool)
            with engine.connect() as connection:
                yield connection
    except psycopg.errors.InsufficientPrivilege as error:
        raise Refused(
            f"The database role has too few rights: {error.diag.message_primary}.",
            code="database-rights",
            remedy="Make it the owner of its database: ALTER DATABASE ... OWNER TO ...",
        ) from None
