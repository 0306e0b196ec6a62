"""The demo, run as a newcomer runs it: the script, a shell, a terminal."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

_DEMO = Path(__file__).resolve().parents[2] / "scripts" / "demo"
_PATIENCE = 240.0  # seconds


@pytest.fixture
def shell() -> dict[str, str]:
    """The environment of a shell that knows nothing of Intaglio."""
    return {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}


def test_every_step_of_the_demo_holds(shell: dict[str, str]) -> None:
    done = subprocess.run(
        [_DEMO], env={**shell, "ONCE": "1"}, capture_output=True, text=True, timeout=_PATIENCE, check=False
    )
    last = done.stdout.splitlines()[-1]
    assert re.fullmatch(r"demo: [1-9][0-9]* steps passed, 0 failed", last), done.stdout + done.stderr
    assert done.returncode == 0
    assert "\033" not in done.stdout, "no colours where no terminal is"
    assert not _folder(done.stdout).exists()


@pytest.fixture
def demo(shell: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen([_DEMO], env=shell, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        process.communicate(timeout=_PATIENCE)


def test_the_demo_stays_up_for_other_terminals_until_it_is_interrupted(
    demo: subprocess.Popen[str], shell: dict[str, str]
) -> None:
    shown = _read_until(demo, "Guides:")
    folder = _folder(shown)
    assert "✗" not in shown, shown
    commands = _invited_commands(shown)
    assert len(commands) >= 6
    in_other_terminal = "set -eo pipefail\n" + "\n".join(commands)
    done = subprocess.run(
        ["bash", "-c", in_other_terminal], env=shell, capture_output=True, text=True, timeout=_PATIENCE, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "demo~issuing" in done.stdout
    assert (folder / "www.pem").exists()
    demo.send_signal(signal.SIGINT)
    assert demo.wait(_PATIENCE) == 0
    assert not folder.exists()
    assert not _processes_of(folder)


def test_an_interrupted_demo_leaves_nothing_behind(demo: subprocess.Popen[str]) -> None:
    shown = _read_until(demo, "✓ The server is ready")
    demo.send_signal(signal.SIGINT)
    assert demo.wait(_PATIENCE) == 130
    assert not _folder(shown).exists()
    assert not _processes_of(_folder(shown))


def _read_until(process: subprocess.Popen[str], text: str) -> str:
    assert process.stdout is not None
    shown, deadline = "", time.monotonic() + _PATIENCE
    for line in process.stdout:
        shown += line
        if text in line:
            return shown
        assert time.monotonic() < deadline, shown
    raise AssertionError(f"the demo ended early:\n{shown}")


def _invited_commands(shown: str) -> list[str]:
    """The commands that the demo says one may type in another terminal, as one would copy them."""
    block = shown.split("In another terminal:", 1)[1]
    lines = [line[3:] for line in block.splitlines() if line.startswith("   ") and not line.startswith("   http")]
    return "\n".join(lines).replace("\\\n", "").splitlines()


def _folder(shown: str) -> Path:
    found = re.search(r"infrastructure in (.+), with", shown)
    assert found is not None, shown
    return Path(found[1])


def _processes_of(folder: Path) -> list[str]:
    """Command lines of processes that work in the folder or were started for it."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                environment = (entry / "environ").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if str(folder) in command or str(folder) in environment:
                found.append(command)
    return found
