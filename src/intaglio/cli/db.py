"""`intaglio db`: the database."""

from __future__ import annotations

import typer

from intaglio.cli.commands import Cli, command, noun
from intaglio.cli.database import database_running

app = noun("The database: check, migrate, address.")


@command(app, "check", example="intaglio db check", local=True)
def check(cli: Cli) -> None:
    """Say whether the database is reachable, has the schema of this version and agrees about the time. Exit code 1
    when not. Warnings are about what works and could be safer."""
    import intaglio.tables  # noqa: F401 - the tables of every package are compared
    from intaglio.db import diagnosis, migrate

    settings = cli.settings
    # Workers and the jobs process, each with its pool and a connection on which it hears of changes.
    connections = (settings.workers + 1) * (settings.database_pool_size + 1)
    with database_running(settings) as url:
        state = diagnosis.look(url, connections=connections)
        found = [*migrate.check(url), *state.errors]
    lines = [*found, *(f"warning: {each}" for each in state.warnings)]
    text = "\n".join(lines if found else ["The schema is that of this version.", *lines])
    cli.out.result({"ok": not found, "findings": found, "warnings": state.warnings}, text)
    if found:
        raise typer.Exit(1)


@command(app, "migrate", example="intaglio db migrate", local=True)
def migrate(cli: Cli) -> None:
    """Bring the schema to this version. `intaglio serve` does so by itself."""
    from intaglio.db.migrate import migrate as run

    with database_running(cli.settings) as url:
        applied = run(url)
    cli.out.result({"applied": applied}, f"Applied: {', '.join(applied)}" if applied else "Nothing to do.")


@command(app, "url", example='psql "$(intaglio db url)"', local=True)
def url(cli: Cli) -> None:
    """Print the address of the database, without a password."""
    from intaglio.db.address import without_secrets

    if cli.settings.database_url is None:
        from intaglio.db.embedded import EmbeddedPostgres

        address = EmbeddedPostgres(cli.settings.data_dir).url
    else:
        address = without_secrets(cli.settings.database_url.get_secret_value())
    cli.out.result({"url": address}, address)
