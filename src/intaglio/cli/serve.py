"""`intaglio serve`: everything in one command."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from intaglio.cli.commands import Cli, command, noun

app = noun("Run everything: listeners, workers, jobs and the embedded database.")


@command(app, "serve", example=("intaglio serve", "intaglio serve --workers 4 --only ocsp,crl"), local=True)
def serve(
    cli: Cli,
    workers: Annotated[int | None, typer.Option(help="Serving processes; default: one per processor core.")] = None,
    only: Annotated[
        str | None, typer.Option(help="Run these services only: ocsp, crl, gateway, api, jobs (comma-separated).")
    ] = None,
    log_level: Annotated[str | None, typer.Option(help="TRACE, DEBUG, INFO, WARN, ERROR, FATAL or OFF.")] = None,
) -> None:
    """Run everything: listeners, workers, jobs and the embedded database.

    Stays in the foreground; Ctrl-C or SIGTERM stops it in order, SIGHUP reloads. Addresses and ports are boot settings:
    INTAGLIO_GATEWAY__PORT=7443, or intaglio.toml in the data folder.
    """
    from intaglio.server.supervisor import serve as run

    _refuse_keys_in_environment()
    format_ = "console" if sys.stderr.isatty() else None
    settings = cli.settings_with(workers=workers, only=only, log_level=log_level, log_format=format_)
    raise typer.Exit(run(settings))


def _refuse_keys_in_environment() -> None:
    """A private key in a variable is inherited by every child process, and shown by /proc."""
    if any("PRIVATE KEY" in value or "LS0tLS1CRUdJTi" in value for value in os.environ.values()):
        from intaglio.mtls.posture.scanners.keys import refuse_keys_in_environment

        refuse_keys_in_environment(os.environ)
