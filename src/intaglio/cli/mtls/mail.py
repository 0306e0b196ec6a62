"""`intaglio mtls mail`: the mail server for security codes and reminders."""

from __future__ import annotations

from typing import Annotated

import typer

from intaglio.cli.commands import Cli, command, noun
from intaglio.cli.files import read_secret

app = noun("Mail: the server that security codes and reminders go through (settings: `intaglio settings get mail`).")


@command(
    app,
    "password",
    example=("intaglio mtls mail password", "intaglio mtls mail password --file smtp.password"),
)
def password(
    cli: Cli,
    file: Annotated[str | None, typer.Option("--file", help="File with the password; asked for without it.")] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Forget the password.")] = False,
) -> None:
    """Set the password of the account at the mail server. It is kept sealed and cannot be read."""
    value = None
    if not remove:
        value = read_secret("Password of the mail account", file=file, variable="INTAGLIO_MAIL_PASSWORD")
    if value is None:
        cli.client.delete("/enrol/v1/mail/password")
    else:
        cli.client.put("/enrol/v1/mail/password", {"password": value})
    done = "Removed the password." if remove else "Set the password."
    cli.out.result({"password": not remove}, done)


@command(app, "test", example="intaglio mtls mail test me@example.com")
def test(cli: Cli, to: Annotated[str, typer.Argument(help="E-mail address.")]) -> None:
    """Send a mail, to see whether mail works."""
    with cli.out.waiting("Sending ..."):
        cli.client.post("/enrol/v1/mail/test", {"to": to})
    cli.out.result({"sent": to}, f"The mail server took a mail for {to}.")
