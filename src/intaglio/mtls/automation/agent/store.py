"""Where an agent keeps key and certificate: a folder of versions, and ``current``, a link that is swapped at once.

    OUT/current -> versions/20260102T083349Z-4f2a...
    OUT/versions/.../tls.crt   certificate and the CAs between it and the root, PEM
    OUT/versions/.../tls.key   its private key, PKCS #8
    OUT/versions/.../ca.crt    what to trust in others
    OUT/state.json             how it went

A reader of ``current`` sees one version whole, never half of two. A version is complete and durable on the disk before
the link is moved, so a full disk or a crash leaves the last good one. Files have mode 0600, folders 0700.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from intaglio.core.errors import StateConflict, Unavailable
from intaglio.mtls.automation.agent.timing import Validity

CERTIFICATE, KEY, TRUST, COMBINED = "tls.crt", "tls.key", "ca.crt", "tls.pem"
_KEPT = 2  # versions beside the current one: a process that read the link a moment ago still opens its files
_PENDING = "pending.key"
_STATE = "state.json"
_LARGEST_STATE, _LARGEST_KEY = 64 * 1024, 16 * 1024


@dataclass(frozen=True)
class Version:
    """A certificate as it is on the disk."""

    folder: Path
    serial: str
    identity: str
    validity: Validity

    @property
    def certificate(self) -> Path:
        return self.folder / CERTIFICATE

    @property
    def key(self) -> Path:
        return self.folder / KEY

    @property
    def trust(self) -> Path:
        return self.folder / TRUST


class Store:
    """The folder of one agent. Raises Unavailable (``folder-unusable``) where the disk does not do its part."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._versions = folder / "versions"
        self.current = folder / "current"

    def prepare(self) -> None:
        """Make the folder, for its owner alone. Raises Unavailable (``folder-foreign``) for somebody else's: he could
        have put a key of his own there, or swap what is written."""
        with _reported(self.folder):
            for each in (self.folder, self._versions):
                each.mkdir(mode=0o700, parents=True, exist_ok=True)
                if each.stat().st_uid != os.geteuid() or self._versions.is_symlink():
                    raise Unavailable(
                        f"{each} is not a folder of the account that runs the agent.",
                        code="folder-foreign",
                        remedy="Name a folder that this account has made, or that does not exist yet.",
                    )
                if each.stat().st_mode & 0o077:
                    each.chmod(0o700)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else's while inside. Raises StateConflict (``folder-in-use``) when another agent has it."""
        with _reported(self.folder):
            handle = os.open(self.folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            raise StateConflict(
                f"Another agent keeps {self.folder}.", code="folder-in-use", remedy="Give each identity its own folder."
            ) from None
        try:
            yield
        finally:
            os.close(handle)

    def version(self) -> Version | None:
        """The current version; None when there is none that can be read."""
        try:
            folder = self._versions / os.readlink(self.current).rpartition("/")[2]
            told = json.loads((folder / "about.json").read_bytes())
            validity = Validity(_moment(told["not_before"]), _moment(told["not_after"]))
            return Version(folder, str(told["serial"]), str(told["identity"]), validity)
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def pending_key(self) -> bytes | None:
        """The key of a request that was not answered yet, PEM; None for one that somebody else has put there."""
        try:
            handle = os.open(self.folder / _PENDING, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return None
        with open(handle, "rb") as file:
            return file.read(_LARGEST_KEY) if os.fstat(handle).st_uid == os.geteuid() else None

    def keep_pending(self, key_pem: bytes) -> None:
        """Keep a key until its certificate is there: the same request again is the same use of a token."""
        with _reported(self.folder):
            _write(self.folder / _PENDING, key_pem)
            _sync(self.folder)

    def forget_pending(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            (self.folder / _PENDING).unlink()

    def install(self, files: Mapping[str, bytes], about: Mapping[str, str]) -> Version:
        """Write a version and make it the current one, or leave everything as it was."""
        validity = Validity(_moment(about["not_before"]), _moment(about["not_after"]))
        stamp = validity.not_before.strftime("%Y%m%dT%H%M%SZ")
        folder = self._versions / f"{stamp}-{about['serial'][:16].lower()}"
        with _reported(self.folder):
            try:
                self._fill(folder, {**files, "about.json": json.dumps(dict(about)).encode()})
            except OSError:
                shutil.rmtree(folder, ignore_errors=True)
                raise
            self._point_to(folder)
        self.forget_pending()
        self._drop_old(folder)
        return Version(folder, about["serial"], about["identity"], validity)

    def write_state(self, state: Mapping[str, Any]) -> None:
        """Note how it goes, for ``status``. What cannot be noted (a full disk) must not stop the agent."""
        temporary = self.folder / f".{_STATE}"
        with contextlib.suppress(OSError):
            _write(temporary, json.dumps(dict(state), indent=1).encode())
            temporary.replace(self.folder / _STATE)

    def read_state(self) -> dict[str, Any]:
        """What was noted last; empty when nothing was."""
        try:
            with open(self.folder / _STATE, "rb") as file:
                found = json.loads(file.read(_LARGEST_STATE))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def _fill(self, folder: Path, files: Mapping[str, bytes]) -> None:
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(mode=0o700)
        for name, content in files.items():
            _write(folder / name, content)
        _sync(folder)
        _sync(self._versions)

    def _point_to(self, folder: Path) -> None:
        """rename(2) replaces the link in one step."""
        temporary = self.folder / ".current"
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(Path("versions") / folder.name)
        temporary.replace(self.current)
        _sync(self.folder)

    def _drop_old(self, current: Path) -> None:
        with contextlib.suppress(OSError):
            others = sorted(
                (each for each in self._versions.iterdir() if each != current), key=lambda each: each.stat().st_mtime_ns
            )
            for each in others[:-_KEPT]:
                shutil.rmtree(each, ignore_errors=True)


def _write(path: Path, content: bytes) -> None:
    """A file of mode 0600 that is on the disk when this returns."""
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(handle, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


@contextlib.contextmanager
def _reported(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise Unavailable(
            f"{folder} cannot be written: {error.strerror or error}.",
            code="folder-unusable",
            remedy="Make room; the certificate in use stays." if full else "Let the agent's account write there.",
        ) from None
