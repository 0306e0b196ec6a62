from __future__ import annotations

import asyncio
import contextlib
import hashlib

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from hypothesis import given
from hypothesis import strategies as st
from tests.audit.conftest import Seal, Verify, Write
from tests.support.eventually import eventually

from intaglio.audit import merkle, proofs, sealing
from intaglio.core.errors import NotFound, StateConflict
from intaglio.db.engine import Database
from intaglio.keystore.audit_key import audit_signer
from intaglio.keystore.service import KeyStore

# RFC 6962 test vectors as used by certificate transparency implementations: leaves and the root over all of them.
LEAVES = [bytes.fromhex(text) for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657")]
LEAVES.append(bytes.fromhex("606162636465666768696a6b6c6d6e6f"))
ROOT = "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"


def test_hash_trees_are_those_of_certificate_transparency() -> None:
    assert merkle.root_hash([]).hex() == hashlib.sha256(b"").hexdigest()
    assert merkle.root_hash(map(merkle.leaf_hash, LEAVES)).hex() == ROOT


@given(st.integers(1, 70), st.data())
def test_every_leaf_has_a_path_to_the_root_and_no_other_leaf_does(size: int, data: st.DataObject) -> None:
    leaves = [merkle.leaf_hash(bytes([number])) for number in range(size)]
    index = data.draw(st.integers(0, size - 1))
    path = merkle.inclusion_path(leaves, index)
    root = merkle.root_hash(leaves)
    assert merkle.root_from_path(leaves[index], index, size, path) == root
    assert merkle.root_from_path(merkle.leaf_hash(b"other"), index, size, path) != root
    assert merkle.root_from_path(leaves[index], size, size, path) is None
    assert merkle.root_from_path(leaves[index], index, size, [*path, root]) != root


async def test_sealing_nothing_makes_no_seal(database: Database, keystore: KeyStore, seal: Seal) -> None:
    await seal()
    signer = await audit_signer(database, keystore)
    assert await sealing.seal_once(database, signer) == 0


async def test_a_backlog_is_sealed_in_chunks(database: Database, keystore: KeyStore, write: Write) -> None:
    signer = await audit_signer(database, keystore)
    await write(24)
    assert [await sealing.seal_once(database, signer, chunk=10) for _ in range(4)] == [10, 10, 5, 0]
    async with database.read() as view:
        assert await sealing.unsealed(view) == 0


async def test_two_sealers_make_one_chain(database: Database, keystore: KeyStore, write: Write, verify: Verify) -> None:
    signer = await audit_signer(database, keystore)
    await write(40)
    sealed = sum(await asyncio.gather(*(sealing.seal_once(database, signer, chunk=7) for _ in range(6))))
    assert 7 <= sealed <= 42
    while await sealing.seal_once(database, signer, chunk=7):
        pass
    assert (await verify()).intact


async def test_records_are_sealed_within_a_second_of_being_written(
    database: Database, keystore: KeyStore, write: Write
) -> None:
    sealer = sealing.Sealer(database, lambda: audit_signer(database, keystore))
    running = asyncio.create_task(sealer.run())
    try:
        await write(3)
        await sealer.wake()
        await eventually(lambda: _all_sealed(database))
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


async def _all_sealed(database: Database) -> bool:
    async with database.read() as view:
        return await sealing.unsealed(view) == 0


async def test_a_record_can_be_proved_elsewhere(
    database: Database, keystore: KeyStore, write: Write, seal: Seal
) -> None:
    await write(23)
    await seal()
    signer = await audit_signer(database, keystore)
    async with database.read() as view:
        made = [await proofs.inclusion_proof(view, seq, signer.spki) for seq in (1, 7, 10, 11, 20, 24)]
    assert all(proofs.proof_is_valid(proof, signer.spki) for proof in made)
    assert load_pem_public_key(made[0]["publicKey"].encode())
    other = {**made[0], "record": made[1]["record"]}
    assert not proofs.proof_is_valid(other, signer.spki)
    assert not proofs.proof_is_valid({**made[0], "signed": made[4]["signed"]}, signer.spki)
    assert not proofs.proof_is_valid({**made[0], "record": made[0]["record"].replace("root", "r00t")}, signer.spki)
    assert not proofs.proof_is_valid({}, signer.spki)
    assert not proofs.proof_is_valid(made[0], b"no key")


async def test_there_is_no_proof_before_the_seal(database: Database, write: Write) -> None:
    await write(1)
    async with database.read() as view:
        with pytest.raises(StateConflict) as refused:
            await proofs.inclusion_proof(view, 1)
        with pytest.raises(NotFound):
            await proofs.inclusion_proof(view, 2)
    assert refused.value.code == "not-sealed-yet"
