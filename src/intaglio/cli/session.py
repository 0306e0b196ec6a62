"""`intaglio login`, `logout` and `whoami`."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from intaglio.cli.commands import Cli, command, noun
from intaglio.cli.files import read_secret
from intaglio.cli.logins import store_token
from intaglio.core.errors import InvalidInput

login = noun("Log in to a server.")
logout = noun("End the login.")
whoami = noun("Say who is asking and what he may do.")


@command(login, "login", example="intaglio login admin --server https://pki.example:8443 --ca-file platform-ca.pem")
def log_in(
    cli: Cli,
    name: Annotated[str, typer.Argument(help="User name.")],
    password_file: Annotated[
        str | None, typer.Option(help="File with the password or one-time secret (or INTAGLIO_PASSWORD, or a prompt).")
    ] = None,
    new_password_file: Annotated[
        str | None, typer.Option(help="File with the new password, where one is needed (or INTAGLIO_NEW_PASSWORD).")
    ] = None,
) -> None:
    """Log in to a server. After a one-time secret, a new password is asked for and set.

    The session token is kept in the user's configuration folder, for this server only; it ends after 30 minutes without
    use.
    """
    server = _server(cli)
    password = read_secret("Password", file=password_file, variable="INTAGLIO_PASSWORD")
    answer = cli.client.post("/login", {"name": name, "password": password})
    if answer["password_change_required"]:
        cli.out.note("The password must be changed: at least 12 characters that are hard to guess.")
        new = read_secret("New password", file=new_password_file, variable="INTAGLIO_NEW_PASSWORD", confirm=True)
        answer = cli.client.as_bearer(answer["token"]).post("/me/password", {"new": new})
    store_token(server, answer["token"])
    shown = {"user": answer["user"]["name"], "expires_at": answer["expires_at"]}
    cli.out.result(shown, f"Logged in to {server} as {shown['user']}.")


@command(logout, "logout", example="intaglio logout --server https://pki.example:8443")
def log_out(cli: Cli) -> None:
    """End the login: the session token is good for nothing from now on."""
    server = _server(cli)
    cli.client.post("/logout")
    store_token(server, None)
    cli.out.result({"server": server}, f"Logged out of {server}.")


@command(whoami, "whoami", example="intaglio whoami")
def who_am_i(cli: Cli) -> None:
    """Say who is asking and what he may do."""
    cli.out.result(cli.client.get("/me"))


def _server(cli: Cli) -> str:
    server = cli.connection.server or os.environ.get("INTAGLIO_SERVER")
    if server is None:
        raise InvalidInput(
            "On this host the unix socket knows who you are: there is nothing to log in to.",
            code="server-needed",
            remedy="Name a server with --server.",
        )
    return server.rstrip("/")
