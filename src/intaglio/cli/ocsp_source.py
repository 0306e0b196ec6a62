"""`intaglio ocsp source`: where the status of other CAs' certificates comes from."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from intaglio.cli.client import segment
from intaglio.cli.commands import Cli, command, noun
from intaglio.cli.listing import All, Filter, Limit, Sort, listed
from intaglio.core.errors import TimedOut

app = noun("Where the status of certificates comes from: CRLs, lists of serial numbers, events of gateways.")

Name = Annotated[str, typer.Argument(help="Name of the authority.")]
_POLL = 0.3  # seconds between two looks at the progress


@command(app, "list", example="intaglio ocsp source list")
def list_(cli: Cli, filter: Filter = None, sort: Sort = None, limit: Limit = 100, all: All = False) -> None:
    """List the sources and how reading them is going."""
    rows = listed(cli, "/validation/sources", filter, sort, limit, all)
    columns = {
        "name": "NAME",
        "source": "SOURCE",
        "pull.outcome": "LAST LOOK",
        "pull.ended_at": "AT",
        "state.last_ok_at": "LAST SUCCESS",
        "state.stale_reason": "STALE",
        "state.last_error": "ERROR",
    }
    cli.out.table(rows, columns, empty="None yet. Make a status authority with: intaglio ocsp authority create")


@command(app, "show", example="intaglio ocsp source show legacy")
def show(cli: Cli, name: Name) -> None:
    """Show every part of a source, and how far it has been read."""
    found = cli.client.get(f"/validation/sources/{segment(name)}")
    if cli.out.as_json:
        cli.out.result(found)
        return
    cli.out.members({"name": found["name"], "source": found["source"], **(found["state"] or {}), **found["pull"]})
    columns = {
        "part": "PART",
        "entries": "ENTRIES",
        "complete": "COMPLETE",
        "crl_number": "NUMBER",
        "this_update": "FROM",
        "next_update": "UNTIL",
        "last_ok_at": "LAST SUCCESS",
        "last_error": "ERROR",
    }
    cli.out.table(found["parts"], columns, empty="Nothing has been read yet.")


@command(app, "pull", example=("intaglio ocsp source pull legacy", "intaglio ocsp source pull legacy --timeout 600"))
def pull(
    cli: Cli,
    name: Name,
    timeout: Annotated[int, typer.Option(help="Seconds to wait for the end; 0 does not wait.", min=0)] = 120,
) -> None:
    """Have a source read now, and wait for the end. Exit code 1 when it failed."""
    asked = cli.client.post(f"/validation/sources/{segment(name)}/pull")
    if not timeout:
        cli.out.result(asked, f"The source of {name} will be read now.")
        return
    found = _wait(cli, name, timeout)
    cli.out.result(found, f"{found['outcome']}: {found['detail']}")
    if found["outcome"] == "failed":
        raise typer.Exit(1)


def _wait(cli: Cli, name: str, timeout: int) -> dict[str, Any]:
    until = time.monotonic() + timeout
    with cli.out.waiting(f"Reading the source of {name}"):
        while time.monotonic() < until:
            pull: dict[str, Any] = cli.client.get(f"/validation/sources/{segment(name)}")["pull"]
            if not pull["waiting"] and pull["ended_at"] is not None:
                return pull
            time.sleep(_POLL)
    raise TimedOut(
        f"The source of {name} was not read within {timeout} seconds.",
        code="pull-timeout",
        remedy="Is a jobs process running? See: intaglio ocsp source show",
    )
