"""Servers for the tests of this folder."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.server.running import House


@pytest.fixture
def new_house(database_url: str) -> Iterator[Callable[..., House]]:
    """Makes servers on a database of this test's own, not yet started; settings as keyword arguments in capitals."""
    made: list[House] = []
    with tempfile.TemporaryDirectory(prefix="intaglio-house-", ignore_cleanup_errors=True) as name:

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
    with tempfile.TemporaryDirectory(prefix="intaglio-house-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o711)
        one = House(folder, None, WORKERS="2", REQUEST_LIMIT="65536", REQUEST_TIMEOUT="1.5", HEALTH__HOST="127.0.0.1")
        try:
            yield one.start(HOUSE_JOBS="forever")
        finally:
            one.destroy()
