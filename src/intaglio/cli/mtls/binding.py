"""`intaglio mtls binding`: which certificate was issued for which identity."""

from __future__ import annotations

from typing import Annotated

import typer

from intaglio.cli.client import segment
from intaglio.cli.commands import Cli, command, noun
from intaglio.cli.listing import All, Filter, Limit, Sort, listed

app = noun("Bindings: which certificate was issued for which identity, when and in what way.")


@command(app, "list", example="intaglio mtls binding list --filter name=payments --filter state=valid")
def list_(cli: Cli, filter: Filter = None, sort: Sort = None, limit: Limit = 100, all: All = False) -> None:
    """List bindings, newest first."""
    columns = {
        "kind": "KIND", "name": "NAME", "domain": "DOMAIN", "serial": "SERIAL", "not_after": "UNTIL", "state": "STATE",
        "channel": "CHANNEL",
    }  # fmt: skip
    rows = listed(cli, "/mtls/v1/bindings", filter, sort, limit, all)
    cli.out.table(rows, columns, empty="No certificates were issued for identities.")


@command(app, "show", example="intaglio mtls binding show 0199d3a2-5f7a-7c3e-8f10-2f4c7a9b1d21")
def show(cli: Cli, binding: Annotated[str, typer.Argument(help="Id of the binding.")]) -> None:
    """Show a binding, with who asked for the certificate and from where."""
    cli.out.result(cli.client.get(f"/mtls/v1/bindings/{segment(binding)}"))
