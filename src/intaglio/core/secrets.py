"""The master key and envelope encryption.

Every secret in the database is sealed with AES-256-GCM under a key derived from the master key, bound to its purpose
by the associated data, so that a sealed value cannot be moved to another row or another use. The master key is a key
ring: the first key seals, all keys open, which is how rotation works without downtime.
"""

from __future__ import annotations

import base64
import json
import os
import resource
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from intaglio.core.errors import StateConflict, Unavailable
from intaglio.core.settings import Settings

_NONCE_OCTETS = 12
_KEY_ID_OCTETS = 4
_VERSION = b"\x01"


@dataclass(frozen=True)
class MasterKey:
    """A ring of 256-bit keys by 4-octet id; ``current`` seals."""

    keys: dict[bytes, bytes] = field(repr=False)
    current: bytes

    @classmethod
    def generate(cls) -> MasterKey:
        key_id = secrets.token_bytes(_KEY_ID_OCTETS)
        return cls({key_id: secrets.token_bytes(32)}, key_id)

    def rotated(self) -> MasterKey:
        """The same ring with a fresh key in front; old keys still open what they sealed."""
        key_id = secrets.token_bytes(_KEY_ID_OCTETS)
        return MasterKey({key_id: secrets.token_bytes(32), **self.keys}, key_id)

    def without(self, key_id: bytes) -> MasterKey:
        """The ring without a retired key. Raises StateConflict for the current key."""
        if key_id == self.current:
            raise StateConflict("The current master key cannot be retired.", code="master-key-in-use")
        return MasterKey({i: k for i, k in self.keys.items() if i != key_id}, self.current)

    def seal(self, plaintext: bytes, *, purpose: str) -> bytes:
        """Seal ``plaintext`` for ``purpose`` (a stable string such as ``key:<uuid>``); the same purpose opens it."""
        nonce = secrets.token_bytes(_NONCE_OCTETS)
        box = AESGCM(_derive(self.keys[self.current], purpose)).encrypt(nonce, plaintext, purpose.encode())
        return _VERSION + self.current + nonce + box

    def open(self, sealed: bytes, *, purpose: str) -> bytes:
        """Open a sealed value. Raises Unavailable when the key is not in the ring or the value was tampered with."""
        key_id = bytes(sealed[1 : 1 + _KEY_ID_OCTETS])
        nonce = bytes(sealed[1 + _KEY_ID_OCTETS : 1 + _KEY_ID_OCTETS + _NONCE_OCTETS])
        key = self.keys.get(key_id)
        if len(sealed) < 1 + _KEY_ID_OCTETS + _NONCE_OCTETS:
            raise Unavailable("A sealed secret is too short: it was altered.", code="secret-tampered")
        if sealed[:1] != _VERSION or key is None:
            raise Unavailable(
                f"A secret is sealed under master key {key_id.hex()}, which is not in the key ring.",
                code="master-key-missing",
                remedy="Restore the master key file that belongs to this database.",
            )
        try:
            return AESGCM(_derive(key, purpose)).decrypt(
                nonce, bytes(sealed[1 + _KEY_ID_OCTETS + _NONCE_OCTETS :]), purpose.encode()
            )
        except InvalidTag:
            raise Unavailable(
                "A sealed secret cannot be opened: it was altered or belongs to another place.",
                code="secret-tampered",
                remedy="Restore the database and the master key file from the same backup.",
            ) from None

    def sealed_under(self, sealed: bytes) -> bytes:
        """The id of the key a value is sealed under (to find what rotation has still to rewrap)."""
        return bytes(sealed[1 : 1 + _KEY_ID_OCTETS])

    def dump(self) -> bytes:
        """File format: JSON, current key first."""
        ordered = {self.current: self.keys[self.current], **self.keys}
        return json.dumps(
            {
                "intaglio-master-key": 1,
                "keys": [{"id": i.hex(), "key": base64.b64encode(k).decode()} for i, k in ordered.items()],
            }
        ).encode()

    @classmethod
    def parse(cls, data: bytes) -> MasterKey:
        """Read what :meth:`dump` wrote. Raises Unavailable when it is not a master key."""
        try:
            entries = json.loads(data)["keys"]
            keys = {bytes.fromhex(e["id"]): base64.b64decode(e["key"], validate=True) for e in entries}
            current = bytes.fromhex(entries[0]["id"])
        except (ValueError, KeyError, TypeError, IndexError):
            raise Unavailable(
                "The master key cannot be read: it is not an Intaglio master key.", code="master-key-invalid"
            ) from None
        if any(len(i) != _KEY_ID_OCTETS or len(k) != 32 for i, k in keys.items()):
            raise Unavailable("The master key has keys of the wrong length.", code="master-key-invalid")
        return cls(keys, current)


def load_master_key(settings: Settings) -> MasterKey:
    """The master key from the setting or the file. Raises Unavailable when it is missing or readable by others.

    A process that has the master key leaves no core dumps.
    """
    _leave_no_core()
    if settings.master_key is not None:
        try:
            return MasterKey.parse(base64.b64decode(settings.master_key.get_secret_value(), validate=True))
        except ValueError:
            raise Unavailable("INTAGLIO_MASTER_KEY is not base64.", code="master-key-invalid") from None
    path = settings.master_key_path
    try:
        if path.stat().st_mode & 0o077:
            raise Unavailable(
                f"The master key file {path} is readable by others.",
                code="master-key-exposed",
                remedy=f"Run: chmod 600 {path}",
            )
        return MasterKey.parse(path.read_bytes())
    except PermissionError:
        raise Unavailable(
            f"The master key file {path} cannot be read.",
            code="master-key-missing",
            remedy="Run as the account that owns it.",
        ) from None
    except FileNotFoundError:
        raise Unavailable(
            f"The master key file {path} does not exist.",
            code="master-key-missing",
            remedy="Run `intaglio init` once, or restore the file from backup.",
        ) from None


def write_master_key(path: Path, key: MasterKey) -> None:
    """Write the key ring atomically and durably with mode 0600; a file that is replaced keeps its owner."""
    temporary = path.with_suffix(".new")
    temporary.unlink(missing_ok=True)
    # Never through a file or link that was there before.
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, 0o600)
        if os.geteuid() == 0 and path.exists():  # a server that runs as an account of its own must still read it
            owner = path.stat()
            os.fchown(descriptor, owner.st_uid, owner.st_gid)
        file.write(key.dump())
        file.flush()
        os.fsync(descriptor)
    os.replace(temporary, path)
    # What is sealed under the new key is durable at once; the name of the file must not be less so.
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _leave_no_core() -> None:
    """From now on this process and its children leave no memory image behind when they crash."""
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))


def _derive(key: bytes, purpose: str) -> bytes:
    # One subkey per purpose keeps the number of messages under a single AES-GCM key far below its bound.
    return HKDF(SHA256(), 32, salt=None, info=b"intaglio " + purpose.encode()).derive(key)
