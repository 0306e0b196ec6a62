from intaglio.asn1.algorithms import KeyAlgorithm
from intaglio.db.engine import Database
from intaglio.keystore.service import KeyStore


async def test_a_generated_key_signs(database: Database, keystore: KeyStore) -> None:
    async with database.transaction() as tx:
        signer = await keystore.generate(tx, KeyAlgorithm.ECDSA_P256, "test")
    assert await signer.sign(b"x")


async def test_a_generated_key_signs2(database: Database, keystore: KeyStore) -> None:
    async with database.transaction() as tx:
        signer = await keystore.generate(tx, KeyAlgorithm.ECDSA_P256, "test")
    assert await signer.sign(b"x")
