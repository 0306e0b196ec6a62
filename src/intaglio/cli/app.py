"""The root of the command: a table of nouns and verbs whose modules are imported only when they are used."""

from __future__ import annotations

import importlib
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from intaglio import __version__
from intaglio.cli.connection import Connection

#: Command -> where it is (module, or module:name; a Typer `app` by default) and what it is for, in order of the help.
COMMANDS: dict[str, tuple[str, str]] = {
    "init": ("init", "Prepare the data folder: master key, database, first administrator."),
    "serve": ("serve", "Run everything: listeners, workers, jobs and the embedded database."),
    "status": ("status", "Say how the server is doing."),
    "login": ("session:login", "Log in to a server; sets the password after a one-time secret."),
    "logout": ("session:logout", "End the login."),
    "whoami": ("session:whoami", "Say who is asking and what he may do."),
    "org": ("org", "Organizations and their members."),
    "ca": ("ca", "Certificate authorities."),
    "cert": ("cert", "Certificates: issue, look up, revoke, renew."),
    "subject": ("subject", "All certificates of one subject."),
    "credential": ("credential", "Client certificates of the CA gateway."),
    "crl": ("crl", "Certificate revocation lists."),
    "profile": ("profile", "Certificate profiles."),
    "user": ("user", "Users."),
    "role": ("role", "Roles and permissions."),
    "token": ("token", "API tokens."),
    "audit": ("audit", "The audit trail and its proof."),
    "settings": ("settings", "Live settings."),
    "tls": ("tls", "Server certificates of the listeners."),
    "key": ("key", "Private keys and the master key."),
    "db": ("db", "The database: check, migrate, address."),
    "apply": ("declare:apply", "Make the installation what a YAML file declares."),
    "export": ("declare:export", "Write the installation as a YAML file for apply."),
    "completion": ("completion", "Print the completion script of a shell."),
    "dev": ("dev", "Chores for developers."),
}


class _Root(TyperGroup):
    """Lists commands from the table; imports the module of a command only when that command is used."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        return TyperCommand(cmd_name, help=COMMANDS[cmd_name][1])

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, found, rest = super().resolve_command(ctx, args)
        return name, load(name) if name else found, rest


def load(name: str) -> Any:
    """The real command behind a name of the table."""
    place, text = COMMANDS[name]
    module, _, attribute = place.partition(":")
    command = typer.main.get_command(getattr(importlib.import_module(f"intaglio.cli.{module}"), attribute or "app"))
    command.name = name
    command.help = command.help or text
    return command


app = typer.Typer(
    cls=_Root,
    name="intaglio",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Intaglio, an open PKI platform. Talks to the server on this host over its unix socket; with --server to "
    "another one. Start with: intaglio init, intaglio serve.",
)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"intaglio {__version__}")
        raise typer.Exit


@app.callback()
def root(
    ctx: typer.Context,
    server: Annotated[str | None, typer.Option(help="URL of a server, such as https://pki.example:8443.")] = None,
    token_file: Annotated[str | None, typer.Option(help="File with an API token (or INTAGLIO_TOKEN).")] = None,
    ca_file: Annotated[str | None, typer.Option(help="CA certificate (PEM) that the server must chain to.")] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    data_dir: Annotated[str | None, typer.Option(help="Data folder of the server on this host.")] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    ctx.obj = Connection(server=server, token_file=token_file, ca_file=ca_file, json=json_output, data_dir=data_dir)


def run() -> None:
    """Run the command line of this process."""
    app()
