"""`intaglio mtls demo`: what mutual TLS is, shown on this host."""

from __future__ import annotations

import asyncio
from dataclasses import asdict

import typer

from intaglio.cli.commands import Cli, command, noun
from intaglio.cli.mtls.scenario import COLUMNS

app = noun("Demonstrations that need no server.")


@command(app, "tls-vs-mtls", example="intaglio mtls demo tls-vs-mtls", local=True)
def tls_vs_mtls(cli: Cli) -> None:
    """Show the same clients at a TLS and at a mutual TLS endpoint, and a client that looks at the server.

    Authorities, certificates and a revocation list are made up on the spot, everything runs on loopback. Exits with 1
    when anything is not as expected.
    """
    from intaglio.core.logging import configure_logging
    from intaglio.mtls.scenarios.comparison import compare

    configure_logging(cli.settings_with(log_level="ERROR"))  # refusals are the point here, and are in the table
    with cli.out.waiting("Running both endpoints ..."):
        found = asyncio.run(compare(lambda row: None))
    rows = [{**asdict(row), "passed": row.passed} for row in found]
    cli.out.table(rows, {"step": "ENDPOINT", **{k: v for k, v in COLUMNS.items() if k not in ("step", "source")}})
    if not all(row.passed for row in found):
        raise typer.Exit(1)


@app.callback()
def root() -> None:
    pass
