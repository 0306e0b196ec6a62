"""`intaglio status`."""

from __future__ import annotations

import typer

from intaglio.cli.commands import Cli, command, noun

app = noun("Say how the server is doing.")


@command(app, "status", example="intaglio status --json")
def status(cli: Cli) -> None:
    """Say how the server is doing: readiness, listeners, database, certificate authorities.

    Exit code 1 when it is not ready.
    """
    found = cli.client.get("/status")
    cli.out.result(found)
    if not found["ready"]:
        raise typer.Exit(1)
