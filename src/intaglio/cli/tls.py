"""`intaglio tls`: server certificates of the listeners."""

from __future__ import annotations

from typing import Annotated

import typer

from intaglio.cli.client import segment
from intaglio.cli.commands import Cli, command, noun
from intaglio.cli.files import read_secret, read_text, write_public

app = noun("Server certificates of the listeners.")

Listener = Annotated[str, typer.Option(help="default, console, gateway, enroll ...")]


@command(app, "show", example="intaglio tls show")
def show(cli: Cli) -> None:
    """Show the server certificates; `default` serves the listeners without one of their own."""
    columns = {
        "listener": "LISTENER",
        "origin": "FROM",
        "names": "NAMES",
        "issuer": "ISSUER",
        "key_algorithm": "KEY",
        "not_after": "EXPIRES",
    }
    cli.out.table(cli.client.get("/server-certificates")["items"], columns, empty="None yet.")


@command(app, "import", example="intaglio tls import --certificate chain.pem --key server.key")
def import_(
    cli: Cli,
    certificate: Annotated[str, typer.Option(help="Certificate, then its issuers (PEM).")],
    key: Annotated[str, typer.Option(help="Private key (PEM), encrypted or not.")],
    password_file: Annotated[
        str | None, typer.Option(help="File with the password of the key (or INTAGLIO_KEY_PASSWORD, or a prompt).")
    ] = None,
    listener: Listener = "default",
) -> None:
    """Import a server certificate with its key; served at once. What does not fit leaves the old one in use."""
    private_key = read_text(key)
    password: str | None = None
    if "ENCRYPTED" in private_key:
        password = read_secret("Password of the key", file=password_file, variable="INTAGLIO_KEY_PASSWORD")
    body = {"certificate": read_text(certificate), "key": private_key, "password": password}
    found = cli.client.put(f"/server-certificates/{segment(listener)}", body)
    text = f"{listener} serves {', '.join(found['names'])} until {found['not_after']}."
    cli.out.result(found, text)


@command(app, "remove", example="intaglio tls remove --listener gateway --yes")
def remove(
    cli: Cli, listener: Listener, yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False
) -> None:
    """Take a listener's own certificate away; it serves the default one from now on. `default` goes back to one that
    the platform makes and renews."""
    cli.confirm(f"Remove the certificate of {listener}?", yes=yes)
    cli.client.delete(f"/server-certificates/{segment(listener)}")
    served = "a certificate of the platform's own" if listener == "default" else "the default certificate"
    cli.out.result({"removed": listener}, f"{listener} serves {served}.")


@command(app, "ca-certificate", example="intaglio tls ca-certificate --out platform-ca.pem")
def ca_certificate(
    cli: Cli, out: Annotated[str, typer.Option("--out", "-o", help="File to write; - is standard output.")] = "-"
) -> None:
    """Write the platform's root (PEM), which clients trust while no server certificate was imported."""
    write_public(out, cli.client.get("/platform/ca-certificate"))
    if out != "-":
        cli.out.result({"file": out}, f"Wrote {out}.")
