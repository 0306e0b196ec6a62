"""What every command shares: where the server is, how to print, and how errors become exit codes."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import os
import sys
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_type_hints

import typer

from intaglio.cli.connection import Connection
from intaglio.cli.output import Output

if TYPE_CHECKING:
    from intaglio.cli.client import Client
    from intaglio.core.settings import Settings

F = TypeVar("F", bound=Callable[..., None])


class Cli:
    """What a command works with: settings of this host, the management API, and the output."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.out = Output(connection.json)
        if connection.data_dir:
            # The settings file lies in the data folder, and child processes must find it too.
            os.environ["INTAGLIO_DATA_DIR"] = str(Path(connection.data_dir).absolute())

    @cached_property
    def settings(self) -> Settings:
        """Boot settings of this host. Raises InvalidInput naming the setting that is wrong."""
        return self.settings_with()

    def settings_with(self, **overrides: Any) -> Settings:
        """Boot settings with some values given on the command line."""
        from pydantic import ValidationError
        from pydantic_settings import SettingsError

        from intaglio.core.errors import InvalidInput
        from intaglio.core.settings import Settings

        try:
            return Settings(**{name: value for name, value in overrides.items() if value is not None})
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            name = ".".join(str(part) for part in first["loc"])
            raise InvalidInput(f"The setting {name} is wrong: {first['msg']}.", code="setting-invalid") from None
        except SettingsError as error:  # a group of settings that is not JSON; its value may be a secret
            name = str(error).partition('"')[2].partition('"')[0]
            raise InvalidInput(
                f"The setting {name or 'of the environment'} is wrong: it is a group of settings.",
                code="setting-invalid",
                remedy=f"Set its parts, such as INTAGLIO_{name.upper()}__PORT, or give all of it as JSON.",
            ) from None

    @cached_property
    def client(self) -> Client:
        """The management API of the chosen server."""
        from intaglio.cli.client import connect

        return connect(self.connection, lambda: self.settings.admin_socket_path)

    def confirm(self, question: str, *, yes: bool) -> None:
        """Ask before something that cannot be undone; ``--yes`` answers. Ends the command unless the answer is yes."""
        if yes:
            return
        if not sys.stdin.isatty():
            self.out.error("This needs a confirmation.", "Repeat it with --yes.")
            raise typer.Exit(1)
        typer.confirm(question, abort=True, err=True)


class OptionSet:
    """Base of dataclasses whose members are options, each ``Annotated`` as a parameter of a command would be.

    A command with a parameter of such a type has all its options, and gets them as one value.
    """

    def given(self) -> dict[str, Any]:
        """The options that were named, by name."""
        members = dataclasses.fields(self)  # type: ignore[arg-type]  # every subclass is a dataclass
        found = {each.name: getattr(self, each.name) for each in members}
        return {name: value for name, value in found.items() if value is not None}


_PANEL = "Everywhere"
_COMMON = {
    "json_output": Annotated[bool, typer.Option("--json", help="Print JSON.", rich_help_panel=_PANEL)],
    "data_dir": Annotated[
        str | None, typer.Option("--data-dir", help="Data folder of this host.", rich_help_panel=_PANEL)
    ],
}
_REMOTE = {
    "server": Annotated[str | None, typer.Option("--server", help="URL of a server.", rich_help_panel=_PANEL)],
    "token_file": Annotated[
        str | None, typer.Option("--token-file", help="File with an API token.", rich_help_panel=_PANEL)
    ],
    "ca_file": Annotated[
        str | None, typer.Option("--ca-file", help="CA certificate of the server (PEM).", rich_help_panel=_PANEL)
    ],
}


def command(
    app: typer.Typer, name: str | None = None, *, example: str | tuple[str, ...], local: bool = False
) -> Callable[[F], F]:
    """Register a command of ``app``.

    The function takes a :class:`Cli` first; its other parameters are the command's, an :class:`OptionSet` stands for
    its members. The options that every command has are added; ``local`` leaves out those about reaching a server.
    ``example`` is shown in the help.
    """

    def register(function: F) -> F:
        own, gathered = _parameters(function)
        common = _COMMON if local else {**_COMMON, **_REMOTE}
        parameters = [
            inspect.Parameter("ctx", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context),
            *own,
            *(
                inspect.Parameter(
                    key,
                    inspect.Parameter.KEYWORD_ONLY,
                    annotation=hint,
                    default=False if key == "json_output" else None,
                )
                for key, hint in common.items()
            ),
        ]

        @functools.wraps(function)
        def run(*, ctx: typer.Context, **values: Any) -> None:
            given = {key: values.pop(key, None) for key in common}
            connection = (ctx.find_root().obj or Connection()).overridden(json=given.pop("json_output"), **given)
            sets = {
                name: kind(**{member: values.pop(member) for member in members})
                for name, (kind, members) in gathered.items()
            }
            with errors_reported(connection.json):
                function(Cli(connection), **sets, **values)

        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in parameters}
        lines = (example,) if isinstance(example, str) else example
        epilog = "[bold]Example:[/bold]\n\n" + "\n\n".join(
            f"[cyan]{line.replace('[', chr(92) + '[')}[/cyan]" for line in lines
        )
        app.command(name, epilog=epilog, no_args_is_help=_has_required(own))(run)
        return function

    return register


_Gathered = dict[str, tuple[type[OptionSet], tuple[str, ...]]]


def _parameters(function: Callable[..., None]) -> tuple[list[inspect.Parameter], _Gathered]:
    """The parameters of a command, and which of them are members of an option set: parameter -> (set, members)."""
    hints = get_type_hints(function, include_extras=True)
    own: list[inspect.Parameter] = []
    gathered: _Gathered = {}
    for parameter in list(inspect.signature(function).parameters.values())[1:]:
        kind = hints[parameter.name]
        if not (isinstance(kind, type) and issubclass(kind, OptionSet)):
            own.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=kind))
            continue
        members = get_type_hints(kind, include_extras=True)
        gathered[parameter.name] = (kind, tuple(members))
        for name, hint in members.items():
            own.append(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=hint, default=None))
    return own, gathered


def noun(text: str) -> typer.Typer:
    """The Typer application of a noun."""
    return typer.Typer(
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
        help=text,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


class errors_reported:
    """Turn a refusal inside the block into ``error: ...`` with its remedy, and exit code 1."""

    def __init__(self, as_json: bool) -> None:
        self._out = Output(as_json)

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        from intaglio.core.errors import IntaglioError

        if isinstance(error, IntaglioError):
            self._out.refusal(error)
            raise typer.Exit(1) from None
        if isinstance(error, BrokenPipeError):
            # The reader went away (`| head`); what is still buffered must not raise again at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(0) from None


def _has_required(parameters: list[inspect.Parameter]) -> bool:
    return any(p.default is inspect.Parameter.empty for p in parameters)
