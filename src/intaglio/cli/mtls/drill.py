"""`intaglio mtls drill`: revocation and rotation rehearsed."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from intaglio.cli.client import segment
from intaglio.cli.commands import Cli, command, noun
from intaglio.cli.files import read_text, write_public
from intaglio.cli.listing import All, Filter, Limit, Sort, listed
from intaglio.core.errors import InvalidInput

app = noun("Drills: revocation and rotation rehearsed, with evidence; and the rotation runbook.")

Domain = Annotated[str, typer.Argument(help="Trust domain.")]
Org = Annotated[str, typer.Option("--org", help="Organization.")]
Connect = Annotated[
    list[str] | None,
    typer.Option(help="INGRESS=https://host:port/ connects to it; repeat for more. Others are asked for decisions."),
]
ServerCa = Annotated[str | None, typer.Option("--server-ca", help="CA certificate of their servers (PEM).")]
_COLUMNS = {
    "step": "TRIED", "ingress": "INGRESS", "expected": "EXPECTED", "observed": "OBSERVED", "seconds": "SECONDS",
    "passed": "PASSED",
}  # fmt: skip


@command(
    app,
    "revoke",
    example=(
        "intaglio mtls drill revoke prod.example",
        "intaglio mtls drill revoke prod.example --connect web=https://web.example/ --server-ca web-ca.pem",
    ),
)
def revoke(
    cli: Cli,
    domain: Domain,
    service: Annotated[str | None, typer.Option(help="Issue it for this service, not for one made for it.")] = None,
    connect: Connect = None,
    server_ca: ServerCa = None,
) -> None:
    """Revoke a certificate made for it, and measure until every ingress refuses it. Exit code 1 when one fails."""
    _run(cli, "revoke", {"domain": domain, "service": service, **_network(connect, server_ca)})


@command(app, "rotate", example="intaglio mtls drill rotate prod.example")
def rotate(
    cli: Cli,
    domain: Domain,
    rollover: Annotated[bool, typer.Option(help="Exchange a CA too, in a trust domain made for it.")] = True,
    connect: Connect = None,
    server_ca: ServerCa = None,
) -> None:
    """Renew, revoke and re-issue a certificate, and exchange a CA. Exit code 1 when something fails."""
    _run(cli, "rotate", {"domain": domain, "rollover": rollover, **_network(connect, server_ca)})


@command(app, "runbook", example="intaglio mtls drill runbook prod.example --out runbook.md")
def runbook(
    cli: Cli,
    domain: Domain,
    format: Annotated[str, typer.Option(help="markdown or html.")] = "markdown",
    out: Annotated[str, typer.Option("--out", "-o", help="File to write; - is standard output.")] = "-",
) -> None:
    """Generate the rotation runbook from what is recorded."""
    text = cli.client.post("/mtls/v1/drills/runbook", {"domain": domain, "format": format})
    if cli.out.as_json:
        cli.out.result({"domain": domain, "format": format, "document": text})
        return
    write_public(out, text)


@command(app, "list", example="intaglio mtls drill list --org demo --filter kind=revoke")
def list_(cli: Cli, org: Org, filter: Filter = None, sort: Sort = None, limit: Limit = 50, all: All = False) -> None:
    """List drills."""
    columns = {
        "id": "DRILL", "kind": "KIND", "domain": "DOMAIN", "state": "STATE", "started_at": "AT", "figures": "SECONDS",
        "started_by": "BY",
    }  # fmt: skip
    rows = listed(cli, "/mtls/v1/drills", filter, sort or "-id", limit, all, organization=org)
    cli.out.table(rows, columns, empty="No drills. Rehearse a revocation: intaglio mtls drill revoke DOMAIN")


@command(app, "show", example="intaglio mtls drill show 019a0000-0000-7000-8000-000000000000")
def show(cli: Cli, drill: Annotated[str, typer.Argument(help="Id of a drill.")]) -> None:
    """Show the evidence of a drill."""
    _show(cli, cli.client.get(f"/mtls/v1/drills/{segment(drill)}"))


@command(app, "due", example="intaglio mtls drill due --org demo")
def due(cli: Cli, org: Org) -> None:
    """Show when each drill has to be repeated: within 92 days."""
    rows = list(cli.client.pages("/mtls/v1/drills/due", most=None, organization=org))
    columns = {"domain": "DOMAIN", "kind": "DRILL", "last": "LAST PASSED", "due_at": "DUE", "overdue": "OVERDUE"}
    cli.out.table(rows, columns, empty="No trust domain is in use.")


def _run(cli: Cli, kind: str, body: dict[str, Any]) -> None:
    with cli.out.waiting("Rehearsing; this may take a minute ..."):
        found = cli.client.post(f"/mtls/v1/drills/{kind}", body)
    _show(cli, found)
    if found["state"] != "passed":
        raise typer.Exit(1)


def _show(cli: Cli, found: dict[str, Any]) -> None:
    if cli.out.as_json:
        cli.out.result(found)
        return
    cli.out.table(found["rows"], _COLUMNS)
    slowest = found["figures"].get("slowest_seconds")
    measured = "" if slowest is None else f" The slowest refusal took {slowest:g} seconds."
    print(f"The {found['kind']} drill of {found['domain']}: {found['state']}.{measured}")


def _network(connect: list[str] | None, server_ca: str | None) -> dict[str, Any]:
    pairs = [each.partition("=") for each in connect or ()]
    if any(not name or not url for name, _, url in pairs):
        raise InvalidInput("--connect is INGRESS=https://host:port/.", target="connect")
    return {"connect": {name: url for name, _, url in pairs}, "server_ca": read_text(server_ca) if server_ca else ""}
