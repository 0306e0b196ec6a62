"""Files of keys: written whole or not at all, readable by their owner only, never over another file."""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
from pathlib import Path

from intaglio.cli.commands import Cli
from intaglio.cli.files import read_bytes
from intaglio.core.errors import InvalidInput, StateConflict

PRIVATE, PUBLIC = 0o600, 0o644


def write_new(path: str, data: bytes, *, mode: int, force: bool) -> None:
    """Write a file atomically with ``mode``; ``-`` is standard output.

    Raises StateConflict (``file-exists``) unless ``force``, InvalidInput (``file-unwritable``). A link in the place of
    the file is replaced, never followed.
    """
    if path == "-":
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(6)}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, PRIVATE)
        try:
            with os.fdopen(descriptor, "wb") as file:
                os.fchmod(descriptor, mode)
                file.write(data)
                file.flush()
                os.fsync(descriptor)
            if force:
                os.replace(temporary, target)
            else:
                os.link(temporary, target)  # fails when the name is taken, however it was taken meanwhile
        finally:
            with contextlib.suppress(FileNotFoundError):
                temporary.unlink()
    except FileExistsError:
        raise exists(path) from None
    except OSError as error:
        raise InvalidInput(f"{path} cannot be written: {error.strerror}.", code="file-unwritable") from None


def require_free(*paths: str | None, force: bool) -> None:
    """Refuse before the work what :func:`write_new` would refuse after it."""
    for path in paths:
        if path is not None and path != "-" and not force and os.path.lexists(path):
            raise exists(path)


def read_key_file(cli: Cli, path: str) -> bytes:
    """A file with a private key; a warning when others may read it."""
    data = read_bytes(path)
    if path != "-" and (mode := os.stat(path).st_mode & 0o777) & 0o077:
        cli.out.warning(f"{path} is open to others (mode {mode:04o}). Run: chmod 600 {path}")
    return data


def exists(path: str) -> StateConflict:
    return StateConflict(f"{path} exists.", code="file-exists", remedy="Choose another name, or add --force.")
