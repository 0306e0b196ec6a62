"""`intaglio token`: API tokens."""

from __future__ import annotations

from typing import Annotated

import typer

from intaglio.cli.client import segment
from intaglio.cli.commands import Cli, command, noun
from intaglio.cli.files import require_absent, write_private
from intaglio.cli.listing import All, Filter, Limit, Sort, listed

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
    made = cli.client.post("/tokens", body)
    if out is not None:
        write_private(out, made.pop("secret") + "\n", force=force)
        cli.out.result({**made, "file": out}, f"Wrote {out}; good until {made['token']['expires_at']}.")
        return
    cli.out.result(made, f"Token, shown only now, good until {made['token']['expires_at']}:\n{made['secret']}")


@command(app, "revoke", example="intaglio token revoke 0199d2a4-...")
def revoke(cli: Cli, token: Annotated[str, typer.Argument(help="Id of the token.")]) -> None:
    """Revoke a token at once."""
    found = cli.client.delete(f"/tokens/{segment(token)}")
    cli.out.result(found, f"Revoked token {found['name']}.")
