"""`intaglio acme order`: what was asked for, and how far it has got."""

from __future__ import annotations

from typing import Annotated

import typer

from intaglio.cli.client import segment
from intaglio.cli.commands import Cli, command, noun
from intaglio.cli.listing import All, Filter, Limit, Sort, listed

app = noun("Orders: what was asked for, and how far it has got.")

Id = Annotated[str, typer.Argument(metavar="ID", help="See intaglio acme order list.")]


@command(
    app,
    "list",
    example=("intaglio acme order list", "intaglio acme order list --filter status=invalid --filter names~example.com"),
)
def list_(cli: Cli, filter: Filter = None, sort: Sort = None, limit: Limit = 100, all: All = False) -> None:
    """List orders, newest first."""
    columns = {
        "id": "ID",
        "status": "STATUS",
        "endpoint": "ENDPOINT",
        "identifiers": "NAMES",
        "profile": "PROFILE",
        "created_at": "CREATED",
        "expires_at": "UNTIL",
    }
    cli.out.table(listed(cli, "/enrollment/acme/orders", filter, sort, limit, all), columns, empty="None yet.")


@command(app, "show", example="intaglio acme order show 0197f2c5-...")
def show(cli: Cli, id: Id) -> None:
    """Show an order with its authorizations, and why they failed if they did."""
    found = cli.client.get(f"/enrollment/acme/orders/{segment(id)}")
    if cli.out.as_json:
        cli.out.result(found)
        return
    shown = {name: value for name, value in found.items() if name != "authorizations"}
    for proof in found["authorizations"]:
        outcome = f"{proof['status']}" + (f" by {proof['method']}" if proof["method"] else "")
        reason = f": {proof['error']['detail']}" if proof["error"] else ""
        shown[proof["identifier"]] = outcome + reason
    cli.out.result(shown)
