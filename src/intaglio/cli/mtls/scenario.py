"""`intaglio mtls scenario`: demonstrations that run, with what was expected and what was seen."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from intaglio.cli.commands import Cli, command, noun
from intaglio.core.errors import InvalidInput

if TYPE_CHECKING:
    from intaglio.cli.client import Client

app = noun("Scenarios: who gets through where, with which certificate from which network, and who does not.")

COLUMNS = {
    "step": "TRIED", "source": "FROM", "presents": "PRESENTS", "expected": "EXPECTED", "observed": "OBSERVED",
    "passed": "AS EXPECTED",
}  # fmt: skip


@command(app, "list", example="intaglio mtls scenario list")
def list_(cli: Cli) -> None:
    """List the scenarios and what their newest runs showed."""
    items = cli.client.get("/mtls/v1/scenarios")["items"]
    if cli.out.as_json:
        cli.out.result(items)
        return
    rows = [
        {**each, "result": _result(each["last_run"]), "at": (each["last_run"] or {}).get("finished_at", "")}
        for each in items
    ]
    columns = {
        "number": "NO", "title": "SCENARIO", "network_alone": "IP RULE ALONE", "adds": "MUTUAL TLS ADDS",
        "result": "LAST RUN", "at": "AT",
    }  # fmt: skip
    cli.out.table(rows, columns)


@command(
    app,
    "run",
    example=("intaglio mtls scenario run 6", "intaglio mtls scenario run all --standalone --json"),
)
def run(
    cli: Cli,
    number: Annotated[str, typer.Argument(help="1 to 8, or all.")],
    count: Annotated[int, typer.Option(help="Services of scenario 8.", min=1, max=10_000)] = 2000,
    standalone: Annotated[
        bool, typer.Option("--standalone", help="Start a server of its own for it, and remove it afterwards.")
    ] = False,
) -> None:
    """Run a scenario on the loopback network of the server, and compare what is seen with what is expected.

    Certificates, decisions and gateway are the real ones, in an organization of their own (scenarios). Exits with 1
    when anything differs.
    """
    numbers = _numbers(number)
    with _client(cli, standalone) as client:
        found = [_run(cli, client, each, count) for each in numbers]
    if cli.out.as_json:
        cli.out.result(found if number == "all" else found[0])
    if not all(each["passed"] for each in found):
        raise typer.Exit(1)


def _run(cli: Cli, client: Client, number: int, count: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    with cli.out.waiting(f"Scenario {number} ..."):
        for line in client.lines(f"/mtls/v1/scenarios/{number}/runs", {}, count=count):
            if "doing" in line:
                cli.out.note(line["doing"])
            found = line.get("run", found)
    if not cli.out.as_json:
        print(f"Scenario {number}: {_result(found)}")
        cli.out.table(found["rows"], COLUMNS)
        if found["figures"]:
            cli.out.members(found["figures"])
    return found


def _numbers(text: str) -> list[int]:
    if text == "all":
        return list(range(1, 9))
    if not text.isdigit() or not 1 <= int(text) <= 8:
        raise InvalidInput(f'There is no scenario "{text}".', code="scenario-unknown", remedy="Say 1 to 8, or all.")
    return [int(text)]


def _result(run: dict[str, Any] | None) -> str:
    if not run:
        return "never"
    return "as expected" if run["passed"] else "DIFFERENT"


@contextlib.contextmanager
def _client(cli: Cli, standalone: bool) -> Iterator[Client]:
    if not standalone:
        yield cli.client
        return
    from intaglio.cli.mtls.standalone import temporary_server

    with cli.out.waiting("Starting a server ..."), temporary_server() as client:
        yield client
