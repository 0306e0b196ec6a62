"""`intaglio enroll tenant`: partitions of enrolment."""

from __future__ import annotations

from typing import Annotated

import typer

from intaglio.cli.client import segment
from intaglio.cli.commands import Cli, command, noun
from intaglio.cli.listing import All, Filter, Limit, Sort, listed

app = noun("Tenants: partitions of enrolment, part of URLs.")

Name = Annotated[str, typer.Argument(metavar="TENANT", help="A-Z a-z 0-9 - _ ~; case counts.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


@command(app, "create", example="intaglio enroll tenant create Plant-7 --description 'Machines of plant 7'")
def create(cli: Cli, name: Name, description: Annotated[str, typer.Option(help="What it is for.")] = "") -> None:
    """Create a tenant. The tenant `main` is made with the first endpoint."""
    made = cli.client.post("/enrollment/tenants", {"name": name, "description": description})
    cli.out.result(made, f"Created {name}. Next: intaglio enroll endpoint create --tenant {name} ...")


@command(app, "list", example="intaglio enroll tenant list")
def list_(cli: Cli, filter: Filter = None, sort: Sort = None, limit: Limit = 100, all: All = False) -> None:
    """List the tenants."""
    columns = {"name": "TENANT", "endpoints": "ENDPOINTS", "description": "DESCRIPTION", "created_at": "CREATED"}
    cli.out.table(listed(cli, "/enrollment/tenants", filter, sort, limit, all), columns, empty="None yet.")


@command(app, "delete", example="intaglio enroll tenant delete Plant-7 --yes")
def delete(cli: Cli, name: Name, yes: Yes = False) -> None:
    """Delete a tenant that has no endpoints."""
    cli.confirm(f"Delete the tenant {name}?", yes=yes)
    cli.client.delete(f"/enrollment/tenants/{segment(name)}")
    cli.out.result({"deleted": name}, f"Deleted {name}.")
