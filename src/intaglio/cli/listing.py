"""Options of every command that lists."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from intaglio.cli.commands import Cli

Filter = Annotated[
    list[str] | None,
    typer.Option("--filter", "-f", help="Condition NAME=VALUE (also != >= <= > <, ~ contains); repeat for more."),
]
Sort = Annotated[str | None, typer.Option(help="Name to sort by; - in front for descending.")]
Limit = Annotated[int, typer.Option(min=1, help="Show at most so many.")]
All = Annotated[bool, typer.Option("--all", help="Show all.")]


def listed(
    cli: Cli, path: str, filter: list[str] | None, sort: str | None, limit: int, all_: bool, **query: Any
) -> list[dict[str, Any]]:
    """The items of a list; says on standard error when there are more."""
    most = None if all_ else limit + 1
    rows = list(cli.client.pages(path, most=most, filter=filter or [], sort=sort, **query))
    if not all_ and len(rows) > limit:
        rows = rows[:limit]
        cli.out.note(f"There are more; showing {limit}. Use --all or --limit.")
    return rows
