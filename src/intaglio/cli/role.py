"""`intaglio role`: roles and permissions."""

from __future__ import annotations

from typing import Annotated

import typer

from intaglio.cli.client import segment
from intaglio.cli.commands import Cli, command, noun
from intaglio.cli.listing import All, Filter, Limit, Sort, listed

app = noun("Roles: named sets of permissions.")

Name = Annotated[str, typer.Argument(help="Name of the role.")]
Permissions = Annotated[
    list[str] | None,
    typer.Option(
        "--permission",
        help="ca.view, ca.operate, ca.configure, profiles.manage, users.manage, roles.manage, audit.view or "
        "platform.manage; repeat for more.",
    ),
]


@command(app, "list", example="intaglio role list")
def list_(cli: Cli, filter: Filter = None, sort: Sort = None, limit: Limit = 100, all: All = False) -> None:
    """List the roles."""
    columns = {"name": "NAME", "description": "DESCRIPTION", "permissions": "PERMISSIONS", "built_in": "BUILT-IN"}
    cli.out.table(listed(cli, "/roles", filter, sort, limit, all), columns)


@command(app, "create", example="intaglio role create revoker --permission ca.view --permission ca.operate")
def create(
    cli: Cli,
    name: Name,
    permission: Permissions = None,
    description: Annotated[str, typer.Option(help="What it is for.")] = "",
) -> None:
    """Create a role. Nobody grants a permission he lacks."""
    made = cli.client.post("/roles", {"name": name, "description": description, "permissions": permission or []})
    cli.out.result(made, f"Created role {name}.")


@command(app, "edit", example="intaglio role edit revoker --permission ca.view")
def edit(
    cli: Cli,
    name: Name,
    permission: Permissions = None,
    description: Annotated[str | None, typer.Option(help="What it is for.")] = None,
) -> None:
    """Change a custom role; its permissions are replaced. Effective at once for everybody who has it."""
    found = cli.client.patch(f"/roles/{segment(name)}", {"permissions": permission, "description": description})
    cli.out.result(found, f"Changed role {name}.")


@command(app, "delete", example="intaglio role delete revoker --yes")
def delete(cli: Cli, name: Name, yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False) -> None:
    """Delete a custom role that nobody has."""
    cli.confirm(f"Delete role {name}?", yes=yes)
    cli.client.delete(f"/roles/{segment(name)}")
    cli.out.result({"deleted": name}, f"Deleted role {name}.")
