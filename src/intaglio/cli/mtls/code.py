"""`intaglio mtls code`: security codes, with which people enrol in the browser."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from intaglio.cli.client import segment
from intaglio.cli.commands import Cli, command, noun
from intaglio.cli.listing import All, Filter, Limit, Sort, listed

app = noun("Security codes: each lets a person get a certificate in the browser, once.")

Id = Annotated[str, typer.Argument(metavar="CODE", help="Id of the code (not the code itself): see `code list`.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


@command(
    app,
    "create",
    example=(
        "intaglio mtls code create alice@example.com --name 'Alice Example'",
        "intaglio mtls code create alice@example.com --mail",
        "intaglio mtls code create --identity device:laptop-7 --for alice@example.com --days 30",
    ),
)
def create(
    cli: Cli,
    email: Annotated[str, typer.Argument(help="E-mail address of the user; goes into the certificate.")] = "",
    name: Annotated[str, typer.Option("--name", help="Name of a user who is not registered yet.")] = "",
    identity: Annotated[str, typer.Option(help="Somebody in the registry: id, NAME, KIND:NAME.")] = "",
    domain: Annotated[str, typer.Option(help="Trust domain; by default that of the enrolment page.")] = "",
    team: Annotated[str, typer.Option(help="Team of a user who is not registered yet.")] = "",
    for_: Annotated[
        list[str] | None, typer.Option("--for", help="E-mail address that may use the code; repeat for more.")
    ] = None,
    days: Annotated[int | None, typer.Option(help="Days the certificate is valid.")] = None,
    ttl: Annotated[int | None, typer.Option(help="Hours the code is good for.")] = None,
    uses: Annotated[int | None, typer.Option(help="Certificates the code is good for.")] = None,
    note: Annotated[str, typer.Option(help="What it is for.")] = "",
    mail: Annotated[bool, typer.Option("--mail", help="Send it by mail instead of showing it.")] = False,
) -> None:
    """Make a security code; it is shown once."""
    body: dict[str, Any] = {
        "identity": identity,
        "domain": domain,
        "display_name": name,
        "email": email,
        "team": team,
        "emails": for_ or [],
        "validity_days": days,
        "ttl_hours": ttl,
        "max_uses": uses,
        "note": note,
        "deliver": mail,
    }
    made = cli.client.post("/enrol/v1/codes", body)
    cli.out.result(made, _told(made))


@command(app, "list", example="intaglio mtls code list --filter state=created")
def list_(cli: Cli, filter: Filter = None, sort: Sort = None, limit: Limit = 100, all: All = False) -> None:
    """List security codes, newest first."""
    columns = {
        "id": "ID", "handle": "BEGINS WITH", "state": "STATE", "emails": "FOR", "identity": "IDENTITY",
        "domain": "DOMAIN", "uses": "USED", "expires_at": "GOOD UNTIL", "created_by": "MADE BY",
    }  # fmt: skip
    rows = listed(cli, "/enrol/v1/codes", filter, sort, limit, all)
    cli.out.table(rows, columns, empty="No security codes. Make one with: intaglio mtls code create EMAIL --name NAME")


@command(app, "show", example="intaglio mtls code show 0199d2a4-...")
def show(cli: Cli, code: Id) -> None:
    """Show a security code, without the code: that is kept nowhere."""
    cli.out.result(cli.client.get(_path(code)))


@command(app, "approve", example="intaglio mtls code approve 0199d2a4-...")
def approve(cli: Cli, code: Id) -> None:
    """Approve a code that somebody else made."""
    found = cli.client.post(f"{_path(code)}/approve")
    cli.out.result(found, f"Approved the code for {', '.join(found['emails'])}: {found['state']}.")


@command(app, "send", example="intaglio mtls code send 0199d2a4-... --to alice@example.com")
def send(
    cli: Cli,
    code: Id,
    to: Annotated[str | None, typer.Option(help="One of its addresses; by default the first.")] = None,
    in_person: Annotated[
        bool, typer.Option("--in-person", help="Only note that the code was handed over as it was shown.")
    ] = False,
) -> None:
    """Send a code by mail. It gets new symbols: those that were shown or sent before are good no more."""
    found = cli.client.post(f"{_path(code)}/send", {"to": to, "in_person": in_person})
    cli.out.result(found, f"Handed over the code for {to or found['emails'][0]}.")


@command(app, "revoke", example="intaglio mtls code revoke 0199d2a4-... --yes")
def revoke(cli: Cli, code: Id, yes: Yes = False) -> None:
    """Withdraw a code. What was issued with it stays."""
    cli.confirm("Withdraw this security code?", yes=yes)
    found = cli.client.post(f"{_path(code)}/revoke")
    cli.out.result(found, f"Withdrew the code for {', '.join(found['emails'])}.")


def _told(made: dict[str, Any]) -> str:
    whom = f"{made['identity']} ({', '.join(made['emails'])}) in {made['domain']}"
    if made["code"] is None and made["state"] == "delivered":
        return f"Sent a security code for {whom}, good until {made['expires_at']}."
    waits = made["state"] == "awaiting-approval"
    until = " once a second person approves it" if waits else f" until {made['expires_at']}"
    if made["code"] is None:
        return f"Made security code {made['id']} for {whom}; it is sent once a second person approves it."
    return f"Security code for {whom}, shown only now, good{until}:\n{made['code']}"


def _path(code: str) -> str:
    return f"/enrol/v1/codes/{segment(code)}"
