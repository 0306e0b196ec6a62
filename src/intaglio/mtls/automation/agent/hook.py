"""Telling a program that its certificate changed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Sequence

from intaglio.core.errors import Unavailable
from intaglio.mtls.automation.agent.store import Store, Version

_TOLD = 2000  # octets of what a failing command says
_GRACE = 5.0


class ReloadFailed(Unavailable):
    """The command could not be run, failed, or took too long. The certificate is in place all the same."""

    default_code = "reload-failed"
    default_remedy = ""


def reload(command: Sequence[str], timeout: float, store: Store, version: Version) -> None:
    """Run the command, without a shell, and wait for its end. Raises ReloadFailed."""
    environment = {
        **os.environ,
        "INTAGLIO_DIRECTORY": str(store.current),
        "INTAGLIO_CERTIFICATE": str(store.current / version.certificate.name),
        "INTAGLIO_KEY": str(store.current / version.key.name),
        "INTAGLIO_TRUST": str(store.current / version.trust.name),
        "INTAGLIO_SERIAL": version.serial,
    }
    environment.pop("NOTIFY_SOCKET", None)  # what the service manager is told is ours to say
    try:
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        raise ReloadFailed(f"{command[0]} cannot be run: {error.strerror}.", remedy="Correct --reload.") from None
    try:
        said, _ = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        _end(process)
        raise ReloadFailed(f"{command[0]} took longer than {timeout:.0f} seconds and was ended.") from None
    if process.returncode != 0:
        text = said[-_TOLD:].decode(errors="replace").strip()
        raise ReloadFailed(f"{command[0]} ended with status {process.returncode}: {text or 'it said nothing'}.")


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a command and all that it started."""
    for number, patience in ((signal.SIGTERM, _GRACE), (signal.SIGKILL, None)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=patience)
            return
