"""The keystore: generate, load, destroy and export private keys, and sign with them.

A private key is a row. What the row holds besides the public key is the business of its provider: the software
provider keeps the PKCS#8 structure sealed under the master key; a PKCS#11 provider keeps the key in the token under
the row's id.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar
from uuid import UUID

from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from pydantic import SecretStr
from sqlalchemy import insert, select, update

from intaglio.asn1 import algorithms
from intaglio.asn1.algorithms import KeyAlgorithm, PrivateKey
from intaglio.asn1.signature_schemes import SignatureScheme
from intaglio.audit.record import record
from intaglio.core.errors import InvalidInput, NotFound, NotSupported, StateConflict
from intaglio.core.identifiers import new_id
from intaglio.core.principal import SYSTEM, Permission, Principal
from intaglio.core.secrets import MasterKey
from intaglio.db.engine import Transaction
from intaglio.keystore.models import private_key
from intaglio.keystore.providers import Provider, SoftwareProvider, StoredKey, purpose_of

T = TypeVar("T")

#: Shortest password under which a private key may be exported.
EXPORT_PASSWORD_LENGTH = 12


class Signer:
    """A private key ready to sign."""

    __slots__ = ("_executor", "_sign", "algorithm", "key_id", "private_key", "spki")

    def __init__(
        self,
        key_id: UUID,
        algorithm: KeyAlgorithm,
        spki: bytes,
        private_key: PrivateKey,
        executor: ThreadPoolExecutor | None,
    ) -> None:
        self.key_id = key_id
        self.algorithm = algorithm
        #: SubjectPublicKeyInfo, DER.
        self.spki = spki
        #: What the builders of ``cryptography`` sign with.
        self.private_key = private_key
        self._executor = executor
        self._sign = algorithms.signing(private_key)

    @property
    def inline(self) -> bool:
        """Whether a signature is made so quickly that the event loop may wait for it."""
        return self._executor is None

    def sign_now(self, data: bytes) -> bytes:
        """Signature over ``data`` with the algorithm that belongs to the key, computed in this thread."""
        return self._sign(data)

    async def sign(self, data: bytes) -> bytes:
        """The same, without holding up the event loop: inline when fast, in the keystore's threads when slow."""
        if self._executor is None:
            return self.sign_now(data)
        return await asyncio.get_running_loop().run_in_executor(self._executor, self.sign_now, data)

    def with_scheme(self, scheme: SignatureScheme) -> Signer:
        """The same key, signing with another digest or padding than the one that belongs to it."""
        other = copy.copy(self)
        other._sign = scheme.bind(self.private_key)
        return other

    def __repr__(self) -> str:
        return f"Signer({self.key_id}, {self.algorithm.value})"


