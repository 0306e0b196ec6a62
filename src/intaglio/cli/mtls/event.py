"""`intaglio mtls event`: who was let in or turned away where, and why."""

from __future__ import annotations

from typing import Annotated

import typer

from intaglio.cli.commands import Cli, command, noun
from intaglio.cli.listing import All, Filter, Limit, listed

app = noun("Access events: who was let in or turned away where, and why.")


@command(
    app,
    "list",
    example=(
        "intaglio mtls event list --filter decision=deny",
        "intaglio mtls event list --filter reason=expired --filter 'at>=2026-01-01T00:00:00Z'",
    ),
)
def list_(
    cli: Cli,
    filter: Filter = None,
    org: Annotated[str | None, typer.Option(help="Only events of this organization.")] = None,
    oldest_first: Annotated[bool, typer.Option("--oldest-first", help="Begin with the oldest.")] = False,
    limit: Limit = 50,
    all: All = False,
) -> None:
    """List access events, newest first."""
    sort = "at" if oldest_first else None
    rows = listed(cli, "/mtls/v1/events", filter, sort, limit, all, organization=org)
    columns = {
        "at": "TIME", "ingress": "INGRESS", "source_ip": "FROM", "claimed": "CALLER", "method": "METHOD",
        "path": "PATH", "decision": "DECISION", "reason": "REASON",
    }  # fmt: skip
    cli.out.table(rows, columns, empty="No access events.")


@app.callback()
def root() -> None:
    pass
