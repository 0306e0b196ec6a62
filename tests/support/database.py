"""Fixtures: one embedded PostgreSQL per test run, one fresh database per test.

The first test that needs a database starts the server; all xdist workers share it. It is the child of a supervisor
that ends with the pytest controller, so nothing is left behind by Ctrl-C or a kill.

A database is a clone: of the migrated template, or of a *stage*, a state from which many tests start (an organization
with CAs, say). A stage is a session fixture ``..._stage``, made once per test process by ``make_stage``; a fixture
that presents that state takes it as an argument, and the test gets a clone of the richest stage it takes.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
import pytest_asyncio
from tests.support.folders import fast_folder

from intaglio.core.secrets import MasterKey
from intaglio.db.engine import Database
from intaglio.keystore.service import KeyStore

_SUPERVISOR = Path(__file__).with_name("postgres_supervisor.py")


@pytest.fixture(scope="session")
def database_server() -> str:
    """URL of the migrated template database. Clone it, never connect to it."""
    return _start_or_join()


@pytest.fixture(scope="session")
def _administration(database_server: str) -> Iterator[psycopg.Connection[object]]:
    with psycopg.connect(_with_database(database_server, "postgres"), autocommit=True) as connection:
        yield connection


@dataclass(frozen=True)
class Stage:
    """A state to start from: the database to clone, what its maker returned, and the stage that it goes on from.

    All tests of the process see the same ``value``; none changes it.
    """

    template: str
    value: Any
    after: Stage | None = None

    @property
    def depth(self) -> int:
        return 1 if self.after is None else self.after.depth + 1

    def includes(self, other: Stage) -> bool:
        """Whether this is the other stage, or goes on from it."""
        return self is other or (self.after is not None and self.after.includes(other))


Build = Callable[[str, MasterKey, Path], Coroutine[Any, Any, Any]]
MakeStage = Callable[..., Stage]
Clone = Callable[..., str]


@pytest.fixture(scope="session")
def _clone(database_server: str, _administration: psycopg.Connection[object]) -> Clone:
    """A function that returns the name of a new clone of a database, by default of the migrated template."""

    def clone(template: str = urlsplit(database_server).path.lstrip("/")) -> str:
        name = f"test_{os.getpid()}_{secrets.token_hex(4)}"
        _administration.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY file_copy')
        return name

    return clone


@pytest.fixture(scope="session")
def make_stage(
    database_server: str, _clone: Clone, _master_key: MasterKey, tmp_path_factory: pytest.TempPathFactory
) -> MakeStage:
    """A function that makes a stage: ``build(database_url, master_key, folder)`` brings a database into that state,
    leaves no connection open, and returns what tests know about it. ``after`` is the stage that it goes on from."""

    def make(build: Build, after: Stage | None = None) -> Stage:
        name = _clone(after.template) if after else _clone()
        coroutine = build(_with_database(database_server, name), _master_key, tmp_path_factory.mktemp("stage"))
        with ThreadPoolExecutor(1) as thread:  # an event loop of its own, whatever runs in this thread
            return Stage(name, thread.submit(asyncio.run, coroutine).result(), after)

    return make


@pytest.fixture
def stage(request: pytest.FixtureRequest) -> Stage | None:
    """The richest stage that fixtures of this test take; None for a database that is only migrated."""
    stages = [request.getfixturevalue(name) for name in request.fixturenames if name.endswith("_stage")]
    return max((each for each in stages if isinstance(each, Stage)), key=lambda each: each.depth, default=None)


@pytest.fixture
def fresh_database(database_server: str, _clone: Clone, _administration: psycopg.Connection[object]) -> Iterator[Clone]:
    """A function that returns the URL of a new migrated database; all of them are dropped after the test."""
    made: list[str] = []

    def clone(*template: str) -> str:
        made.append(_clone(*template))
        return _with_database(database_server, made[-1])

    yield clone
    for name in made:
        _administration.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


@pytest.fixture
def database_url(fresh_database: Clone, stage: Stage | None) -> str:
    """URL of a fresh, migrated database of this test's own."""
    return fresh_database(stage.template) if stage else fresh_database()


@pytest_asyncio.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """The fresh database, opened."""
    opened = Database(database_url, pool_size=8, timeout=10.0)
    yield opened
    await opened.close()


@pytest.fixture(scope="session")
def _master_key() -> MasterKey:
    return MasterKey.generate()


@pytest.fixture
def master_key(_master_key: MasterKey) -> MasterKey:
    """The master key of the databases of this process; it cannot be changed, only rotated into another one."""
    return _master_key


@pytest.fixture
def keystore(master_key: MasterKey) -> Iterator[KeyStore]:
    """A keystore over ``master_key``."""
    store = KeyStore(master_key)
    yield store
    store.close()


@pytest.fixture
def postgres_folder() -> Iterator[Path]:
    """A folder in which a test may run an embedded PostgreSQL of its own (pytest's own folders are closed to it)."""
    with tempfile.TemporaryDirectory(prefix="intaglio-pg-", dir=fast_folder()) as name:
        folder = Path(name)
        folder.chmod(0o711)
        yield folder


def _start_or_join() -> str:
    controller = os.getppid() if "PYTEST_XDIST_WORKER" in os.environ else os.getpid()
    folder = fast_folder() / f"intaglio-test-{os.getuid()}-{controller}-{_started(controller)}"
    folder.mkdir(mode=0o711, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise RuntimeError(f"{folder} belongs to somebody else")
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        address = folder / "url"
        if not address.exists():
            address.write_text(_supervise(folder, controller))
        return address.read_text()


def _supervise(folder: Path, controller: int) -> str:
    with open(folder / "supervisor.log", "wb") as errors:
        process = subprocess.Popen(
            [sys.executable, str(_SUPERVISOR), str(folder), str(controller)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,
        )
    assert process.stdout is not None
    url = process.stdout.readline().decode().strip()
    process.stdout.close()
    if not url:
        raise RuntimeError(f"the test database does not start: {(folder / 'supervisor.log').read_text()[-2000:]}")
    return url


def _started(pid: int) -> str:
    """Start time of a process, so that a reused process id is not mistaken for it. Source: proc(5), field 22."""
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19]


def _with_database(url: str, name: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))
