"""Writing client credentials that a command has just received; they are shown nowhere else and never again."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Annotated, Any

import typer

from intaglio.cli.commands import Cli
from intaglio.cli.files import write_private, write_public

CredentialsDir = Annotated[str, typer.Option(help="Folder for the NAME.p12 files of new gateway clients.")]
Passwords = Annotated[
    bool, typer.Option("--save-passwords", help="Write each password to NAME.password instead of showing it.")
]
Force = Annotated[bool, typer.Option("--force", help="Overwrite existing files.")]


def save_credentials(
    cli: Cli, answer: dict[str, Any], text: str, folder: str, *, save_passwords: bool, force: bool
) -> None:
    """Write the credentials of ``answer`` and print the rest of it.

    ``answer["credentials"]`` become NAME.p12 (mode 0600) or, for a client with a key of its own, NAME.pem. Passwords
    are printed, or written to NAME.password (mode 0600). With ``--json`` the objects name the files they are in.
    """
    lines = [text]
    for made in answer.get("credentials", ()):
        stem = Path(folder) / made["name"].replace("/", "_")
        if made.get("pkcs12") is None:
            made["file"] = f"{stem}.pem"
            write_public(made["file"], made["certificate"] + "".join(made["chain"]), force=force)
            lines.append(f"Client certificate of {made['name']}: {made['file']}")
            continue
        stem.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        made["file"] = _free(f"{stem}.p12", force=force)
        write_private(made["file"], base64.b64decode(made.pop("pkcs12")), force=force)
        lines.append(f"Gateway credential of {made['name']}: {made['file']} (until {made['not_after']})")
        if save_passwords:
            made["password_file"] = _free(f"{stem}.password", force=force)
            write_private(made["password_file"], made.pop("password") + "\n", force=force)
            lines.append(f"  password in {made['password_file']}")
        else:
            lines.append(f"  password, shown only now: {made['password']}")
    cli.out.result(answer, "\n".join(lines))


def _free(path: str, *, force: bool) -> str:
    """A name that is not taken: the credential exists only here by now, so a taken name must not lose it."""
    if force or not Path(path).exists():
        return path
    stem, dot, extension = path.rpartition(".")
    number = 2
    while Path(f"{stem}-{number}{dot}{extension}").exists():
        number += 1
    return f"{stem}-{number}{dot}{extension}"
