"""The command `intaglio`: one module per noun. It talks to the management API over the unix socket or to a server."""

from __future__ import annotations


def main() -> None:
    """Entry point of the command; exits with 0 (done), 1 (refused or failed) or 2 (wrong usage)."""
    from intaglio.cli.app import run

    run()
