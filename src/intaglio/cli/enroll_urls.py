"""`intaglio enroll urls`: where certificates are asked for."""

from __future__ import annotations

from typing import Any

import typer

from intaglio.cli.commands import Cli, command, noun
from intaglio.cli.listing import All, Filter, Limit, Sort, listed

urls = noun("Where certificates are asked for, with commands to copy.")


#: Where the file comes from that the commands name.
_TRUST = (
    "Clients trust platform-ca.pem, the certificate behind this server's own; leave it out where yours is trusted:",
    "  intaglio tls ca-certificate --out platform-ca.pem",
)


@command(
    urls,
    "urls",
    example=("intaglio enroll urls", "intaglio enroll urls --filter protocol=acme --filter tenant=main"),
)
def urls_(cli: Cli, filter: Filter = None, sort: Sort = None, limit: Limit = 100, all: All = False) -> None:
    """List the URLs of all endpoints that are switched on, with ready commands of their clients."""
    rows = listed(cli, "/enrollment/urls", filter, sort, limit, all)
    if cli.out.as_json:
        cli.out.result(rows)
        return
    if not rows:
        cli.out.note("No endpoint is switched on. Create one: intaglio enroll endpoint create.")
        raise typer.Exit
    lines = [*_TRUST, ""]
    for row in rows:
        lines += [f"{row['address']} ({row['ca']}, {row['profile']})", *(f"  {url}" for url in row["urls"])]
        lines += [*_commands(row), ""]
    cli.out.result(rows, "\n".join(lines).rstrip())


def shown_commands(cli: Cli, address: str) -> list[str]:
    """The commands of one endpoint as lines for people."""
    found = cli.client.get("/enrollment/urls", filter=[f"address={address}"])["items"]
    return [line for row in found for line in _commands(row)]


def _commands(row: dict[str, Any]) -> list[str]:
    lines: list[str] = []
    for each in row["commands"]:
        lines += ["", f"  # {each['title']}", *(f"  {line}" for line in each["lines"])]
    return lines
