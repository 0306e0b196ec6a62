"""`intaglio tsa check`: the clock, the keys."""

from __future__ import annotations

from typing import Any

import typer

from intaglio.cli.client import segment
from intaglio.cli.commands import Cli, command, noun

app = noun("Check what timestamps need. Exit status 1 when something is wrong.")


@command(app, "clock", example="intaglio tsa check clock")
def clock(cli: Cli) -> None:
    """Ask the source of time now."""
    _tell(cli, {"clock": _clock(cli)})


@command(app, "hsm", example="intaglio tsa check hsm")
def hsm(cli: Cli) -> None:
    """Check that every issuer has its key and a certificate that fits."""
    _tell(cli, _issuers(cli))


@command(app, "all", example="intaglio tsa check all")
def all_(cli: Cli) -> None:
    """Check the clock and every issuer."""
    _tell(cli, {"clock": _clock(cli), **_issuers(cli)})


def _clock(cli: Cli) -> dict[str, Any]:
    found = cli.client.get("/timestamping/clock")
    detail = found.get("cause") or f"{found['source']}: off by at most {found['error']} seconds"
    remedy = found.get("remedy", "")
    return {"ok": found["status"] == "UP", "detail": f"{detail} {remedy}".strip(), "clock": found}


def _issuers(cli: Cli) -> dict[str, Any]:
    told: dict[str, Any] = {}
    for issuer in cli.client.get("/timestamping/issuers", limit=1000)["items"]:
        found = cli.client.post(f"/timestamping/issuers/{segment(issuer['name'])}/validate", {})
        lines = [f"{each['level']}: {each['detail']}" for each in found["findings"]]
        told[issuer["name"]] = {"ok": found["ok"], "detail": " ".join(lines) or "in order", "findings": lines}
    return told


def _tell(cli: Cli, told: dict[str, Any]) -> None:
    lines = [f"{name}: {'ok' if each['ok'] else 'FAILED'} - {each['detail']}" for name, each in told.items()]
    cli.out.result(told, "\n".join(lines) or "There are no timestamp issuers.")
    if not all(each["ok"] for each in told.values()):
        raise typer.Exit(1)
