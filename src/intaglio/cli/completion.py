"""`intaglio completion`: completion scripts."""

from __future__ import annotations

from typing import Annotated

import typer

from intaglio.cli.commands import Cli, command, noun
from intaglio.core.errors import InvalidInput

app = noun("Print the completion script of a shell.")

SHELLS = ("bash", "zsh", "fish")


@command(app, "completion", example="intaglio completion bash > /etc/bash_completion.d/intaglio", local=True)
def completion(cli: Cli, shell: Annotated[str, typer.Argument(help="bash, zsh or fish.")]) -> None:
    """Print the completion script of a shell."""
    from typer._completion_shared import get_completion_script

    if shell not in SHELLS:
        raise InvalidInput(f'There is no completion for "{shell}".', remedy=f"Use one of: {', '.join(SHELLS)}.")
    script = get_completion_script(prog_name="intaglio", complete_var="_INTAGLIO_COMPLETE", shell=shell)
    cli.out.result({"script": script}, script)
