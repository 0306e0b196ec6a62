"""`intaglio token`: API tokens."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from intaglio.cli.client import segment
from intaglio.cli.commands import Cli, command, noun
from intaglio.cli.files import require_absent, write_private
from intaglio.cli.listing import All, Filter, Limit, Sort, listed
from intaglio.core.errors import InvalidInput

app = noun("API tokens: what programs log in with.")


@command(app, "list", example="intaglio token list")
def list_(
    cli: Cli,
    user: Annotated[str | None, typer.Option(help="Whose; * for everybody's.")] = None,
    sessions: Annotated[bool, typer.Option("--sessions", help="Also those of logins.")] = False,
    filter: Filter = None,
    sort: Sort = None,
    limit: Limit = 100,
    all: All = False,
) -> None:
    """List API tokens with their last use."""
    columns = {
        "id": "ID",
        "parent_id": "MADE WITH",
        "user": "USER",
        "name": "NAME",
        "kind": "KIND",
        "permissions": "PERMISSIONS",
        "expires_at": "EXPIRES",
        "last_used_at": "LAST USED",
        "revoked_at": "REVOKED",
    }
    rows = listed(cli, "/tokens", filter, sort, limit, all, user=user, sessions=sessions)
    cli.out.table(rows, columns, empty="No tokens.")


@command(app, "create", example="intaglio token create ci --days 30 --permission ca.view --out ci.token")
def create(
    cli: Cli,
    name: Annotated[str, typer.Argument(help="What the token is for.")],
    days: Annotated[float, typer.Option(help="Days until it ends, at most 365.")] = 90,
    permission: Annotated[
        list[str] | None, typer.Option("--permission", help="Narrow what it may do; repeat for more.")
    ] = None,
    user: Annotated[str | None, typer.Option(help="Whose; for the operator of the host only.")] = None,
    out: Annotated[
        str | None, typer.Option("--out", "-o", help="Write it here (mode 0600) instead of showing it.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
) -> None:
    """Make an API token; it is shown once."""
    require_absent(out, force=force)
    body = {"name": name, "lifetime_days": days, "permissions": permission, "user": user}
    _hand_over(cli, cli.client.post("/tokens", body), out, force=force)


@command(app, "rotate", example=("intaglio token rotate 0199d2a4-...", "intaglio token rotate --out ci.token --force"))
def rotate(
    cli: Cli,
    token: Annotated[str | None, typer.Argument(help="Id of the token; by default the one that is used.")] = None,
    overlap_hours: Annotated[float, typer.Option(help="Hours for which the old one is still good, at most 168.")] = 1,
    out: Annotated[
        str | None, typer.Option("--out", "-o", help="Write it here (mode 0600) instead of showing it.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
) -> None:
    """Replace an API token by a successor with the same name, permissions and length."""
    require_absent(out, force=force)
    chosen = token or cli.client.get("/me")["token_id"]
    if chosen is None:
        raise InvalidInput(
            "No API token is used here that could replace itself.",
            code="token-unnamed",
            remedy="Name the token: `intaglio token list` shows the ids.",
            target="token",
        )
    made = cli.client.post(f"/tokens/{segment(chosen)}/rotate", {"overlap_hours": overlap_hours})
    _hand_over(cli, made, out, force=force)


@command(app, "revoke", example="intaglio token revoke 0199d2a4-...")
def revoke(cli: Cli, token: Annotated[str, typer.Argument(help="Id of the token.")]) -> None:
    """Revoke a token at once, and all that were made with it."""
    found = cli.client.delete(f"/tokens/{segment(token)}")
    more = f", and {found['descendants']} made with it" if found["descendants"] else ""
    cli.out.result(found, f"Revoked token {found['name']}{more}.")


def _hand_over(cli: Cli, made: dict[str, Any], out: str | None, *, force: bool) -> None:
    """Show a token, or write it into a file."""
    until = made["token"]["expires_at"]
    if out is None:
        cli.out.result(made, f"Token, shown only now, good until {until}:\n{made['secret']}")
        return
    write_private(out, made.pop("secret") + "\n", force=force)
    cli.out.result({**made, "file": out}, f"Wrote {out}; good until {until}.")
