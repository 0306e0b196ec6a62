"""Where private keys live: the interface of a provider, and the software provider."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol, cast
from uuid import UUID

from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)

from intaglio.asn1.algorithms import KeyAlgorithm, PrivateKey, generate_private_key
from intaglio.core.errors import Unavailable
from intaglio.core.secrets import MasterKey
from intaglio.keystore.dispatch import Dispatcher


@dataclass(frozen=True)
class StoredKey:
    """A row of the table of private keys."""

    key_id: UUID
    provider: str
    algorithm: KeyAlgorithm
    label: str
    spki: bytes = field(repr=False)
    sealed: bytes | None = field(repr=False)
    #: What a token knows the key by (CKA_ID).
    reference: bytes = b""


@dataclass(frozen=True)
class GeneratedKey:
    """A fresh key: the object that signs, and what the row keeps of it (None: the provider keeps it).

    ``protection`` is how a token says it guards the key.
    """

    private_key: PrivateKey = field(repr=False)
    sealed: bytes | None = field(repr=False)
    protection: dict[str, bool | None] | None = None


class Provider(Protocol):
    """A place for private keys. Methods are synchronous and called in threads, the provider's own or the keystore's.

    ``name`` is stored with every key (``software``, ``pkcs11:<token>``); ``slow`` says that every signature leaves the
    process and must not block the event loop; ``exportable`` that keys may leave under a password.
    """

    @property
    def name(self) -> str: ...

    @property
    def slow(self) -> bool: ...

    @property
    def exportable(self) -> bool: ...

    @property
    def dispatcher(self) -> Dispatcher | None:
        """The threads of its own, of a provider that keeps keys outside the database; None: those of the keystore."""
        ...

    def generate(
        self, key_id: UUID, algorithm: KeyAlgorithm, label: str, *, decrypts: bool = False
    ) -> GeneratedKey:
        """Generate a key under ``key_id`` that signs and, with ``decrypts``, decrypts. Raises NotSupported for an
        algorithm the provider lacks, Unavailable."""
        ...

    def load(self, stored: StoredKey) -> PrivateKey:
        """The object that signs. Raises Unavailable when the key cannot be opened or reached."""
        ...

    def destroy(self, stored: StoredKey) -> None:
        """Erase what the provider holds outside the database; the row is erased by the caller."""
        ...


class SoftwareProvider:
    """Keys as PKCS#8 in the database, sealed under the master key and bound to their row."""

    name = "software"
    slow = False
    exportable = True
    dispatcher: Dispatcher | None = None

    def __init__(self, master: MasterKey) -> None:
        self._master = master

    def generate(
        self, key_id: UUID, algorithm: KeyAlgorithm, label: str, *, decrypts: bool = False
    ) -> GeneratedKey:
        key = generate_private_key(algorithm)
        return GeneratedKey(key, seal_key(self._master, key_id, key))

    def load(self, stored: StoredKey) -> PrivateKey:
        if stored.sealed is None:
            raise Unavailable(f"The private key {stored.key_id} is not in the database.", code="key-missing")
        encoded = self._master.open(stored.sealed, purpose=purpose_of(stored.key_id))
        # The checks of an RSA key's arithmetic cost more than a signature, and the seal proves it is what we wrote.
        return cast(PrivateKey, load_der_private_key(encoded, None, unsafe_skip_rsa_key_validation=True))

    def destroy(self, stored: StoredKey) -> None:
        return None


def seal_key(master: MasterKey, key_id: UUID, key: PrivateKey) -> bytes:
    """The PKCS#8 structure of a key, sealed for its row."""
    encoded = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    return master.seal(encoded, purpose=purpose_of(key_id))


def purpose_of(key_id: UUID) -> str:
    """What the sealed PKCS#8 of a key is bound to."""
    return f"key:{key_id}"
