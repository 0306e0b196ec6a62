"""`intaglio apply` and `intaglio export`: the installation as a YAML file."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from intaglio.cli.commands import Cli, command, noun
from intaglio.cli.credential_files import CredentialsDir, Force, Passwords, save_credentials
from intaglio.cli.files import read_text, write_public

_MARKS = {"create": "+", "change": "~", "delete": "-"}

apply = noun("Make the installation what a YAML file declares.")
export = noun("Write the installation as a YAML file for apply.")


@command(apply, "apply", example=("intaglio apply -f pki.yaml --dry-run", "intaglio apply -f pki.yaml"))
def apply_(
    cli: Cli,
    file: Annotated[str, typer.Option("--file", "-f", help="Declaration (YAML); - is standard input.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show the difference.")] = False,
    prune: Annotated[
        bool, typer.Option("--prune", help="Also delete what the file does not name, in the sections it has.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before deleting.")] = False,
    credentials_dir: CredentialsDir = ".",
    save_passwords: Passwords = False,
    force: Force = False,
) -> None:
    """Make the installation what a YAML file declares. Repeating it changes nothing more.

    New gateway clients get their credentials as with `intaglio ca create`.
    """
    body = {"declaration": read_text(file)}
    planned = cli.client.post("/declaration", body, dry_run=True, prune=prune)
    if dry_run:
        cli.out.result(planned, _summary(planned, " (dry run)"))
        return
    if gone := [each["object"] for each in planned["changes"] if each["action"] == "delete"]:
        cli.confirm(f"Delete {', '.join(gone)}?", yes=yes)
    done: dict[str, Any] = {"dry_run": False, "changes": [], "credentials": [], "notes": []}
    try:
        with cli.out.waiting(f"Making {len(planned['changes'])} changes"):
            for line in cli.client.lines("/declaration", body, prune=prune):
                for name in ("changes", "credentials", "notes"):
                    done[name] += line[name]
    finally:
        # Whatever ended it: credentials made until then are shown by the server only this once.
        save_credentials(cli, done, _summary(done), credentials_dir, save_passwords=save_passwords, force=force)


def _summary(outcome: dict[str, Any], remark: str = "") -> str:
    lines: list[str] = []
    for each in outcome["changes"]:
        lines.append(f"{_MARKS[each['action']]} {each['object']}")
        lines += [f"    {name}: {before} -> {after}" for name, before, after in each["fields"]]
    lines += [f"note: {text}" for text in outcome["notes"]]
    count = len(outcome["changes"])
    summary = f"{count} change{'' if count == 1 else 's'}" if count else "Nothing to change"
    return "\n".join([*lines, f"{summary}{remark}."])


@command(export, "export", example="intaglio export --out pki.yaml")
def export_(
    cli: Cli, out: Annotated[str, typer.Option("--out", "-o", help="File to write; - is standard output.")] = "-"
) -> None:
    """Write organizations, CAs, custom profiles and settings as a YAML file for apply; nothing secret is in it."""
    found = cli.client.get("/declaration")
    if cli.out.as_json and out == "-":
        cli.out.result(found)
        return
    write_public(out, found["declaration"])
    if out != "-":
        cli.out.note(f"Wrote {out}.")
