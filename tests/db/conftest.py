"""A PostgreSQL server of the test's own, to be killed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from intaglio.db.embedded import EmbeddedPostgres


@pytest.fixture
def own_server(postgres_folder: Path) -> Iterator[EmbeddedPostgres]:
    server = EmbeddedPostgres(postgres_folder)
    server.start()
    yield server
    server.stop()
