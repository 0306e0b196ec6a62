"""Where tests put what is read and written much."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

_ROOM = 2 << 30  # octets


def fast_folder() -> Path:
    """A folder for the data of databases: memory when there is enough of it, else the usual place.

    Cloning a database there takes 6 ms instead of 120, and nobody waits for a disk to say that it has written.
    """
    memory = Path("/dev/shm")
    if not memory.is_dir() or not os.access(memory, os.W_OK) or os.statvfs(memory).f_flag & os.ST_NOEXEC:
        return Path(tempfile.gettempdir())
    return memory if shutil.disk_usage(memory).free > _ROOM else Path(tempfile.gettempdir())
