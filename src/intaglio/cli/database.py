"""The database of this host for commands that work without the server."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from intaglio.core.logging import configure_logging

if TYPE_CHECKING:
    from intaglio.core.settings import Settings


@contextlib.contextmanager
def database_running(settings: Settings) -> Iterator[str]:
    """The URL of the database; an embedded one that does not run yet runs for as long as the block takes."""
    quiet()
    if settings.database_url is not None:
        from intaglio.db.address import secured

        yield secured(settings.database_url.get_secret_value())
        return
    from intaglio.db.embedded import EmbeddedPostgres

    embedded = EmbeddedPostgres(settings.data_dir)
    embedded.start()
    try:
        yield embedded.url
    finally:
        embedded.stop()


def quiet() -> None:
    """Log only what goes wrong, on standard error: between the lines of a command there is no place for more."""
    from intaglio.core.settings import Settings

    configure_logging(Settings(log_level="WARN", log_format="console"))
