"""Files that commands read and write: secrets come from files, the environment or a prompt, never from arguments."""

from __future__ import annotations

import base64
import getpass
import os
import sys
from pathlib import Path

from intaglio.core.errors import InvalidInput, StateConflict

_LARGEST = 32 << 20


def read_bytes(path: str) -> bytes:
    """The contents of a file; ``-`` is standard input. Raises InvalidInput when it cannot be read or is over 32 MiB."""
    try:
        if path == "-":
            data = sys.stdin.buffer.read(_LARGEST + 1)
        else:
            with open(path, "rb") as file:
                data = file.read(_LARGEST + 1)
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}.", code="file-unreadable") from None
    if len(data) > _LARGEST:
        raise InvalidInput(f"{path} is larger than {_LARGEST >> 20} MiB.", code="file-too-large")
    return data


def read_text(path: str) -> str:
    """The same as text. Raises InvalidInput when it is not UTF-8."""
    try:
        return read_bytes(path).decode()
    except UnicodeDecodeError:
        raise InvalidInput(f"{path} is not text.", code="file-unreadable") from None


def read_pem_or_der(path: str) -> str:
    """A certificate, request or bundle as the API takes it: PEM as it is, anything else in base64."""
    data = read_bytes(path)
    if b"-----BEGIN" in data:
        return data.decode(errors="replace")
    return base64.b64encode(data).decode()


def write_public(path: str, data: str | bytes, *, force: bool = True) -> None:
    """Write something everybody may read; ``-`` is standard output."""
    _write(path, data, 0o644, force=force)


def write_private(path: str, data: str | bytes, *, force: bool = False) -> None:
    """Write a secret with mode 0600. Raises StateConflict when the file exists, unless ``force``."""
    _write(path, data, 0o600, force=force)


def require_absent(path: str | None, *, force: bool) -> None:
    """Refuse early what :func:`write_private` would refuse after the work is done."""
    if path is not None and path != "-" and not force and Path(path).exists():
        raise _exists(path)


def read_secret(prompt: str, *, file: str | None, variable: str, confirm: bool = False) -> str:
    """A secret from ``file`` (first line; ``-`` is standard input), the environment, or a prompt.

    Raises InvalidInput when there is none of them, or the repetition differs.
    """
    if file is not None:
        return _first_line(read_text(file))
    if value := os.environ.get(variable):
        return value
    if not sys.stdin.isatty():
        return _first_line(read_text("-"))
    secret = getpass.getpass(f"{prompt}: ")
    if confirm and getpass.getpass(f"{prompt}, again: ") != secret:
        raise InvalidInput("The two entries differ.", code="secret-mismatch")
    return secret


def _first_line(text: str) -> str:
    if not (secret := text.split("\n", 1)[0].rstrip("\r")):
        raise InvalidInput("The secret is empty.", code="secret-missing")
    return secret


def _write(path: str, data: str | bytes, mode: int, *, force: bool) -> None:
    content = data.encode() if isinstance(data, str) else data
    if path == "-":
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
        return
    flags = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if force else os.O_EXCL)
    try:
        descriptor = os.open(path, flags, mode)
    except FileExistsError:
        raise _exists(path) from None
    except OSError as error:
        raise InvalidInput(f"{path} cannot be written: {error.strerror}.", code="file-unwritable") from None
    with os.fdopen(descriptor, "wb") as file:
        if mode == 0o600:
            os.fchmod(descriptor, mode)
        file.write(content)


def _exists(path: str) -> StateConflict:
    return StateConflict(f"{path} exists.", code="file-exists", remedy="Choose another name, or add --force.")
