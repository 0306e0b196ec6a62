"""`intaglio enroll request`: requests that wait for approval."""

from __future__ import annotations

from typing import Annotated

import typer

from intaglio.cli.client import segment
from intaglio.cli.commands import Cli, command, noun
from intaglio.cli.files import write_public
from intaglio.cli.listing import All, Filter, Limit, Sort, listed

app = noun("Requests that wait for approval.")

Id = Annotated[str, typer.Argument(metavar="ID", help="See intaglio enroll request list.")]
Reason = Annotated[str, typer.Option(help="Why; it is kept, and whoever asked is told of a rejection.")]


@command(
    app,
    "list",
    example=("intaglio enroll request list", "intaglio enroll request list --filter state=pending"),
)
def list_(cli: Cli, filter: Filter = None, sort: Sort = None, limit: Limit = 100, all: All = False) -> None:
    """List requests, newest first."""
    columns = {
        "id": "ID",
        "state": "STATE",
        "endpoint": "ENDPOINT",
        "applicant": "APPLICANT",
        "subject": "SUBJECT",
        "sans": "NAMES",
        "created_at": "CREATED",
    }
    cli.out.table(listed(cli, "/enrollment/requests", filter, sort, limit, all), columns, empty="None.")


@command(app, "show", example="intaglio enroll request show 0197f2c5-... --csr request.pem")
def show(
    cli: Cli, id: Id, csr: Annotated[str | None, typer.Option(help="File for the certificate request (PEM).")] = None
) -> None:
    """Show a request."""
    found = cli.client.get(f"/enrollment/requests/{segment(id)}")
    if csr is not None and found["csr"]:
        write_public(csr, found["csr"])
    cli.out.result(found if cli.out.as_json else {name: value for name, value in found.items() if name != "csr"})


@command(app, "approve", example="intaglio enroll request approve 0197f2c5-...")
def approve(cli: Cli, id: Id, reason: Reason = "") -> None:
    """Approve a request. Its client gets the certificate when it asks again."""
    found = cli.client.post(f"/enrollment/requests/{segment(id)}/approve", {"reason": reason})
    cli.out.result(found, f"Approved {found['subject'] or ', '.join(found['sans'])}.")


@command(app, "reject", example="intaglio enroll request reject 0197f2c5-... --reason 'unknown device'")
def reject(cli: Cli, id: Id, reason: Reason = "") -> None:
    """Reject a request. Its client is told the reason when it asks again."""
    found = cli.client.post(f"/enrollment/requests/{segment(id)}/reject", {"reason": reason})
    cli.out.result(found, f"Rejected {found['subject'] or ', '.join(found['sans'])}.")
