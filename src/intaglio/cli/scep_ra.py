"""`intaglio scep ra`: registration authorities."""

from __future__ import annotations

from typing import Annotated

import typer

from intaglio.cli.client import segment
from intaglio.cli.commands import Cli, command, noun
from intaglio.cli.listing import All, Filter, Limit, Sort, listed

app = noun("Registration authorities: what messages are encrypted for, and answers signed by.")


@command(app, "list", example="intaglio scep ra list")
def list_(cli: Cli, filter: Filter = None, sort: Sort = None, limit: Limit = 100, all: All = False) -> None:
    """List registration authorities, newest first; those that were replaced still answer who knows them."""
    columns = {
        "ca": "CA",
        "endpoints": "ENDPOINTS",
        "state": "STATE",
        "status": "STATUS",
        "key_algorithm": "KEY",
        "provider": "PROVIDER",
        "serial": "SERIAL",
        "not_after": "UNTIL",
        "renew_at": "RENEWED AFTER",
    }
    rows = listed(cli, "/enrollment/scep/authorities", filter, sort, limit, all)
    cli.out.table(rows, columns, empty="None yet. They are made when an endpoint needs them.")


@command(app, "renew", example="intaglio scep ra renew devices")
def renew(
    cli: Cli, endpoint: Annotated[str, typer.Argument(metavar="ENDPOINT", help="Name of a SCEP endpoint.")]
) -> None:
    """Make a new registration authority for an endpoint, before its time. Clients hear of it when they ask for the CA
    certificate again; the old one serves the others until its end."""
    name = endpoint.removeprefix("scep/")
    with cli.out.waiting(f"Renewing the registration authority of {name}"):
        made = cli.client.post(f"/enrollment/scep/endpoints/{segment(name)}/renew-authority", {})
    cli.out.result(made, f"Renewed: {made['serial']} of {made['ca']}, until {made['not_after']}.")
