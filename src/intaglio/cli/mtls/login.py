"""`intaglio mtls login`: which certificates log in to which accounts of the platform."""

from __future__ import annotations

from typing import Annotated

import typer

from intaglio.cli.client import segment
from intaglio.cli.commands import Cli, command, noun
from intaglio.cli.listing import All, Filter, Limit, Sort, listed

app = noun("Certificate logins: a person's certificates in place of the password. They are made on the mTLS host.")


@command(app, "list", example="intaglio mtls login list")
def list_(cli: Cli, filter: Filter = None, sort: Sort = None, limit: Limit = 100, all: All = False) -> None:
    """List one's own certificate logins; whoever manages users sees those of everybody."""
    columns = {"identity_id": "ID", "identity": "IDENTITY", "user": "LOGS IN AS", "linked_at": "SINCE"}
    empty = "No certificate logins. Make one: POST /enrol/v1/login/link on the mTLS host, with certificate and session."
    cli.out.table(listed(cli, "/enrol/v1/logins", filter, sort, limit, all), columns, empty=empty)


@command(app, "remove", example="intaglio mtls login remove 0199d2a4-... --yes")
def remove(
    cli: Cli,
    identity: Annotated[str, typer.Argument(metavar="ID", help="Id of the identity: see `login list`.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """End a certificate login. Sessions that were opened with it go on until they end."""
    cli.confirm("End this certificate login?", yes=yes)
    cli.client.delete(f"/enrol/v1/logins/{segment(identity)}")
    cli.out.result({"removed": identity}, "The certificates of this identity log in to no account any more.")
