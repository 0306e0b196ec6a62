"""`intaglio audit`: the audit trail and its proof."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from intaglio.cli.commands import Cli, command, noun
from intaglio.cli.files import read_text, write_public
from intaglio.cli.listing import All, Filter, Limit, Sort, listed
from intaglio.core.errors import Unavailable

app = noun("The audit trail and its proof.")


@command(
    app,
    "list",
    example=(
        "intaglio audit list --filter action=ca.create --filter 'at>=2026-01-01'",
        "intaglio audit list --organization demo",
    ),
)
def list_(
    cli: Cli,
    organization: Annotated[str | None, typer.Option(help="Only the records of this organization.")] = None,
    filter: Filter = None,
    sort: Sort = None,
    limit: Limit = 50,
    all: All = False,
) -> None:
    """List audit records, newest first: all with audit.view, otherwise those of the organizations one belongs to.

    Conditions: seq, at, actor, actor_kind, action, object, object_kind, outcome (success, refused, failed),
    organization, correlation_id, source.
    """
    columns = {
        "seq": "SEQ",
        "at": "AT",
        "actor": "ACTOR",
        "action": "ACTION",
        "object": "OBJECT",
        "outcome": "OUTCOME",
        "detail": "DETAIL",
    }
    rows = listed(cli, "/audit", filter, sort, limit, all, organization=organization)
    cli.out.table(rows, columns, empty="No records.")


@command(app, "show", example="intaglio audit show 42")
def show(cli: Cli, seq: Annotated[int, typer.Argument(help="Number of the record.")]) -> None:
    """Show a record."""
    cli.out.result(cli.client.get(f"/audit/{seq}"))


@command(
    app,
    "verify",
    example=("intaglio audit verify", "intaglio audit verify --checkpoint-file last.checkpoint --save last.checkpoint"),
)
def verify(
    cli: Cli,
    checkpoint_file: Annotated[
        str | None, typer.Option(help="Checkpoint of an earlier run, kept elsewhere: proves that history is the same.")
    ] = None,
    save: Annotated[str | None, typer.Option(help="Write the checkpoint of this run here.")] = None,
) -> None:
    """Verify that nothing in the trail was edited, removed, inserted or reordered. Exit code 1 when something was."""
    checkpoint = read_text(checkpoint_file).strip() if checkpoint_file else None
    report = _verified(cli, checkpoint)
    if save is not None and report["checkpoint"]:
        write_public(save, report["checkpoint"] + "\n")
    text = f"{report['records']} records under {report['seals']} seals, {report['unsealed']} not sealed yet: "
    text += "intact." if report["intact"] else "NOT intact."
    lines = [text, *(f"  {each['kind']}: {each['text']}" for each in report["findings"])]
    cli.out.result(report, "\n".join(lines))
    if not report["intact"]:
        raise typer.Exit(1)


@command(app, "seal", example="intaglio audit seal --limit 5")
def seal(cli: Cli, limit: Limit = 20, all: All = False) -> None:
    """List the seals over the trail, newest first."""
    columns = {
        "number": "NUMBER",
        "first_seq": "FROM",
        "last_seq": "TO",
        "sealed_at": "SEALED",
        "hash": "HASH",
        "key_id": "KEY",
    }
    cli.out.table(listed(cli, "/audit/seals", None, None, limit, all), columns, empty="No seals yet.")


@command(app, "public-key", example="intaglio audit public-key --out audit-keys.pem")
def public_key(
    cli: Cli, out: Annotated[str, typer.Option("--out", "-o", help="File to write; - is standard output.")] = "-"
) -> None:
    """Write the public keys that seal the trail (PEM, oldest first), to verify it elsewhere."""
    keys = cli.client.get("/audit/public-keys")["items"]
    if cli.out.as_json:
        cli.out.result(keys)
        return
    write_public(out, "".join(key["public_key"] for key in keys))
    if out != "-":
        cli.out.note(f"Wrote {out}.")


@command(app, "proof", example="intaglio audit proof 42 --out record-42.json")
def proof(
    cli: Cli,
    seq: Annotated[int, typer.Argument(help="Number of the record.")],
    out: Annotated[str, typer.Option("--out", "-o", help="File to write; - is standard output.")] = "-",
) -> None:
    """Write everything needed to check elsewhere that one record was sealed (JSON)."""
    import json

    write_public(out, json.dumps(cli.client.get(f"/audit/{seq}/proof"), indent=2) + "\n")


@command(app, "rotate-key", example="intaglio audit rotate-key --provider pkcs11:main")
def rotate_key(
    cli: Cli,
    provider: Annotated[str, typer.Option(help="Where the key is made: software, or pkcs11:TOKEN.")] = "software",
) -> None:
    """Seal with a new key from now on; the old ones stay for verification."""
    made = cli.client.post("/audit/rotate-key", {"provider": provider})
    cli.out.result(made, f"Sealing with key {made['key_id']} from now on.")


def _verified(cli: Cli, checkpoint: str | None) -> dict[str, Any]:
    """Follow the server's progress; the last line holds the report."""
    shown = sys.stderr.isatty() and not cli.out.as_json
    for line in cli.client.lines("/audit/verify", checkpoint=checkpoint):
        if "report" in line:
            if shown:
                print("\r\033[K", end="", file=sys.stderr)
            report: dict[str, Any] = line["report"]
            return report
        if shown and line["total"]:
            print(f"\r{line['done']} of {line['total']} records", end="", file=sys.stderr, flush=True)
    raise Unavailable("The server ended the verification without a result.", code="verification-aborted")
