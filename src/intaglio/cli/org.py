"""`intaglio org`: organizations and their members."""

from __future__ import annotations

from typing import Annotated

import typer

from intaglio.cli.client import segment
from intaglio.cli.commands import Cli, command, noun
from intaglio.cli.listing import All, Filter, Limit, Sort, listed

app = noun("Organizations: independent partitions that hold CAs and the clients that use them.")

Name = Annotated[str, typer.Argument(help="Name of the organization.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Policy = Annotated[str | None, typer.Option(help="Who may join: approval (a member lets in), open, or invite.")]


@command(app, "create", example="intaglio org create demo --description 'Demonstration'")
def create(
    cli: Cli,
    name: Name,
    description: Annotated[str, typer.Option(help="What it is for.")] = "",
    join_policy: Policy = None,
) -> None:
    """Create an organization with the CA for its gateway clients."""
    body = {"name": name, "description": description, "join_policy": join_policy}
    found = cli.client.post("/organizations", body)
    cli.out.result(found, f"Created organization {found['name']}.")


@command(app, "list", example="intaglio org list")
def list_(cli: Cli, filter: Filter = None, sort: Sort = None, limit: Limit = 100, all: All = False) -> None:
    """List the organizations one belongs to."""
    rows = listed(cli, "/organizations", filter, sort, limit, all)
    columns = {"name": "NAME", "description": "DESCRIPTION", "join_policy": "JOIN POLICY", "created_at": "CREATED"}
    cli.out.table(rows, columns, empty="No organizations. Create one with: intaglio org create NAME")


@command(app, "show", example="intaglio org show demo")
def show(cli: Cli, name: Name) -> None:
    """Show an organization."""
    cli.out.result(cli.client.get(f"/organizations/{segment(name)}"))


@command(app, "edit", example="intaglio org edit demo --join-policy invite")
def edit(
    cli: Cli,
    name: Name,
    description: Annotated[str | None, typer.Option(help="What it is for.")] = None,
    join_policy: Policy = None,
) -> None:
    """Change the description or who may join."""
    body = {"description": description, "join_policy": join_policy}
    cli.out.result(cli.client.patch(f"/organizations/{segment(name)}", body), f"Changed organization {name}.")


@command(app, "delete", example="intaglio org delete demo --yes")
def delete(cli: Cli, name: Name, yes: Yes = False) -> None:
    """Delete an organization that has no CAs. The credentials of its clients end with it."""
    cli.confirm(f"Delete organization {name}?", yes=yes)
    cli.client.delete(f"/organizations/{segment(name)}")
    cli.out.result({"deleted": name}, f"Deleted organization {name}.")


# ---- members ---------------------------------------------------------------------------------------------------------

User = Annotated[str, typer.Argument(help="User name.")]


@command(app, "members", example="intaglio org members demo")
def members(cli: Cli, name: Name) -> None:
    """List members, requests to join and invitations."""
    found = cli.client.get(f"/organizations/{segment(name)}/members", limit=1000)["items"]
    cli.out.table(found, {"user": "USER", "state": "STATE", "since": "SINCE"}, empty="No members.")


@command(app, "add-member", example=("intaglio org add-member demo bob", "intaglio org add-member demo bob --invite"))
def add_member(
    cli: Cli,
    name: Name,
    user: User,
    invite: Annotated[bool, typer.Option("--invite", help="Let him decide: he joins with `org join`.")] = False,
) -> None:
    """Make a user a member; this also approves his request to join."""
    body = {"state": "invited" if invite else "member"}
    found = cli.client.put(f"/organizations/{segment(name)}/members/{segment(user)}", body)
    cli.out.result(found, f"{user}: {found['state']} of {name}.")


@command(app, "remove-member", example="intaglio org remove-member demo bob --yes")
def remove_member(cli: Cli, name: Name, user: User, yes: Yes = False) -> None:
    """Take a member out, turn down his request, or withdraw his invitation."""
    cli.confirm(f"Remove {user} from {name}?", yes=yes)
    cli.client.delete(f"/organizations/{segment(name)}/members/{segment(user)}")
    cli.out.result({"removed": user}, f"Removed {user} from {name}.")


@command(app, "join", example="intaglio org join demo --server https://pki.example:8443")
def join(cli: Cli, name: Name) -> None:
    """Join an organization, ask to join, or accept an invitation, as its policy says."""
    found = cli.client.post(f"/organizations/{segment(name)}/join")
    text = f"Joined {name}." if found["state"] == "member" else f"Asked to join {name}; a member must approve."
    cli.out.result(found, text)


@command(app, "leave", example="intaglio org leave demo --yes")
def leave(cli: Cli, name: Name, yes: Yes = False) -> None:
    """Leave an organization, or take back the request to join."""
    cli.confirm(f"Leave {name}?", yes=yes)
    cli.client.post(f"/organizations/{segment(name)}/leave")
    cli.out.result({"left": name}, f"Left {name}.")
