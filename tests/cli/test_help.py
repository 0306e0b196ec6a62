"""The command line explains itself, starts fast, and its reference is up to date."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from intaglio.cli import lazy
from intaglio.cli.app import COMMANDS
from intaglio.cli.reference_errors import entries


def commands() -> Iterator[tuple[str, Any]]:
    """Every command by its full name."""

    def below(path: str, command: Any) -> Iterator[tuple[str, Any]]:
        found = lazy.children(command)
        for name, each in found.items():
            yield from below(f"{path} {name}", each)
        if not found and not isinstance(command, lazy.LazyGroup):
            yield path, command

    for name in COMMANDS:
        yield from below(name, lazy.of(COMMANDS).load(name))


@pytest.mark.parametrize(("name", "command"), [pytest.param(n, c, id=n) for n, c in commands()])
def test_every_command_has_help_and_an_example(name: str, command: Any) -> None:
    assert command.help
    assert f"intaglio {name}" in command.epilog or "$(intaglio" in command.epilog
    for parameter in command.params:
        assert parameter.name == "help" or parameter.help is not None, parameter.name


@pytest.mark.parametrize(("name", "command"), [pytest.param(n, c, id=n) for n, c in commands()])
def test_no_command_takes_a_secret_as_an_argument(name: str, command: Any) -> None:
    options = {option for parameter in command.params for option in parameter.opts}
    assert not options & {"--password", "--token", "--secret", "--pin", "--passphrase"}


def test_help_and_version_load_nothing_heavy() -> None:
    heavy = ("fastapi", "sqlalchemy", "httpx", "cryptography", "intaglio.server", "psycopg", "yaml")
    code = (
        "import sys\n"
        "sys.argv = ['intaglio', '--help']\n"
        "from intaglio.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        f"print([name for name in {heavy!r} if name in sys.modules], file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize(
    ("arguments", "status"), [(["nonsense"], 2), (["ca", "show"], 2), (["cert", "issue", "--what"], 2)]
)
def test_wrong_usage_ends_with_two(arguments: list[str], status: int) -> None:
    done = subprocess.run([sys.executable, "-m", "intaglio.cli", *arguments], capture_output=True, check=False)
    assert done.returncode == status


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_gets_its_completion(shell: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "intaglio.cli", "completion", shell], capture_output=True, check=True, text=True
    )
    assert "_INTAGLIO_COMPLETE" in done.stdout


def test_the_list_of_errors_knows_every_kind() -> None:
    found = entries()
    assert found["token-missing"].statuses == {401}
    assert found["ca-certificate-wrong-key"].statuses == {422}
    assert "..." in found["ca-unknown"].example
    assert len(found) > 150
