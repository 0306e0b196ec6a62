"""`intaglio mtls`: mutual TLS identity, one module per noun."""

from __future__ import annotations

import typer

from intaglio.cli import lazy

COMMANDS: lazy.Table = {}

app = typer.Typer(
    cls=lazy.of(COMMANDS),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Mutual TLS identity: identities and their certificates, enrolment, access decisions, posture.",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def root() -> None:
    pass
