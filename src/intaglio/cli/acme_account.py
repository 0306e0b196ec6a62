"""`intaglio acme account`: who orders certificates."""

from __future__ import annotations

from typing import Annotated

import typer

from intaglio.cli.client import segment
from intaglio.cli.commands import Cli, command, noun
from intaglio.cli.listing import All, Filter, Limit, Sort, listed

app = noun("Accounts: who orders certificates.")

Id = Annotated[str, typer.Argument(metavar="ID", help="See intaglio acme account list.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


@command(
    app, "list", example=("intaglio acme account list", "intaglio acme account list --filter endpoint=www --all")
)
def list_(cli: Cli, filter: Filter = None, sort: Sort = None, limit: Limit = 100, all: All = False) -> None:
    """List accounts, newest first."""
    columns = {
        "id": "ID",
        "status": "STATUS",
        "endpoint": "ENDPOINT",
        "contacts": "CONTACTS",
        "key_type": "KEY",
        "external_account": "EXTERNAL ACCOUNT",
        "orders": "ORDERS",
        "created_at": "CREATED",
    }
    cli.out.table(listed(cli, "/enrollment/acme/accounts", filter, sort, limit, all), columns, empty="None yet.")


@command(app, "show", example="intaglio acme account show 0197f2c5-...")
def show(cli: Cli, id: Id) -> None:
    """Show an account."""
    cli.out.result(cli.client.get(f"/enrollment/acme/accounts/{segment(id)}"))


@command(app, "deactivate", example="intaglio acme account deactivate 0197f2c5-... --yes")
def deactivate(cli: Cli, id: Id, yes: Yes = False) -> None:
    """End an account for good. Its certificates stay as they are; its key cannot be registered again."""
    cli.confirm(f"End the account {id}?", yes=yes)
    found = cli.client.post(f"/enrollment/acme/accounts/{segment(id)}/deactivate", {})
    cli.out.result(found, f"Ended {found['id']}.")
