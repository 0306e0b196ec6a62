"""`intaglio ocsp credential`: client certificates for gateways whose events are read."""

from __future__ import annotations

import base64
from typing import Annotated

import typer

from intaglio.cli.client import segment
from intaglio.cli.commands import Cli, command, noun
from intaglio.cli.files import read_bytes
from intaglio.cli.keytool import passwords
from intaglio.cli.listing import All, Filter, Limit, Sort, listed

ServerCa = Annotated[
    str | None, typer.Option(help="File with the CAs of the server (PEM); without it those that its host trusts count.")
]

app = noun("Client certificates for gateways whose events are read. Keys stay in the keystore.")


@command(app, "import", example="intaglio ocsp credential import client.p12 --password-file client.password")
def import_(
    cli: Cli,
    file: Annotated[str, typer.Argument(help="PKCS #12 file with exactly one client certificate.")],
    password_file: passwords.PasswordFile = None,
    password_fd: passwords.PasswordFd = None,
) -> None:
    """Import a client certificate with its key. It is used at once wherever no credential is named."""
    data = base64.b64encode(read_bytes(file)).decode()
    password = passwords.existing(f"Password of {file}", password_file, password_fd)
    made = cli.client.post("/validation/credentials", {"pkcs12": data, "password": password})
    cli.out.result(made, f"Imported {made['DN']} as {made['id']}. Give this DN the right to read events.")


@command(app, "issue", example='intaglio ocsp credential issue --ca demo~issuing --subject "CN=validation,O=Example"')
def issue(
    cli: Cli,
    ca: Annotated[str, typer.Option(help="Our CA that certifies it: ORGANIZATION~ID.")],
    subject: Annotated[str, typer.Option("--subject", "-s", help="Subject, by which gateways know their clients.")],
) -> None:
    """Have one of our CAs certify a new key as client certificate. It renews itself after two thirds of its life."""
    made = cli.client.post("/validation/credentials/issue", {"ca": ca, "subject": subject})
    cli.out.result(made, f"Made {made['DN']} as {made['id']}, renewed by itself at {made['renew_at']}.")


@command(
    app,
    "enroll",
    example="intaglio ocsp credential enroll https://ca.example/.well-known/est/validation -s CN=validation "
    "--reference 4711 --code-file validation.code",
)
def enroll(
    cli: Cli,
    url: Annotated[str, typer.Argument(help="EST server: https://HOST/.well-known/est/LABEL.")],
    subject: Annotated[str, typer.Option("--subject", "-s", help="Subject, by which gateways know their clients.")],
    reference: Annotated[str, typer.Option("--reference", "-r", help="Reference number or user name.")],
    code_file: Annotated[
        str | None, typer.Option(help="File with the authorization code or password; asked for without it.")
    ] = None,
    server_ca: ServerCa = None,
) -> None:
    """Have a CA certify a new key by EST. It renews itself there after two thirds of its life."""
    code = passwords.existing(f"Authorization code of {reference}", code_file, None)
    body = {"url": url, "subject": subject, "reference": reference, "code": code, "server_ca": _pem(server_ca)}
    made = cli.client.post("/validation/credentials/enroll", body)
    cli.out.result(made, f"Got {made['DN']} as {made['id']}, renewed by itself at {made['renew_at']}.")


@command(app, "renew", example="intaglio ocsp credential renew 0192f4c2-7d2e-7f43-9c58-6a1f3b9d0e11")
def renew(
    cli: Cli,
    credential: Annotated[str, typer.Argument(help="Id of the credential.")],
    url: Annotated[str | None, typer.Option(help="EST server, if it is another one than it came from.")] = None,
    server_ca: ServerCa = None,
) -> None:
    """Renew a credential by EST with itself, now. Whoever uses it goes on with its successor."""
    body = {"url": url, "server_ca": _pem(server_ca)}
    made = cli.client.post(f"/validation/credentials/{segment(credential)}/renew", body)
    cli.out.result(made, f"Renewed {made['DN']}: {made['id']} until {made['notAfter']}.")


@command(app, "list", example="intaglio ocsp credential list --json")
def list_(cli: Cli, filter: Filter = None, sort: Sort = None, limit: Limit = 100, all: All = False) -> None:
    """List the credentials."""
    rows = listed(cli, "/validation/credentials", filter, sort, limit, all)
    columns = {"id": "ID", "DN": "DN", "SN": "SN", "notAfter": "UNTIL", "renew_at": "RENEWED AT", "latest": "LATEST"}
    cli.out.table(rows, columns, empty="None yet. Import one with: intaglio ocsp credential import FILE.p12")


@command(app, "delete", example="intaglio ocsp credential delete 0192f4c2-7d2e-7f43-9c58-6a1f3b9d0e11 --yes")
def delete(
    cli: Cli,
    credential: Annotated[str, typer.Argument(help="Id of the credential.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete a credential, and destroy its key."""
    cli.confirm(f"Delete the credential {credential} and destroy its key?", yes=yes)
    cli.client.delete(f"/validation/credentials/{segment(credential)}")
    cli.out.result({"deleted": credential}, f"Deleted {credential}.")


def _pem(file: str | None) -> str:
    return "" if file is None else read_bytes(file).decode("ascii", "replace")
