from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from alembic import command

import intaglio.tables
from intaglio.core.errors import Refused, Unavailable
from intaglio.db import migrate

assert intaglio.tables  # the catalogue must be complete before it is compared


@pytest.fixture
def empty_url(database_url: str) -> str:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
    return database_url


def test_an_empty_database_is_brought_to_exactly_what_the_code_says(empty_url: str) -> None:
    assert migrate.check(empty_url)[0].startswith("The schema is at nothing")
    applied = migrate.migrate(empty_url)
    assert applied
    assert migrate.check(empty_url) == []
    assert migrate.migrate(empty_url) == []


def test_processes_that_migrate_at_once_do_it_once(empty_url: str) -> None:
    applied: list[list[str]] = []
    threads = [threading.Thread(target=lambda: applied.append(migrate.migrate(empty_url))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(bool, applied)) == [False, False, True]
    assert migrate.check(empty_url) == []


def test_a_changed_table_is_noticed(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("ALTER TABLE role DROP COLUMN description")
    assert any("description" in line for line in migrate.check(database_url))


def test_a_schema_of_a_newer_version_is_refused(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(Refused) as refused:
        migrate.migrate(database_url)
    assert refused.value.code == "schema-too-new"


def test_a_database_that_does_not_answer_is_unavailable() -> None:
    with pytest.raises(Unavailable):
        migrate.migrate("postgresql://nobody@127.0.0.1:1/nothing")


def test_every_test_has_a_database_of_its_own(fresh_database: Callable[[], str]) -> None:
    first, second = fresh_database(), fresh_database()
    assert urlsplit(first).path != urlsplit(second).path
    assert urlunsplit(urlsplit(first)._replace(path="")) == urlunsplit(urlsplit(second)._replace(path=""))


def test_tokens_from_before_keep_their_length_and_start_families(empty_url: str) -> None:
    with migrate._connected(empty_url) as connection:
        command.upgrade(migrate._configuration(connection), "0001")
        connection.commit()
    with psycopg.connect(empty_url, autocommit=True) as connection:
        connection.execute("INSERT INTO user_account (id, name, created_at) VALUES (gen_random_uuid(), 'bob', now())")
        for kind in ("api", "session"):
            connection.execute(
                "INSERT INTO api_token (id, user_id, kind, name, token_hash, created_at, expires_at)"
                " SELECT gen_random_uuid(), id, %(kind)s, %(kind)s, %(kind)s::text::bytea, now(),"
                " now() + interval '7 days' FROM user_account",
                {"kind": kind},
            )
    migrate.migrate(empty_url)
    with psycopg.connect(empty_url) as connection:
        found = connection.execute("SELECT kind, lifetime, parent_id FROM api_token ORDER BY kind").fetchall()
    assert found == [("api", timedelta(days=7), None), ("session", None, None)]
