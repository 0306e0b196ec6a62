"""`intaglio ocsp directory`: LDAP servers that CRLs are read from."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from intaglio.cli.client import segment
from intaglio.cli.commands import Cli, command, noun
from intaglio.cli.files import read_text
from intaglio.cli.keytool import passwords
from intaglio.cli.listing import All, Filter, Limit, Sort, listed

app = noun("Directories (LDAP servers) that CRLs are read from.")

Name = Annotated[str, typer.Argument(help="Name of the directory.")]


@command(
    app,
    "set",
    example=(
        "intaglio ocsp directory set corporate --url ldaps://ldap.example --server-ca ldap-ca.pem",
        "intaglio ocsp directory set corporate --url ldap://ldap.example --start-tls --user cn=reader,dc=example "
        "--password-file ldap.password",
    ),
)
def set_(
    cli: Cli,
    name: Name,
    url: Annotated[str, typer.Option(help="ldap://host:port or ldaps://host:port.")],
    start_tls: Annotated[bool, typer.Option("--start-tls", help="Go over to TLS after connecting.")] = False,
    server_ca: Annotated[str | None, typer.Option(help="CA of the server (PEM).")] = None,
    user: Annotated[str, typer.Option(help="Distinguished name to log in with; without one anonymously.")] = "",
    ask_password: Annotated[bool, typer.Option("--ask-password", help="Ask for the password.")] = False,
    password_file: passwords.PasswordFile = None,
    password_fd: passwords.PasswordFd = None,
) -> None:
    """Define a directory, or change it. A password that is set stays while server and user stay."""
    body: dict[str, Any] = {"name": name, "url": url, "start_tls": start_tls, "user_name": user}
    if server_ca:
        body["server_ca"] = read_text(server_ca)
    if ask_password or password_file is not None or password_fd is not None:
        body["password"] = passwords.existing(f"Password of {user}", password_file, password_fd)
    found = cli.client.put(f"/validation/directories/{segment(name)}", body)
    if not found["is_protected"]:
        what = "The password and the CRLs go" if found["has_password"] else "The CRLs go"
        cli.out.warning(f"{what} over the network in the clear; use --start-tls or ldaps://.")
    cli.out.result(found, f"The directory {name} is {url}.")


@command(app, "list", example="intaglio ocsp directory list")
def list_(cli: Cli, filter: Filter = None, sort: Sort = None, limit: Limit = 100, all: All = False) -> None:
    """List the directories."""
    rows = listed(cli, "/validation/directories", filter, sort, limit, all)
    columns = {"name": "NAME", "url": "URL", "start_tls": "STARTTLS", "user_name": "USER", "has_password": "PASSWORD"}
    cli.out.table(rows, columns, empty="None yet. Define one with: intaglio ocsp directory set NAME --url URL")


@command(app, "delete", example="intaglio ocsp directory delete corporate --yes")
def delete(
    cli: Cli, name: Name, yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False
) -> None:
    """Delete a directory that no authority uses."""
    cli.confirm(f"Delete the directory {name}?", yes=yes)
    cli.client.delete(f"/validation/directories/{segment(name)}")
    cli.out.result({"deleted": name}, f"Deleted {name}.")
