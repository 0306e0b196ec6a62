"""A server for one command: made in a temporary folder, on ports of the system's choice, and removed afterwards."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from intaglio.core.clock import monotonic
from intaglio.core.errors import Unavailable

if TYPE_CHECKING:
    from intaglio.cli.client import Client

_PATIENCE = 60.0
_LISTENERS = ("PUBLIC", "CONSOLE", "ENROLL", "GATEWAY", "ACCESS", "HEALTH")


@contextlib.contextmanager
def temporary_server() -> Iterator[Client]:
    """A running server, spoken to as the operator of this host. Raises Unavailable when it does not start."""
    from intaglio.cli.client import connect
    from intaglio.cli.connection import Connection

    with tempfile.TemporaryDirectory(prefix="intaglio-standalone-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o711)  # as root, the embedded PostgreSQL runs as an account that must pass through
        environment = _environment(folder / "data")
        log = folder / "log"
        with open(log, "wb") as file:
            _run("init", environment, file)
            process = subprocess.Popen([*_COMMAND, "serve"], env=environment, stdout=file, stderr=file)
        try:
            _until_ready(process, folder / "data", log)
            yield connect(Connection(), lambda: folder / "data" / "admin.sock")
        finally:
            process.terminate()
            try:
                process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()


_COMMAND = (sys.executable, "-m", "intaglio.cli")


def _environment(folder: Path) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("INTAGLIO_")}
    own = {"DATA_DIR": str(folder), "HOSTNAME": "localhost", "WORKERS": "1"}
    own |= {f"{name}__PORT": "0" for name in _LISTENERS}
    return {**inherited, **{f"INTAGLIO_{name}": value for name, value in own.items()}}


def _run(verb: str, environment: dict[str, str], log: object) -> None:
    done = subprocess.run([*_COMMAND, verb], env=environment, stdout=log, stderr=log, check=False)  # type: ignore[call-overload]
    if done.returncode:
        raise Unavailable(f"`intaglio {verb}` failed for the temporary server.", code="standalone-failed", remedy="")


def _until_ready(process: subprocess.Popen[bytes], data: Path, log: Path) -> None:
    from intaglio.server.runtime import read_runtime

    deadline = monotonic() + _PATIENCE
    while monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(Unavailable):
            if read_runtime(data).ready:
                return
        time.sleep(0.05)
    last = log.read_text("utf-8", "replace").strip().splitlines()[-3:]
    raise Unavailable(f"The temporary server does not start: {' '.join(last)}", code="standalone-failed", remedy="")
