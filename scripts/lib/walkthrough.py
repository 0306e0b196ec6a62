"""Walking through commands: show each, run it, hold what it did against what it should have done, take its time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

_WIDTH = 100
_PATIENCE = 60.0  # seconds after which something that should happen counts as not happening
_MOST_SHOWN = 2000  # characters of an unexpected output


class Unexpected(Exception):
    """A command did something else than it should have."""

    def __init__(self, expected: str, seen: str) -> None:
        super().__init__(expected)
        self.expected = expected
        self.seen = seen.strip()[-_MOST_SHOWN:] or "(nothing)"


@dataclass(frozen=True)
class Step:
    """What ``act`` shows, in one sentence. It returns a remark about what came out, or nothing, and raises Unexpected.

    Without an ``essential`` step there is no point in those that follow.
    """

    title: str
    act: Callable[[], str | None]
    essential: bool = False


class Walkthrough:
    """Runs commands in one folder and environment, prints them, and counts the steps that held."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.folder = folder
        self.environment = dict(environment)
        self._background: list[subprocess.Popen[bytes]] = []
        self._terminal = sys.stdout.isatty() and os.environ.get("TERM") != "dumb" and not os.environ.get("NO_COLOR")
        self.passed = 0
        self.failed = 0

    # -- steps -------------------------------------------------------------------------------------------------------

    def walk(self, chapters: Mapping[str, list[Step]]) -> None:
        """Take the steps in order; those that cannot be reached any more count as failed."""
        for number, (heading, steps) in enumerate(chapters.items(), 1):
            self.say(f"\n{self._bold(f'{number}. {heading}')}")
            for step in steps:
                if not self._take(step) and step.essential:
                    total = sum(map(len, chapters.values()))
                    unreached = total - self.passed - self.failed
                    self.failed += unreached
                    self.say(f"\nThe rest is not possible without this ({unreached} steps not reached).")
                    return

    def _take(self, step: Step) -> bool:
        begin = time.monotonic()
        try:
            remark = step.act()
        except Unexpected as failure:
            self.failed += 1
            self._result("✗", step.title, begin)
            self._indented(f"expected: {failure.expected}")
            self._indented("seen:     " + failure.seen.replace("\n", "\n          "))
            return False
        self.passed += 1
        self._result("✓", f"{step.title}{f': {remark}' if remark else ''}", begin)
        return True

    def _result(self, mark: str, text: str, begin: float) -> None:
        colour = 32 if mark == "✓" else 31
        room = _WIDTH - len("   ✓ ") - len("  99.9 s")
        first, *rest = textwrap.wrap(text, room, break_on_hyphens=False) or [""]
        self.say(f"   {self._styled(mark, colour)} {first:<{room}} {time.monotonic() - begin:5.1f} s")
        for line in rest:
            self.say(f"     {line}")

    def _indented(self, text: str) -> None:
        self.say(textwrap.indent(text, " " * 5))

    # -- commands ----------------------------------------------------------------------------------------------------

    def run(
        self, command: str, *, expect: str | None = None, status: int | None = 0, output_shown: bool = False
    ) -> str:
        """Show and run a shell command; returns its output, standard error included.

        Raises Unexpected unless it ends with ``status`` (None: anything but 0) and ``expect`` occurs in the output.
        """
        self.show(command)
        output, actual = self._finished(command)
        if output_shown:
            self._indented(output.strip())
        if actual != status if status is not None else actual == 0:
            wanted = "an exit status other than 0" if status is None else f"exit status {status}"
            raise Unexpected(wanted, f"exit status {actual}\n{output}")
        if expect is not None and expect not in output:
            raise Unexpected(f'"{expect}" in the output', output)
        return output

    def ask(self, command: str) -> str:
        """Run a command without showing it; its standard output. Raises Unexpected when it fails."""
        output, status = self._finished(command)
        if status != 0:
            raise Unexpected(f"{command}: exit status 0", f"exit status {status}\n{output}")
        return output.strip()

    def start(self, command: str, log: str) -> subprocess.Popen[bytes]:
        """Start a program that keeps running, its output in the file ``log``; it ends with the walk at the latest."""
        self.show(f"{command} > {log} 2>&1 &")
        with open(self.folder / log, "wb") as output:
            process = subprocess.Popen(
                ["bash", "-c", f"exec {command}"],
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C reaches us first, so that we stop it in order
            )
        self._background.append(process)
        return process

    def stop(self, process: subprocess.Popen[bytes]) -> None:
        """End a program in order, and by force when it takes too long."""
        if process in self._background:
            self._background.remove(process)
        process.terminate()
        try:
            process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def stop_all(self) -> None:
        """End every program that still runs, the newest first."""
        for process in reversed(list(self._background)):
            self.stop(process)

    def wait_until(self, what: str, condition: Callable[[], bool], process: subprocess.Popen[bytes], log: str) -> None:
        """Wait for a program started before. Raises Unexpected when it ends or takes a minute."""
        deadline = time.monotonic() + _PATIENCE
        while not condition():
            if process.poll() is not None or time.monotonic() > deadline:
                raise Unexpected(what, self.last_lines(log))
            time.sleep(0.05)

    def last_lines(self, log: str, count: int = 5) -> str:
        """The end of a log."""
        return "\n".join((self.folder / log).read_text(errors="replace").splitlines()[-count:])

    def _finished(self, command: str) -> tuple[str, int]:
        try:
            done = subprocess.run(
                ["bash", "-o", "pipefail", "-c", command],
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                check=False,
                timeout=_PATIENCE,
            )
        except subprocess.TimeoutExpired as late:
            output = (late.stdout or b"").decode(errors="replace")
            raise Unexpected(f"an end within {_PATIENCE:g} seconds", output) from None
        return done.stdout.decode(errors="replace"), done.returncode

    # -- printing ----------------------------------------------------------------------------------------------------

    def show(self, command: str) -> None:
        """Print a command as somebody would type it."""
        for number, line in enumerate(command.splitlines()):
            self.say(self._styled(f"   {'$' if number == 0 else ' '} {line}", 2))

    def say(self, text: str) -> None:
        print(text, flush=True)

    def _bold(self, text: str) -> str:
        return self._styled(text, 1)

    def _styled(self, text: str, code: int) -> str:
        return f"\033[{code}m{text}\033[0m" if self._terminal else text
