"""Other people's programs, run as their users run them. A missing program fails the test that wants it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

#: Seconds after which a program counts as hanging.
PATIENCE = 60

#: Servers live in the sbin folders, which an ordinary user's PATH leaves out.
SEARCH_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"])


@dataclass(frozen=True)
class Outcome:
    """How a program ended and what it said; ``output`` is standard output followed by standard error."""

    status: int
    stdout: bytes
    output: str


def program(name: str) -> str:
    """Where the program is."""
    found = shutil.which(name, path=SEARCH_PATH)
    assert found, f"{name} is not installed; scripts/install-system-packages test installs what the tests need"
    return found


def attempt(
    name: str,
    *arguments: str | Path,
    stdin: bytes = b"",
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Outcome:
    """Run a program to its end, whatever that is."""
    done = subprocess.run(
        [program(name), *map(str, arguments)],
        input=stdin,
        capture_output=True,
        check=False,
        timeout=PATIENCE,
        cwd=cwd,
        env={**os.environ, "LC_ALL": "C.UTF-8", "TZ": "UTC", **(environment or {})},
    )
    return Outcome(done.returncode, done.stdout, (done.stdout + done.stderr).decode("utf-8", "replace"))


def run(
    name: str,
    *arguments: str | Path,
    stdin: bytes = b"",
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> str:
    """Output of a program that succeeds."""
    outcome = attempt(name, *arguments, stdin=stdin, cwd=cwd, environment=environment)
    assert outcome.status == 0, f"{name} {' '.join(map(str, arguments))} ended with {outcome.status}:\n{outcome.output}"
    return outcome.output


def refused(name: str, *arguments: str | Path, stdin: bytes = b"", cwd: Path | None = None) -> str:
    """What a program says that is expected to fail."""
    outcome = attempt(name, *arguments, stdin=stdin, cwd=cwd)
    assert outcome.status != 0, f"{name} {' '.join(map(str, arguments))} was content:\n{outcome.output}"
    return outcome.output
