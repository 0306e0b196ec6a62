"""`intaglio apply` and `intaglio export`: the installation as a YAML file."""

from __future__ import annotations

from typing import Annotated

import typer

from intaglio.cli.commands import Cli, command, noun
from intaglio.cli.credential_files import CredentialsDir, Force, Passwords, save_credentials
from intaglio.cli.files import read_text, write_public
from intaglio.core.errors import IntaglioError

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
    declaration = read_text(file)
    if prune and not dry_run:
        planned = cli.client.post("/declaration", {"declaration": declaration}, dry_run=True, prune=True)
        gone = [each["object"] for each in planned["changes"] if each["action"] == "delete"]
        if gone:
            cli.confirm(f"Delete {', '.join(gone)}?", yes=yes)
    with cli.out.waiting("Comparing" if dry_run else "Applying"):
        try:
            done = cli.client.post("/declaration", {"declaration": declaration}, dry_run=dry_run, prune=prune)
        except IntaglioError as error:
            _save_before_refusal(cli, error, credentials_dir, save_passwords=save_passwords, force=force)
            raise
    lines: list[str] = []
    for each in done["changes"]:
        lines.append(f"{_MARKS[each['action']]} {each['object']}")
        lines += [f"    {name}: {before} -> {after}" for name, before, after in each["fields"]]
    lines += [f"note: {text}" for text in done["notes"]]
    summary = f"{len(done['changes'])} changes" if done["changes"] else "Nothing to change"
    lines.append(f"{summary}{' (dry run).' if dry_run else '.'}")
    save_credentials(cli, done, "\n".join(lines), credentials_dir, save_passwords=save_passwords, force=force)


def _save_before_refusal(cli: Cli, error: IntaglioError, folder: str, *, save_passwords: bool, force: bool) -> None:
    """Keep what was made before a step was refused: the server shows it only this once."""
    made = error.extra.pop("credentials", [])
    if made or error.extra.get("done"):
        text = "\n".join(f"done: {each}" for each in error.extra.get("done", ()))
        save_credentials(cli, {"credentials": made}, text, folder, save_passwords=save_passwords, force=force)


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
