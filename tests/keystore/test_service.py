from __future__ import annotations

import asyncio
import threading

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from pydantic import SecretStr
from sqlalchemy import select, update

from intaglio.asn1 import algorithms
from intaglio.asn1.algorithms import KeyAlgorithm
from intaglio.audit.models import audit_record
from intaglio.core.errors import Forbidden, InvalidInput, NotFound, NotSupported, StateConflict, Unavailable
from intaglio.core.identifiers import new_id
from intaglio.core.principal import Permission, Principal, operator
from intaglio.core.secrets import MasterKey
from intaglio.db.engine import Database
from intaglio.keystore.audit_key import audit_public_keys, audit_signer
from intaglio.keystore.models import private_key
from intaglio.keystore.providers import GeneratedKey, SoftwareProvider, StoredKey
from intaglio.keystore.rewrap import Progress, outstanding, rewrap
from intaglio.keystore.service import KeyStore, Signer

OPERATOR = operator("root")
PASSWORD = SecretStr("export under this one")


async def generate(database: Database, keystore: KeyStore, algorithm: KeyAlgorithm = KeyAlgorithm.ECDSA_P256) -> Signer:
    async with database.transaction() as tx:
        return await keystore.generate(tx, algorithm, "test", principal=OPERATOR)


async def load(database: Database, keystore: KeyStore, signer: Signer) -> Signer:
    async with database.read() as view:
        return await keystore.load(view, signer.key_id)


def verifies(signer: Signer, signature: bytes) -> bool:
    key, algorithm = algorithms.load_public_key(signer.spki)
    return algorithms.verify(key, algorithm.signature_oid, signature, b"to be signed")


@pytest.mark.parametrize("algorithm", [a for a in KeyAlgorithm if a is not KeyAlgorithm.RSA_4096])
async def test_a_key_of_every_algorithm_signs_and_is_found_again(
    database: Database, keystore: KeyStore, master_key: MasterKey, algorithm: KeyAlgorithm
) -> None:
    made = await generate(database, keystore, algorithm)
    elsewhere = KeyStore(master_key)
    found = await load(database, elsewhere, made)
    assert (found.key_id, found.algorithm, found.spki) == (made.key_id, algorithm, made.spki)
    for signer in (made, found):
        assert verifies(signer, signer.sign_now(b"to be signed"))
        assert verifies(signer, await signer.sign(b"to be signed"))
    elsewhere.close()


async def test_slow_signatures_leave_the_event_loop(database: Database, keystore: KeyStore) -> None:
    used: set[str] = set()
    for algorithm in (KeyAlgorithm.ECDSA_P256, KeyAlgorithm.RSA_3072):
        signer = await generate(database, keystore, algorithm)
        keystore.forget(signer.key_id)

        class Noting(Signer):
            def sign_now(self, data: bytes) -> bytes:
                used.add(f"{self.algorithm}: {threading.current_thread().name.split('_')[0]}")
                return super().sign_now(data)

        await Noting(signer.key_id, signer.algorithm, signer.spki, signer.private_key, signer._executor).sign(b"x")
    assert used == {"ecdsa-p256: MainThread", "rsa-3072: keystore"}


async def test_a_key_exists_only_once_its_transaction_committed(database: Database, keystore: KeyStore) -> None:
    made: list[Signer] = []
    with pytest.raises(RuntimeError, match="changed my mind"):
        await _generate_and_fail(database, keystore, made)
    with pytest.raises(NotFound):
        await load(database, keystore, made[0])


async def _generate_and_fail(database: Database, keystore: KeyStore, made: list[Signer]) -> None:
    async with database.transaction() as tx:
        made.append(await keystore.generate(tx, KeyAlgorithm.ED25519, "test"))
        raise RuntimeError("changed my mind")


async def test_the_database_never_holds_an_open_key(database: Database, keystore: KeyStore) -> None:
    signer = await generate(database, keystore)
    async with database.read() as view:
        row = await view.one_or_none(select(private_key))
    assert row is not None
    secret = signer.private_key.private_numbers().private_value.to_bytes(32, "big")
    assert secret not in bytes(row["sealed"])
    assert repr(secret) not in repr(signer)


async def test_without_its_master_key_a_key_cannot_be_used(database: Database, keystore: KeyStore) -> None:
    signer = await generate(database, keystore)
    stranger = KeyStore(MasterKey.generate())
    with pytest.raises(Unavailable) as refused:
        await load(database, stranger, signer)
    assert refused.value.code == "master-key-missing"
    stranger.close()


async def test_a_sealed_key_moved_to_another_row_does_not_open(database: Database, keystore: KeyStore) -> None:
    first, second = await generate(database, keystore), await generate(database, keystore)
    keystore.forget(second.key_id)
    async with database.transaction() as tx:
        sealed = await tx.scalar(select(private_key.c.sealed).where(private_key.c.id == first.key_id))
        await tx.execute(update(private_key).where(private_key.c.id == second.key_id).values(sealed=sealed))
    with pytest.raises(Unavailable) as refused:
        await load(database, keystore, second)
    assert refused.value.code == "secret-tampered"


async def test_a_replaced_public_key_is_noticed(database: Database, keystore: KeyStore) -> None:
    first, second = await generate(database, keystore), await generate(database, keystore)
    keystore.forget(second.key_id)
    async with database.transaction() as tx:
        await tx.execute(
            update(private_key).where(private_key.c.id == second.key_id).values(public_key=first.spki)
        )
    with pytest.raises(StateConflict) as refused:
        await load(database, keystore, second)
    assert refused.value.code == "key-mismatch"


