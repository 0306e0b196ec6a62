"""Tests run commands in forks of a process that has their imports; what they see is what the installed script does."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path

import pytest
from tests.support.commands import SCRIPT, intaglio, put_on_path
from tests.support.product import eventually
from tests.support.programs import attempt

_PASSWORD = b"mauve-Anchor-71-tundra\n"
_GENERATE = ("keytool", "key", "generate", "--password-file", "/dev/stdin", "--out", "new.key")


@pytest.mark.parametrize(
    ("arguments", "status"),
    [(("--version",), 0), (("keytool", "--help"), 0), (("keytool", "inspect", "nothing.pem"), 1), (("nonsense",), 2)],
)
def test_a_forked_command_says_and_ends_like_the_script(
    tmp_path: Path, arguments: tuple[str, ...], status: int
) -> None:
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "TZ": "UTC", "NO_COLOR": "1"}
    script = attempt(str(SCRIPT), *arguments, cwd=tmp_path, environment=environment)
    assert intaglio(*arguments, environment=environment, cwd=tmp_path) == script
    assert script.status == status


def test_it_has_the_input_the_folder_and_the_environment_that_it_is_given(tmp_path: Path) -> None:
    said = intaglio(*_GENERATE, environment={**os.environ, "COLUMNS": "40"}, cwd=tmp_path, stdin=_PASSWORD)
    assert said.status == 0, said.output
    shown = attempt("openssl", "pkey", "-in", tmp_path / "new.key", "-passin", "stdin", "-noout", stdin=_PASSWORD)
    assert shown.status == 0, shown.output
    narrow = intaglio("--help", environment={**os.environ, "COLUMNS": "40"}, cwd=tmp_path)
    assert max(map(len, narrow.stdout.decode().splitlines())) <= 40


def test_a_shell_finds_it_with_its_streams_and_statuses(tmp_path: Path) -> None:
    put_on_path(tmp_path)
    environment = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    script = f"cat password | intaglio {' '.join(_GENERATE)} >said; intaglio nonsense 2>/dev/null || echo status $?"
    (tmp_path / "password").write_bytes(_PASSWORD)
    done = attempt("bash", "-euo", "pipefail", "-c", script, cwd=tmp_path, environment=environment)
    assert done.output == "status 2\n"
    assert (tmp_path / "said").read_text().startswith("Wrote new.key")


def test_one_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "never")
    waiting = ("keytool", "key", "generate", "--password-file", "never", "--out", "new.key")
    with pytest.raises(subprocess.TimeoutExpired):
        intaglio(*waiting, environment=os.environ, cwd=tmp_path, patience=1.0)
    eventually(lambda: not _is_read(tmp_path / "never"), what="the command that waited is gone")


def _is_read(fifo: Path) -> bool:
    try:
        os.close(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))
    except OSError as error:
        if error.errno == errno.ENXIO:  # nobody reads it, see fifo(7)
            return False
        raise
    return True
