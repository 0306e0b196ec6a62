"""One server per data folder."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from intaglio.core.clock import monotonic
from intaglio.core.errors import StateConflict, Unavailable

_PATIENCE = 10.0  # seconds the processes of a killed supervisor have to finish before we give up


@contextlib.contextmanager
def only_supervisor(data_dir: Path) -> Iterator[None]:
    """Hold the lock of the data folder.

    The lock is inherited by the processes of the server, so it is free only when all of them have ended. Raises
    StateConflict when another server runs on the folder.
    """
    path = data_dir / "serve.lock"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Unavailable(
            f"The data folder {data_dir} cannot be used: {error.strerror}.",
            code="data-folder-unusable",
            remedy="Run `intaglio init`, or set INTAGLIO_DATA_DIR.",
        ) from error
    try:
        _lock(descriptor, data_dir)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, data_dir: Path) -> None:
    deadline = monotonic() + _PATIENCE
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
            if not _gone(holder) or monotonic() > deadline:
                raise StateConflict(
                    f"Intaglio already runs on {data_dir} (process {holder or 'unknown'}).",
                    code="already-running",
                    remedy="Use that server, stop it, or choose another INTAGLIO_DATA_DIR.",
                ) from None
            time.sleep(0.05)  # its supervisor was killed; the processes it left are finishing


def _gone(holder: str) -> bool:
    return holder.isdigit() and not Path(f"/proc/{holder}").exists()
