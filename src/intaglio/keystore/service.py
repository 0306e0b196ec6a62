"""The keystore: generate, load, destroy and export private keys, and sign with them.

A private key is a row. What the row holds besides the public key is the business of its provider: the software
provider keeps the PKCS#8 structure sealed under the master key; a PKCS#11 provider keeps the key in the token under
the row's id, or under the id that a key had when it was adopted.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from pydantic import SecretStr
from sqlalchemy import insert, select, update

from intaglio.asn1 import algorithms
from intaglio.asn1.algorithms import KeyAlgorithm, PrivateKey
from intaglio.asn1.signature_schemes import SignatureScheme
from intaglio.audit.record import record
from intaglio.core.errors import IntaglioError, InvalidInput, NotFound, NotSupported, StateConflict, Unavailable
from intaglio.core.identifiers import new_id
from intaglio.core.logging import get_logger
from intaglio.core.principal import SYSTEM, Permission, Principal
from intaglio.core.secrets import MasterKey
from intaglio.db.engine import Transaction
from intaglio.keystore.dispatch import Dispatcher
from intaglio.keystore.models import private_key
from intaglio.keystore.providers import Provider, SoftwareProvider, StoredKey, purpose_of

if TYPE_CHECKING:
    from intaglio.keystore.tokens import Tokens

log = get_logger(__name__)
T = TypeVar("T")

#: Shortest password under which a private key may be exported.
EXPORT_PASSWORD_LENGTH = 12


class Signer:
    """A private key ready to sign."""

    __slots__ = ("_dispatcher", "_executor", "_sign", "algorithm", "key_id", "private_key", "provider", "spki")

    def __init__(
        self,
        key_id: UUID,
        algorithm: KeyAlgorithm,
        spki: bytes,
        private_key: PrivateKey,
        executor: ThreadPoolExecutor | None,
        dispatcher: Dispatcher | None = None,
        provider: str = SoftwareProvider.name,
    ) -> None:
        self.key_id = key_id
        self.algorithm = algorithm
        #: SubjectPublicKeyInfo, DER.
        self.spki = spki
        #: What the builders of ``cryptography`` sign with.
        self.private_key = private_key
        #: Where the key is: ``software``, ``pkcs11:<token>``.
        self.provider = provider
        self._executor = executor
        self._dispatcher = dispatcher
        self._sign = algorithms.signing(private_key)

    @property
    def inline(self) -> bool:
        """Whether a signature is made so quickly that the event loop may wait for it."""
        return self._executor is None and self._dispatcher is None

    def sign_now(self, data: bytes) -> bytes:
        """Signature over ``data`` with the algorithm that belongs to the key, computed in this thread.

        Never in the thread of an event loop unless the signer is :attr:`inline`. Raises Unavailable when the token is
        away.
        """
        return self._sign(data)

    async def sign(self, data: bytes) -> bytes:
        """The same, without holding up the event loop: inline when fast, in threads when slow."""
        if self._dispatcher is not None:
            return await self._dispatcher.run(partial(self._sign, data))
        if self._executor is not None:
            return await asyncio.get_running_loop().run_in_executor(self._executor, self.sign_now, data)
        return self.sign_now(data)

    async def using(self, call: Callable[[PrivateKey], T]) -> T:
        """What ``call`` makes of the private key, such as something signed by a builder of ``cryptography``, without
        holding up the event loop. Raises Unavailable when the token is away."""
        if self._dispatcher is not None:
            return await self._dispatcher.run(lambda: call(self.private_key))
        if self._executor is not None:
            return await asyncio.get_running_loop().run_in_executor(self._executor, call, self.private_key)
        return call(self.private_key)

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
    and more, RSA key generation) run at a time; ``tokens`` knows the configured tokens, each of which has threads of
    its own.
    """

    def __init__(self, master: MasterKey, *, threads: int = 2, tokens: Tokens | None = None) -> None:
        self.master = master
        self.tokens = tokens
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
        if self.tokens is not None:
            self.tokens.close()

    async def generate(
        self,
        tx: Transaction,
        algorithm: KeyAlgorithm,
        label: str,
        *,
        provider: str = "software",
        principal: Principal = SYSTEM,
        decrypts: bool = False,
    ) -> Signer:
        """Generate a key; it exists once the transaction commits.

        ``label`` says what the key is for (``ca:demo~issuing``); it is shown and audited, never used to find the key.
        Keys in tokens only sign unless ``decrypts`` says otherwise.
        Raises NotSupported for an unknown provider or an algorithm that the provider lacks, Unavailable when the token
        is away.
        """
        chosen, key_id = await self.provider(tx, provider), new_id()
        generated = await self._in_thread(chosen, lambda: chosen.generate(key_id, algorithm, label, decrypts=decrypts))
        spki = algorithms.spki(generated.private_key.public_key())
        if chosen.dispatcher is not None:
            made = StoredKey(key_id, provider, algorithm, label, spki, None, key_id.bytes)
            tx.after_rollback(lambda: take_back(chosen, made))
            if self.tokens is not None:
                await self.tokens.hold(tx, provider)
        await tx.execute(
            insert(private_key).values(
                id=key_id,
                provider=provider,
                algorithm=algorithm.value,
                label=label,
                public_key=spki,
                sealed=generated.sealed,
                protection=generated.protection,
                created_at=tx.now,
            )
        )
        facts: dict[str, Any] = {"label": label, "algorithm": algorithm.value, "provider": provider}
        if generated.protection is not None:
            facts["protection"] = generated.protection
        record(tx, principal, "key.generate", "key", str(key_id), **facts)
        signer = self._signer(key_id, algorithm, spki, generated.private_key, chosen)
        tx.after_commit(lambda: self._signers.__setitem__(key_id, signer))
        return signer

    async def adopt(
        self, tx: Transaction, key: PrivateKey, label: str, *, principal: Principal = SYSTEM, made_here: bool = False
    ) -> Signer:
        """Keep a key that was made elsewhere, sealed under the master key; it exists once the transaction commits.

        ``made_here`` is for a key that this process has just made outside of the transaction, because that is costly;
        it is audited like one of :meth:`generate`.

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
        record(tx, principal, "key.generate" if made_here else "key.adopt", "key", str(key_id), **facts)
        signer = self._signer(key_id, algorithm, spki, key, self._providers[SoftwareProvider.name])
        tx.after_commit(lambda: self._signers.__setitem__(key_id, signer))
        return signer

    def cached(self, key_id: UUID) -> Signer | None:
        """The key if this process has it in memory already; hot paths look here before they read the database."""
        return self._signers.get(key_id)

    async def load(self, view: Transaction, key_id: UUID) -> Signer:
        """The key, from this process's memory when it was loaded before.

        Raises NotFound when there is no such key or it was destroyed, Unavailable when the master key that seals it is
        missing. Whether the token that holds a key is there shows when the key signs.
        """
        if (cached := self._signers.get(key_id)) is not None:
            return cached
        stored = await self.stored(view, key_id)
        provider = await self.provider(view, stored.provider)
        key = await self._in_thread(provider, lambda: provider.load(stored))
        signer = self._signer(key_id, stored.algorithm, stored.spki, key, provider)
        return self._signers.setdefault(key_id, signer)

    async def destroy(self, tx: Transaction, key_id: UUID, *, principal: Principal = SYSTEM) -> None:
        """Destroy a key for good: what was sealed is erased, the public key stays for verification.

        In a token it is destroyed once the transaction has committed, and again and again until the token says so
        (:mod:`intaglio.keystore.erasure`). Other processes drop the key when they hear of the changed configuration
        (:meth:`refresh`). Raises NotFound when there is no such key or it was destroyed already.
        """
        stored = await self.stored(tx, key_id, lock=True)
        provider = await self.provider(tx, stored.provider)
        outside = provider.dispatcher is not None
        if not outside:
            await self._in_thread(provider, lambda: provider.destroy(stored))
        changes = {"sealed": None, "destroyed_at": tx.now, "erasure_due": outside}
        await tx.execute(update(private_key).where(private_key.c.id == key_id).values(**changes))
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
        stored = await self.stored(tx, key_id)
        provider = await self.provider(tx, stored.provider)
        if not provider.exportable:
            raise NotSupported(f"Keys in {stored.provider} never leave it.", code="key-not-exportable")
        signer = await self.load(tx, key_id)
        record(tx, principal, "key.export", "key", str(key_id), label=stored.label, algorithm=stored.algorithm.value)
        encryption = BestAvailableEncryption(password.get_secret_value().encode())
        return await self._in_thread(
            provider, lambda: signer.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
        )

    async def refresh(self, view: Transaction) -> None:
        """Forget the keys that another process destroyed or moved, and what changed of tokens. Call when the
        configuration changed."""
        changed = await self.tokens.refresh(view) if self.tokens is not None else set[str]()
        held = list(self._signers)
        for start in range(0, len(held), 1000):
            c = private_key.c
            query = select(c.id, c.provider, c.destroyed_at).where(c.id.in_(held[start : start + 1000]))
            for row in await view.all(query):
                signer = self._signers.get(row["id"])
                moved = signer is not None and (signer.provider != row["provider"] or signer.provider in changed)
                if row["destroyed_at"] is not None or moved:
                    self.forget(row["id"])

    def forget(self, key_id: UUID) -> None:
        """Drop a key from this process's memory."""
        self._signers.pop(key_id, None)

    async def prove(self, signer: Signer) -> None:
        """See that a key is where its row says: one in a token signs something, and the signature is verified.

        A software key was proved when its seal was opened. Raises Unavailable.
        """
        if signer.provider == SoftwareProvider.name:
            return
        challenge = b"intaglio: prove possession of " + signer.key_id.bytes
        public, algorithm = algorithms.load_public_key(signer.spki)
        if not algorithms.verify(public, algorithm.signature_oid, await signer.sign(challenge), challenge):
            raise Unavailable(f"The private key {signer.key_id} signs wrongly.", code="token-answer-wrong")

    async def stored(self, view: Transaction, key_id: UUID, *, lock: bool = False) -> StoredKey:
        """The row of a key. Raises NotFound when there is none or the key was destroyed."""
        query = select(private_key).where(private_key.c.id == key_id)
        row = await view.one_or_none(query.with_for_update() if lock else query)
        if row is None or row["destroyed_at"] is not None:
            state = "was destroyed" if row else "does not exist"
            raise NotFound(f"The private key {key_id} {state}.", code="key-not-found")
        return stored_key(row)

    async def provider(self, view: Transaction, name: str) -> Provider:
        """A provider by name. Raises NotSupported (``keystore-provider-unknown``)."""
        if name in self._providers:
            return self._providers[name]
        if self.tokens is not None and (found := await self.tokens.provider(view, name)) is not None:
            return found
        known = [*self._providers, *(await self.tokens.names(view) if self.tokens is not None else ())]
        raise NotSupported(
            f'There is no keystore provider "{name[:80]}".',
            code="keystore-provider-unknown",
            remedy=f"Use one of: {', '.join(sorted(known))}.",
            target="provider",
        )

    def _signer(
        self, key_id: UUID, algorithm: KeyAlgorithm, spki: bytes, key: PrivateKey, provider: Provider
    ) -> Signer:
        if algorithms.spki(key.public_key()) != spki:
            raise StateConflict(
                f"The private key {key_id} does not belong to its public key.",
                code="key-mismatch",
                remedy="Restore the database from a backup; this row was altered.",
            )
        slow = provider.dispatcher is None and (algorithm.slow or provider.slow)
        executor = self._executor if slow else None
        return Signer(key_id, algorithm, spki, key, executor, provider.dispatcher, provider.name)

    async def _in_thread(self, provider: Provider, call: Callable[[], T]) -> T:
        if provider.dispatcher is not None:
            return await provider.dispatcher.run(call)
        return await asyncio.get_running_loop().run_in_executor(self._executor, call)


def stored_key(row: Mapping[Any, Any]) -> StoredKey:
    """The value of a row of the table of private keys."""
    key_id, reference = row["id"], row["reference"] or row["id"].bytes
    algorithm = KeyAlgorithm(row["algorithm"])
    return StoredKey(
        key_id, row["provider"], algorithm, row["label"], row["public_key"], row["sealed"], bytes(reference)
    )


def take_back(provider: Provider, made: StoredKey) -> None:
    """Destroy in its token a key whose transaction came to nothing."""

    def destroy() -> None:
        try:
            provider.destroy(made)
        except IntaglioError as error:
            log.warning("a key that came to nothing stays in its token", key=str(made.key_id), reason=error.detail)

    assert provider.dispatcher is not None
    provider.dispatcher.start(destroy)

