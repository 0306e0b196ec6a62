"""`intaglio mtls edge`: who trusts whom."""

from __future__ import annotations

from typing import Annotated

import typer

from intaglio.cli.client import segment
from intaglio.cli.commands import Cli, command, noun
from intaglio.cli.files import write_public
from intaglio.cli.listing import All, Filter, Limit, Sort, listed

app = noun("Trust edges: which service takes callers of which trust domain, and the design document of it all.")

Edge = Annotated[str, typer.Argument(help="Id of the trust edge.")]


@command(app, "propose", example="intaglio mtls edge propose service:payments prod.example --reason 'Orders calls it'")
def propose(
    cli: Cli,
    service: Annotated[str, typer.Argument(help="The service that is called.")],
    domain: Annotated[str, typer.Argument(help="Trust domain of its callers.")],
    ca: Annotated[list[str] | None, typer.Option(help="Only this CA of it: ORGANIZATION~ID; repeat for more.")] = None,
    reason: Annotated[str, typer.Option(help="Why.")] = "",
) -> None:
    """Propose that a service takes callers of a trust domain."""
    body = {"service": service, "trusted_domain": domain, "cas": ca or [], "reason": reason}
    found = cli.client.post("/mtls/v1/edges", body)
    cli.out.result(found, f"Proposed {found['id']}: {found['service']} trusts {found['trusted_domain']}.")


@command(app, "approve", example="intaglio mtls edge approve 0199d3a2-5f7a-7c3e-8f10-2f4c7a9b1d21")
def approve(cli: Cli, edge: Edge) -> None:
    """Approve a trust edge that somebody else has proposed."""
    found = cli.client.post(f"/mtls/v1/edges/{segment(edge)}/approve")
    cli.out.result(found, f"Approved: {found['service']} trusts {found['trusted_domain']}.")


@command(app, "remove", example="intaglio mtls edge remove 0199d3a2-5f7a-7c3e-8f10-2f4c7a9b1d21 --yes")
def remove(
    cli: Cli, edge: Edge, yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False
) -> None:
    """Withdraw a trust edge."""
    cli.confirm("Withdraw the trust edge?", yes=yes)
    cli.client.delete(f"/mtls/v1/edges/{segment(edge)}")
    cli.out.result({"removed": edge}, "Withdrew the trust edge.")


@command(app, "list", example="intaglio mtls edge list --filter state=proposed")
def list_(cli: Cli, filter: Filter = None, sort: Sort = None, limit: Limit = 100, all: All = False) -> None:
    """List trust edges, newest first."""
    columns = {
        "id": "ID", "service": "SERVICE", "domain": "OF", "trusted_domain": "TRUSTS", "state": "STATE",
        "reason": "WHY",
    }  # fmt: skip
    empty = "No trust edges. Propose one with: intaglio mtls edge propose SERVICE DOMAIN"
    cli.out.table(listed(cli, "/mtls/v1/edges", filter, sort, limit, all), columns, empty=empty)


@command(app, "design", example="intaglio mtls edge design demo --format html --out trust-design.html")
def design(
    cli: Cli,
    org: Annotated[str, typer.Argument(help="Organization.")],
    format: Annotated[str, typer.Option(help="markdown, html or json.")] = "markdown",
    out: Annotated[str, typer.Option("--out", "-o", help="File to write; - is standard output.")] = "-",
    version: Annotated[int | None, typer.Option(help="An earlier version, as it was.")] = None,
) -> None:
    """Write the design document: trust domains, their CAs, and who trusts whom. Every change makes a new version."""
    path = f"/mtls/v1/designs/{segment(org)}"
    made = cli.client.post(path) if version is None else cli.client.get(path, version=version)
    if cli.out.as_json or format == "json":
        cli.out.result(made)
        return
    write_public(out, cli.client.get(path, version=made["version"], format=format))
    if out != "-":
        cli.out.note(f"Wrote {out}: version {made['version']}.")
