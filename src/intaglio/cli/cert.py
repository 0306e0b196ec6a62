"""`intaglio cert`: certificates."""

from __future__ import annotations

import json
import time
from typing import Annotated, Any

import typer

from intaglio.cli import cert_issue, cert_status
from intaglio.cli.client import segment
from intaglio.cli.commands import Cli, command, noun
from intaglio.cli.files import write_public
from intaglio.cli.listing import All, Filter, Limit, Sort, listed

app = noun("Certificates: issue, look up, revoke, renew.")
cert_issue.register(app)
cert_status.register(app)

Ca = Annotated[str, typer.Option("--ca", help="ORGANIZATION~ID of the issuer.")]
Serial = Annotated[str, typer.Argument(help="Serial number, hexadecimal.")]

_COLUMNS = {
    "serial_number": "SERIAL", "ca": "CA", "subject": "SUBJECT", "profile": "PROFILE", "state": "STATE",
    "not_after": "EXPIRES",
}  # fmt: skip


@command(
    app,
    "list",
    example=(
        "intaglio cert list --ca demo~issuing",
        "intaglio cert list --filter 'names~www.example' --sort not_after",
    ),
)
def list_(
    cli: Cli,
    ca: Annotated[str | None, typer.Option("--ca", help="Only those of this CA.")] = None,
    filter: Filter = None,
    sort: Sort = None,
    limit: Limit = 50,
    all: All = False,
) -> None:
    """List certificates, newest first.

    Conditions: subject, names, profile, status (valid, held, revoked), serial_number, not_before, not_after, issued_at,
    requester, channel. Sort by issued or not_after.
    """
    conditions = [*(filter or []), *([f"ca={ca}"] if ca else [])]
    cli.out.table(listed(cli, "/certificates", conditions, sort, limit, all), _COLUMNS, empty="No certificates.")


@command(app, "show", example="intaglio cert show --ca demo~issuing 3A0F...")
def show(cli: Cli, serial: Serial, ca: Ca) -> None:
    """Show a certificate: status, subject, names, validity, who asked for it."""
    found = cli.client.get(_path(ca, serial))
    if not cli.out.as_json:
        found = {name: value for name, value in found.items() if name not in ("certificate", "chain")}
    cli.out.result(found)


@command(app, "download", example="intaglio cert download --ca demo~issuing 3A0F... --out server.pem --chain")
def download(
    cli: Cli,
    serial: Serial,
    ca: Ca,
    out: Annotated[str, typer.Option("--out", "-o", help="File to write; - is standard output.")] = "-",
    chain: Annotated[bool, typer.Option("--chain", help="Also its issuers, without the root.")] = False,
) -> None:
    """Write a certificate (PEM)."""
    found = cli.client.get(_path(ca, serial))
    text = found["certificate"] + ("".join(found["chain"][:-1]) if chain else "")
    if out == "-" and cli.out.as_json:
        cli.out.result({"pem": text})
        return
    write_public(out, text)
    if out != "-":
        cli.out.result({"file": out}, f"Wrote {out}.")


@command(app, "follow", example="intaglio cert follow --ca demo~issuing --json")
def follow(
    cli: Cli,
    ca: Annotated[str | None, typer.Option("--ca", help="Only events of this CA.")] = None,
    after: Annotated[
        int | None, typer.Option(help="Begin after this event number; default: with what comes now.")
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Stop when there are no further events.")] = False,
) -> None:
    """Print certificate events (issued, revoked, held, unheld) as they happen, one per line. Ctrl-C ends it."""
    position = _newest(cli, ca) if after is None else after
    try:
        while True:
            position, more = _print_events(cli, ca, position)
            if not more:
                if once:
                    return
                time.sleep(1)
    except KeyboardInterrupt:
        return


def _print_events(cli: Cli, ca: str | None, after: int) -> tuple[int, bool]:
    """Print a page of events. Returns where to continue, and whether there is more already."""
    feed = cli.client.get("/events", ca=ca, after=after, limit=1000)
    for event in feed["items"]:
        print(json.dumps(event) if cli.out.as_json else _line(event), flush=True)
    return int(feed["next"]), bool(feed["more"])


def _newest(cli: Cli, ca: str | None) -> int:
    position = 0
    while True:
        feed = cli.client.get("/events", ca=ca, after=position, limit=1000)
        position = int(feed["next"])
        if not feed["more"]:
            return position


def _line(event: dict[str, Any]) -> str:
    reason = f" ({event['reason']})" if event["reason"] else ""
    parts = (event["seq"], event["at"], event["ca"], event["action"] + reason, event["serial_number"], event["subject"])
    return " ".join(str(part) for part in parts if part is not None)


def _path(ca: str, serial: str) -> str:
    return f"/cas/{segment(ca)}/certificates/{segment(serial)}"
