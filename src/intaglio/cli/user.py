"""`intaglio user`: users."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from intaglio.cli.client import segment
from intaglio.cli.commands import Cli, command, noun
from intaglio.cli.files import read_secret
from intaglio.cli.listing import All, Filter, Limit, Sort, listed
from intaglio.cli.logins import store_token

app = noun("Users: named accounts with roles.")

Name = Annotated[str, typer.Argument(help="User name.")]
Roles = Annotated[list[str] | None, typer.Option("--role", help="Role; repeat for more.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


@command(app, "list", example="intaglio user list")
def list_(cli: Cli, filter: Filter = None, sort: Sort = None, limit: Limit = 100, all: All = False) -> None:
    """List the users with their last login."""
    columns = {
        "name": "NAME",
        "email": "E-MAIL",
        "roles": "ROLES",
        "disabled": "DISABLED",
        "last_login_at": "LAST LOGIN",
    }
    cli.out.table(listed(cli, "/users", filter, sort, limit, all), columns)


@command(app, "create", example="intaglio user create bob --role ca-operator --email bob@example.com")
def create(
    cli: Cli,
    name: Name,
    role: Roles = None,
    email: Annotated[str, typer.Option(help="E-mail address.")] = "",
    password_file: Annotated[
        str | None, typer.Option(help="File with a password; without it a one-time secret is made.")
    ] = None,
) -> None:
    """Create a user. He gets a one-time secret, shown once, and sets his password at the first login."""
    password = read_secret("Password", file=password_file, variable="") if password_file else None
    made = cli.client.post("/users", {"name": name, "email": email, "roles": role or [], "password": password})
    text = f"Created user {made['user']['name']}."
    if made["secret"]:
        text += f"\nOne-time secret, shown only now and good for 7 days: {made['secret']}"
    cli.out.result(made, text)


@command(app, "show", example="intaglio user show bob")
def show(cli: Cli, name: Name) -> None:
    """Show a user."""
    cli.out.result(cli.client.get(f"/users/{segment(name)}"))


@command(app, "edit", example="intaglio user edit bob --role auditor")
def edit(
    cli: Cli,
    name: Name,
    role: Roles = None,
    email: Annotated[str | None, typer.Option(help="E-mail address.")] = None,
    disable: Annotated[bool | None, typer.Option("--disable/--enable", help="Lock the account, or open it.")] = None,
) -> None:
    """Change roles (all are replaced), address or state of a user; effective at once."""
    found = cli.client.patch(f"/users/{segment(name)}", {"roles": role, "email": email, "disabled": disable})
    cli.out.result(found, f"Changed user {name}.")


@command(app, "delete", example="intaglio user delete bob --yes")
def delete(cli: Cli, name: Name, yes: Yes = False) -> None:
    """Delete a user with his sessions and tokens."""
    cli.confirm(f"Delete user {name}?", yes=yes)
    cli.client.delete(f"/users/{segment(name)}")
    cli.out.result({"deleted": name}, f"Deleted user {name}.")


@command(app, "reset-password", example="intaglio user reset-password bob")
def reset_password(cli: Cli, name: Name) -> None:
    """Replace the password of a user by a one-time secret, shown once, and end his sessions."""
    made = cli.client.post(f"/users/{segment(name)}/reset-password")
    cli.out.result(made, f"One-time secret of {name}, shown only now and good for 7 days: {made['secret']}")


@command(app, "require-password-change", example="intaglio user require-password-change --yes")
def require_password_change(cli: Cli, yes: Yes = False) -> None:
    """Make all users but oneself choose a new password at their next login; their sessions end."""
    cli.confirm("Make all users choose a new password?", yes=yes)
    made = cli.client.post("/users/require-password-change")
    cli.out.result(made, f"{made['users']} users choose a new password at their next login.")


@command(app, "change-password", example="intaglio user change-password --server https://pki.example:8443")
def change_password(
    cli: Cli,
    current_file: Annotated[
        str | None, typer.Option(help="File with the current password (or INTAGLIO_PASSWORD, or a prompt).")
    ] = None,
    new_file: Annotated[
        str | None, typer.Option(help="File with the new password (or INTAGLIO_NEW_PASSWORD, or a prompt).")
    ] = None,
) -> None:
    """Change one's own password; all sessions end, this one is renewed."""
    current = read_secret("Current password", file=current_file, variable="INTAGLIO_PASSWORD")
    new = read_secret("New password", file=new_file, variable="INTAGLIO_NEW_PASSWORD", confirm=True)
    answer = cli.client.post("/me/password", {"current": current, "new": new})
    if server := cli.connection.server or os.environ.get("INTAGLIO_SERVER"):
        store_token(server, answer["token"])
    cli.out.result({"user": answer["user"]["name"]}, f"Changed the password of {answer['user']['name']}.")