async def test_a_destroyed_key_is_gone_for_good(
    database: Database, keystore: KeyStore, master_key: MasterKey
) -> None:
    signer, elsewhere = await generate(database, keystore), KeyStore(master_key)
    await load(database, elsewhere, signer)
    async with database.transaction() as tx:
        await keystore.destroy(tx, signer.key_id, principal=OPERATOR)
    with pytest.raises(NotFound):
        await load(database, keystore, signer)
    async with database.read() as view:
        await elsewhere.refresh(view)
        row = await view.one_or_none(select(private_key))
    with pytest.raises(NotFound):
        await load(database, elsewhere, signer)
    assert row is not None
    assert (row["sealed"], row["public_key"]) == (None, signer.spki)
    with pytest.raises(NotFound):
        async with database.transaction() as tx:
            await keystore.destroy(tx, signer.key_id)
    elsewhere.close()


async def test_a_key_is_exported_only_under_a_password_and_with_the_permission(
    database: Database, keystore: KeyStore
) -> None:
    signer = await generate(database, keystore)
    async with database.transaction() as tx:
        with pytest.raises(Forbidden):
            await keystore.export(tx, signer.key_id, PASSWORD, principal=Principal("user", "bob"))
        with pytest.raises(InvalidInput):
            await keystore.export(tx, signer.key_id, SecretStr("short"), principal=OPERATOR)
        pem = await keystore.export(tx, signer.key_id, PASSWORD, principal=OPERATOR)
    assert pem.startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
    opened = load_pem_private_key(pem, PASSWORD.get_secret_value().encode())
    assert algorithms.spki(opened.public_key()) == signer.spki


async def test_every_use_of_the_store_is_audited(database: Database, keystore: KeyStore) -> None:
    signer = await generate(database, keystore)
    async with database.transaction() as tx:
        await keystore.export(tx, signer.key_id, PASSWORD, principal=OPERATOR)
        await keystore.destroy(tx, signer.key_id, principal=OPERATOR)
    async with database.read() as view:
        rows = await view.all(select(audit_record).order_by(audit_record.c.seq))
    assert [(row["action"], row["object"], row["actor"]) for row in rows] == [
        (f"key.{verb}", str(signer.key_id), "root") for verb in ("generate", "export", "destroy")
    ]
    assert PASSWORD.get_secret_value() not in str([dict(row) for row in rows])


async def test_an_unknown_key_or_provider_is_said_to_be_unknown(database: Database, keystore: KeyStore) -> None:
    async with database.transaction() as tx:
        with pytest.raises(NotFound):
            await keystore.load(tx, new_id())
        with pytest.raises(NotSupported):
            await keystore.generate(tx, KeyAlgorithm.ED25519, "test", provider="pkcs11:missing")


class Token:
    """A provider that keeps keys outside the database."""

    name, slow, exportable, dispatcher = "token", True, False, None

    def __init__(self) -> None:
        self.keys: dict[object, GeneratedKey] = {}

    def generate(
        self, key_id: object, algorithm: KeyAlgorithm, label: str, *, decrypts: bool = False
    ) -> GeneratedKey:
        self.keys[key_id] = GeneratedKey(algorithms.generate_private_key(algorithm), None)
        return self.keys[key_id]

    def load(self, stored: StoredKey) -> algorithms.PrivateKey:
        return self.keys[stored.key_id].private_key

    def destroy(self, stored: StoredKey) -> None:
        del self.keys[stored.key_id]


async def test_another_provider_keeps_its_keys_to_itself(database: Database, keystore: KeyStore) -> None:
    token = Token()
    keystore.register(token)
    async with database.transaction() as tx:
        signer = await keystore.generate(tx, KeyAlgorithm.ECDSA_P384, "test", provider="token")
        assert await tx.scalar(select(private_key.c.sealed)) is None
    assert verifies(signer, await signer.sign(b"to be signed"))
    async with database.transaction() as tx:
        with pytest.raises(NotSupported):
            await keystore.export(tx, signer.key_id, PASSWORD, principal=OPERATOR)
        await keystore.destroy(tx, signer.key_id)
    assert token.keys == {}


async def test_rewrapping_is_restartable_and_the_old_key_can_go(
    database: Database, keystore: KeyStore, master_key: MasterKey
) -> None:
    signers = [await generate(database, keystore) for _ in range(7)]
    ring, seen = master_key.rotated(), list[Progress]()

    def stop_after_four(progress: Progress) -> None:
        seen.append(progress)
        if progress.done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await rewrap(database, ring, batch=2, report=stop_after_four)
    assert await outstanding(database, ring) == 3
    assert await rewrap(database, ring, batch=2) == Progress(3, 3)
    assert seen == [Progress(2, 7), Progress(4, 7)]
    fresh = KeyStore(ring.without(master_key.current))
    for signer in signers:
        assert verifies(signer, (await load(database, fresh, signer)).sign_now(b"to be signed"))
    with pytest.raises(Forbidden):
        await rewrap(database, ring, principal=Principal("user", "bob", frozenset({Permission.CA_VIEW})))
    fresh.close()


async def test_processes_that_start_together_share_one_sealing_key(
    database: Database, master_key: MasterKey
) -> None:
    stores = [KeyStore(master_key) for _ in range(4)]
    signers = await asyncio.gather(*(audit_signer(database, store) for store in stores))
    assert len({signer.key_id for signer in signers}) == 1
    async with database.read() as view:
        assert await audit_public_keys(view, stores[0]) == {signers[0].key_id: signers[0].spki}
    for store in stores:
        store.close()


def test_the_software_provider_keeps_nothing_outside_the_database(master_key: MasterKey) -> None:
    provider = SoftwareProvider(master_key)
    stored = StoredKey(new_id(), "software", KeyAlgorithm.ED25519, "test", b"", None)
    assert provider.destroy(stored) is None
    with pytest.raises(Unavailable):
        provider.load(stored)
