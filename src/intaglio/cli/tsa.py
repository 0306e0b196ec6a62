"""`intaglio tsa`: timestamps, those who give them, and the clock behind them."""

from __future__ import annotations

import typer

from intaglio.cli import lazy

COMMANDS: lazy.Table = {
    "issuer": ("tsa_issuer", "Timestamp issuers: endpoints with their policy and certificate."),
    "check": ("tsa_check", "Check the clock and the keys."),
    "url": ("tsa_client:url", "Say where timestamps of an issuer are asked for."),
    "stamp": ("tsa_client:stamp", "Have a file timestamped."),
    "verify": ("tsa_client:verify", "Verify the timestamp of a file."),
}

app = typer.Typer(
    cls=lazy.of(COMMANDS),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Timestamps (RFC 3161): issuers and their certificates, the clock, stamping and verifying files.",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def root() -> None:
    pass
