"""The product as its users run it: ``intaglio init``, ``intaglio serve``, the command line, the listeners.

``product`` is one running server per test process. What tests create in it carries names of their own, and no test
changes what another one relies on. ``new_product`` makes one for a test that does, or that stops it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.commands import SCRIPT, intaglio
from tests.support.folders import fast_folder
from tests.support.programs import Outcome

from intaglio.core.errors import Unavailable
from intaglio.server.runtime import Runtime, read_runtime

#: Seconds after which something that should happen counts as not happening.
PATIENCE = 60.0
NewProduct = Callable[..., "Product"]


class Product:
    """A data folder and the server that runs on it. ``work`` is an empty folder to run commands in."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder = folder
        self.work = folder / "work"
        self.data = folder / "data"
        self.log = folder / "server.log"
        self.work.mkdir()
        self.settings = {
            "HOSTNAME": "localhost",
            "WORKERS": "1",
            "LOG_LEVEL": "INFO",
            **{f"{name}__PORT": "0" for name in ("PUBLIC", "CONSOLE", "ENROLL", "GATEWAY", "ACCESS", "HEALTH")},
            **settings,
        }
        #: What ``intaglio serve`` is started by, such as a program that confines it.
        self.launcher: list[str] = []
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """Environment of every command on this folder."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("INTAGLIO_")}
        own = {f"INTAGLIO_{name}": value for name, value in self.settings.items()}
        search = os.pathsep.join([str(SCRIPT.parent), inherited.get("PATH", os.defpath)])
        return {**inherited, **own, "PATH": search, "INTAGLIO_DATA_DIR": str(self.data), "NO_COLOR": "1"}

    def attempt(self, *arguments: str | Path, stdin: str = "", cwd: Path | None = None) -> Outcome:
        """Run ``intaglio`` to its end, whatever that is."""
        return intaglio(
            *arguments, stdin=stdin.encode(), cwd=cwd or self.work, environment=self.environment, patience=PATIENCE
        )

    def run(self, *arguments: str | Path, stdin: str = "", cwd: Path | None = None) -> str:
        """What ``intaglio`` says when it succeeds."""
        outcome = self.attempt(*arguments, stdin=stdin, cwd=cwd)
        assert outcome.status == 0, f"intaglio {' '.join(map(str, arguments))}:\n{outcome.output}"
        return outcome.output

    def json(self, *arguments: str | Path, cwd: Path | None = None) -> Any:
        """The JSON value that ``intaglio --json`` prints."""
        outcome = self.attempt("--json", *arguments, cwd=cwd)
        assert outcome.status == 0, f"intaglio {' '.join(map(str, arguments))}:\n{outcome.output}"
        return json.loads(outcome.stdout)

    def start(self) -> Product:
        """Serve until :meth:`stop`; returns when the server is ready."""
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [*self.launcher, SCRIPT, "serve"], env=self.environment, cwd=self.work, stdout=log, stderr=log
            )
        eventually(self._ready_or_dead, what=lambda: f"the server gets ready: {self.log.read_text()[-3000:]}")
        assert self.process.poll() is None, self.log.read_text()[-3000:]
        return self

    def stop(self) -> int | None:
        """End the server in order; its exit status, None when it was not running. Started again, it keeps its ports."""
        if self.process is None:
            return None
        if self.process.poll() is None:
            for name in self.runtime.listeners:
                self.settings[f"{name.upper()}__PORT"] = str(self.runtime.port(name))
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise

    @property
    def runtime(self) -> Runtime:
        return read_runtime(self.data)

    def url(self, listener: str, path: str = "") -> str:
        """Where a listener is reached."""
        runtime = self.runtime
        return f"{runtime.listeners[listener].scheme}://localhost:{runtime.port(listener)}{path}"

    def _ready_or_dead(self) -> bool:
        assert self.process is not None
        try:
            return self.process.poll() is not None or self.runtime.ready
        except Unavailable:
            return False


@pytest.fixture(scope="session")
def product() -> Iterator[Product]:
    """A running server with an embedded database, shared by the tests of this process."""
    with tempfile.TemporaryDirectory(prefix="intaglio-product-", dir=fast_folder(), ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o711)  # as root the embedded PostgreSQL runs as an account that must pass through
        started = Product(folder)
        started.run("init")
        try:
            yield started.start()
        finally:
            started.stop()


@pytest.fixture
def new_product() -> Iterator[NewProduct]:
    """A function that makes a data folder of its own; what was started on it is ended after the test, however it is."""
    made: list[Product] = []
    with tempfile.TemporaryDirectory(prefix="intaglio-own-", dir=fast_folder(), ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o711)  # as root the embedded PostgreSQL runs as an account that must pass through

        def make(**settings: str) -> Product:
            own = folder / str(len(made))
            own.mkdir(mode=0o711)
            made.append(Product(own, **settings))
            return made[-1]

        yield make
        for product in made:
            product.stop()


def eventually(condition: Any, *, what: Any) -> None:
    """Wait until ``condition()`` holds; fail, saying ``what`` did not happen, when it does not for a long time."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"did not happen: {what() if callable(what) else what}"
        time.sleep(0.02)