class KeyStore:
    """All private keys of the installation.

    Arguments: ``master`` seals software keys; ``threads`` bounds how many slow operations (RSA signatures of 3072 bits
    and more, tokens, RSA key generation) run at a time.
    """

    def __init__(self, master: MasterKey, *, threads: int = 2) -> None:
        self.master = master
        self._providers: dict[str, Provider] = {}
        self._signers: dict[UUID, Signer] = {}
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="keystore")
        self.register(SoftwareProvider(master))

    def register(self, provider: Provider) -> None:
        """Make a provider available under its name."""
        self._providers[provider.name] = provider

    def close(self) -> None:
        """Forget every key and end the threads once they are idle."""
        self._signers.clear()
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def generate(
        self,
        tx: Transaction,
        algorithm: KeyAlgorithm,
        label: str,
        *,
        provider: str = "software",
        principal: Principal = SYSTEM,
    ) -> Signer:
        """Generate a key; it exists once the transaction commits.

        ``label`` says what the key is for (``ca:demo~issuing``); it is shown and audited, never used to find the key.
        Raises NotSupported for an unknown provider or an algorithm that the provider lacks.
        """
        chosen, key_id = self._provider(provider), new_id()
        generated = await self._in_thread(lambda: chosen.generate(key_id, algorithm, label))
        spki = algorithms.spki(generated.private_key.public_key())
        await tx.execute(
            insert(private_key).values(
                id=key_id,
                provider=provider,
                algorithm=algorithm.value,
                label=label,
                public_key=spki,
                sealed=generated.sealed,
                created_at=tx.now,
            )
        )
        facts: dict[str, Any] = {"label": label, "algorithm": algorithm.value, "provider": provider}
        record(tx, principal, "key.generate", "key", str(key_id), **facts)
        signer = self._signer(key_id, algorithm, spki, generated.private_key, chosen)
        tx.after_commit(lambda: self._signers.__setitem__(key_id, signer))
        return signer

    async def adopt(
        self, tx: Transaction, key: PrivateKey, label: str, *, principal: Principal = SYSTEM
    ) -> Signer:
        """Keep a key that was made elsewhere, sealed under the master key; it exists once the transaction commits.

        Raises InvalidInput (``key-algorithm-not-allowed``).
        """
        algorithm, key_id, spki = algorithms.key_algorithm_of(key), new_id(), algorithms.spki(key.public_key())
        encoded = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        await tx.execute(
            insert(private_key).values(
                id=key_id,
                provider=SoftwareProvider.name,
                algorithm=algorithm.value,
                label=label,
                public_key=spki,
                sealed=self.master.seal(encoded, purpose=purpose_of(key_id)),
                created_at=tx.now,
            )
        )
        facts: dict[str, Any] = {"label": label, "algorithm": algorithm.value, "provider": SoftwareProvider.name}
        record(tx, principal, "key.adopt", "key", str(key_id), **facts)
        signer = self._signer(key_id, algorithm, spki, key, self._provider(SoftwareProvider.name))
        tx.after_commit(lambda: self._signers.__setitem__(key_id, signer))
        return signer

    def cached(self, key_id: UUID) -> Signer | None:
        """The key if this process has it in memory already; hot paths look here before they read the database."""
        return self._signers.get(key_id)

    async def load(self, view: Transaction, key_id: UUID) -> Signer:
        """The key, from this process's memory when it was loaded before.

        Raises NotFound when there is no such key or it was destroyed, Unavailable when the master key that seals it or
        the token that holds it is missing.
        """
        if (cached := self._signers.get(key_id)) is not None:
            return cached
        stored = await self._stored(view, key_id)
        provider = self._provider(stored.provider)
        key = await self._in_thread(lambda: provider.load(stored))
        signer = self._signer(key_id, stored.algorithm, stored.spki, key, provider)
        return self._signers.setdefault(key_id, signer)

    async def destroy(self, tx: Transaction, key_id: UUID, *, principal: Principal = SYSTEM) -> None:
        """Destroy a key for good: what was sealed is erased, the public key stays for verification.

        Other processes drop it when they hear of the changed configuration (:meth:`refresh`). Raises NotFound when
        there is no such key or it was destroyed already.
        """
        stored = await self._stored(tx, key_id, lock=True)
        provider = self._provider(stored.provider)
        await self._in_thread(lambda: provider.destroy(stored))
        await tx.execute(
            update(private_key).where(private_key.c.id == key_id).values(sealed=None, destroyed_at=tx.now)
        )
        record(tx, principal, "key.destroy", "key", str(key_id), label=stored.label, algorithm=stored.algorithm.value)
        tx.changed_configuration()
        tx.after_commit(lambda: self.forget(key_id))

    async def export(self, tx: Transaction, key_id: UUID, password: SecretStr, *, principal: Principal) -> bytes:
        """The key as encrypted PKCS#8 PEM (RFC 5958; scrypt or PBKDF2 with AES-256), audited.

        Raises Forbidden without ``platform.manage``, InvalidInput for a password under 12 characters, NotFound,
        NotSupported for a key that cannot leave its token.
        """
        principal.require(Permission.PLATFORM_MANAGE)
        if len(password.get_secret_value()) < EXPORT_PASSWORD_LENGTH:
            raise InvalidInput(
                f"A private key is exported only under a password of at least {EXPORT_PASSWORD_LENGTH} characters.",
                code="password-too-weak",
                target="password",
            )
        stored = await self._stored(tx, key_id)
        if not self._provider(stored.provider).exportable:
            raise NotSupported(f"Keys in {stored.provider} never leave it.", code="key-not-exportable")
        signer = await self.load(tx, key_id)
        record(tx, principal, "key.export", "key", str(key_id), label=stored.label, algorithm=stored.algorithm.value)
        encryption = BestAvailableEncryption(password.get_secret_value().encode())
        return await self._in_thread(
            lambda: signer.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
        )

    async def refresh(self, view: Transaction) -> None:
        """Forget the keys that another process destroyed. Call when the configuration changed."""
        held = list(self._signers)
        for start in range(0, len(held), 1000):
            query = select(private_key.c.id).where(
                private_key.c.id.in_(held[start : start + 1000]), private_key.c.destroyed_at.is_not(None)
            )
            for row in await view.all(query):
                self.forget(row["id"])

    def forget(self, key_id: UUID) -> None:
        """Drop a key from this process's memory."""
        self._signers.pop(key_id, None)

    async def _stored(self, view: Transaction, key_id: UUID, *, lock: bool = False) -> StoredKey:
        query = select(private_key).where(private_key.c.id == key_id)
        row = await view.one_or_none(query.with_for_update() if lock else query)
        if row is None or row["destroyed_at"] is not None:
            state = "was destroyed" if row else "does not exist"
            raise NotFound(f"The private key {key_id} {state}.", code="key-not-found")
        return StoredKey(
            key_id, row["provider"], KeyAlgorithm(row["algorithm"]), row["label"], row["public_key"], row["sealed"]
        )

    def _provider(self, name: str) -> Provider:
        if name not in self._providers:
            raise NotSupported(
                f'There is no keystore provider "{name}".',
                code="keystore-provider-unknown",
                remedy=f"Use one of: {', '.join(sorted(self._providers))}.",
                target="provider",
            )
        return self._providers[name]

    def _signer(
        self, key_id: UUID, algorithm: KeyAlgorithm, spki: bytes, key: PrivateKey, provider: Provider
    ) -> Signer:
        if algorithms.spki(key.public_key()) != spki:
            raise StateConflict(
                f"The private key {key_id} does not belong to its public key.",
                code="key-mismatch",
                remedy="Restore the database from a backup; this row was altered.",
            )
        slow = algorithm.slow or provider.slow
        return Signer(key_id, algorithm, spki, key, self._executor if slow else None)

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, call)
