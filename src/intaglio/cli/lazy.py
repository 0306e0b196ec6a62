"""Groups of commands whose modules are imported only when they are used."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, ClassVar

import typer
from typer.core import TyperCommand, TyperGroup

#: Command -> where it is (module below `intaglio.cli`, or module:name; a Typer `app` by default) and what it is for.
Table = Mapping[str, tuple[str, str]]


class LazyGroup(TyperGroup):
    """Lists commands from a table, in its order; imports the module of a command only when that command is used."""

    table: ClassVar[Table]
    #: Further names of commands, which no help shows.
    aliases: ClassVar[Mapping[str, str]]

    def list_commands(self, ctx: Any) -> list[str]:
        return list(self.table)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        cmd_name = self.aliases.get(cmd_name, cmd_name)
        if cmd_name not in self.table:
            return None
        return TyperCommand(cmd_name, help=self.table[cmd_name][1])

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, found, rest = super().resolve_command(ctx, args)
        return name, self.load(name) if name else found, rest

    @classmethod
    def load(cls, name: str) -> Any:
        """The real command behind a name of the table, or an alias."""
        name = cls.aliases.get(name, name)
        place, text = cls.table[name]
        module, _, attribute = place.partition(":")
        command = typer.main.get_command(
            getattr(importlib.import_module(f"intaglio.cli.{module}"), attribute or "app")
        )
        command.name = name
        command.help = command.help or text
        return command


def of(table: Table, aliases: Mapping[str, str] | None = None) -> type[LazyGroup]:
    """The group class of a table."""
    return type("_Group", (LazyGroup,), {"table": table, "aliases": aliases or {}})


def noun(table: Table, text: str, aliases: Mapping[str, str] | None = None) -> typer.Typer:
    """The Typer application of a noun whose commands are in a table. ``text`` is its help."""
    app = typer.Typer(
        cls=of(table, aliases),
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
        help=text,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    # Without a callback, Typer takes an application for a single command.
    app.callback()(lambda: None)
    return app


def children(command: Any) -> dict[str, Any]:
    """The commands below a command by name, loaded; empty for one that does the work itself."""
    if isinstance(command, LazyGroup):
        return {name: command.load(name) for name in command.table}
    return dict(getattr(command, "commands", None) or {})
