"""Private key files."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

from intaglio.asn1.algorithms import KeyAlgorithm, generate_private_key, spki
from intaglio.core.errors import InvalidInput, Refused
from intaglio.mtls.toolkit import keys, pbe
from intaglio.mtls.toolkit.pbe import Encryption

_FEW = pbe.FEWEST_ITERATIONS


def _same(one: object, other: object) -> bool:
    return spki(one.public_key()) == spki(other.public_key())  # type: ignore[attr-defined]


@pytest.mark.parametrize("algorithm", sorted(set(KeyAlgorithm) - {KeyAlgorithm.RSA_3072, KeyAlgorithm.RSA_4096}))
@pytest.mark.parametrize("form", ["pem", "der"])
def test_a_key_comes_back_from_its_file(algorithm: KeyAlgorithm, form: keys.Form) -> None:
    key = generate_private_key(algorithm)
    written = keys.encode_key(key, "pässword", iterations=_FEW, form=form)
    assert keys.look_at_key(written).encrypted
    assert _same(keys.read_key(written, "pässword"), key)


@pytest.mark.parametrize(
    ("encryption", "cipher"),
    [(Encryption.AES_256, "AES-256-CBC"), (Encryption.AES_128, "AES-128-CBC"), (Encryption.TRIPLE_DES, "DES-EDE3-CBC")],
)
def test_the_encryption_is_the_one_that_was_asked_for(encryption: Encryption, cipher: str) -> None:
    key = generate_private_key(KeyAlgorithm.ECDSA_P256)
    found = keys.look_at_key(keys.encode_key(key, "secret", encryption=encryption, iterations=12_345)).encryption
    assert found == pbe.Described("PBES2", cipher, "PBKDF2 with HMAC-SHA-256", 12_345)


def test_a_wrong_password_is_said_to_be_wrong() -> None:
    key = generate_private_key(KeyAlgorithm.ECDSA_P256)
    written = keys.encode_key(key, "right", iterations=_FEW)
    # One guess in 256 decrypts to good padding; none may be taken for something else.
    for guess in range(300):
        with pytest.raises(InvalidInput) as refusal:
            keys.read_key(written, f"wrong-{guess}")
        assert refusal.value.code == "password-wrong"


def test_an_encrypted_key_without_password_asks_for_it() -> None:
    written = keys.encode_key(generate_private_key(KeyAlgorithm.ED25519), "secret", iterations=_FEW)
    with pytest.raises(InvalidInput) as refusal:
        keys.read_key(written)
    assert refusal.value.code == "password-missing"


def test_an_empty_password_protects_nothing() -> None:
    with pytest.raises(InvalidInput) as refusal:
        keys.encode_key(generate_private_key(KeyAlgorithm.ED25519), "")
    assert refusal.value.code == "password-missing"


def test_a_traditional_key_is_read() -> None:
    key = generate_private_key(KeyAlgorithm.ECDSA_P384)
    plain = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    locked = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, BestAvailableEncryption(b"secret"))
    assert _same(keys.read_key(plain), key)
    assert keys.look_at_key(locked).container == "traditional"
    assert _same(keys.read_key(locked, "secret"), key)


def test_scrypt_is_read() -> None:
    key = generate_private_key(KeyAlgorithm.ECDSA_P256)
    content = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    encrypted = _scrypt_encrypted(content, b"secret")
    assert keys.look_at_key(encrypted).encryption == pbe.Described("PBES2", "AES-256-CBC", "scrypt", None)
    assert _same(keys.read_key(encrypted, "secret"), key)


@pytest.mark.parametrize("iterations", [0, -1, pbe.MOST_ITERATIONS + 1, 1 << 62])
def test_iterations_that_would_never_end_are_refused(iterations: int) -> None:
    from intaglio.asn1 import der

    identifier = _pbkdf2_identifier(iterations)
    with pytest.raises(InvalidInput) as refusal:
        keys.read_key(der.sequence(identifier, der.octet_string(bytes(32))), "secret")
    assert refusal.value.code == "iterations-out-of-range"


def test_an_unknown_encryption_is_named() -> None:
    from intaglio.asn1 import der

    identifier = der.sequence(
        der.oid("1.2.840.113549.1.5.3"), der.sequence(der.octet_string(bytes(8)), der.integer(2048))
    )
    with pytest.raises(Refused) as refusal:
        keys.read_key(der.sequence(identifier, der.octet_string(bytes(32))), "secret")
    assert "pbeWithMD5AndDES-CBC" in refusal.value.detail


def test_two_keys_in_one_file_are_refused() -> None:
    one = keys.encode_key(generate_private_key(KeyAlgorithm.ED25519), None)
    with pytest.raises(InvalidInput, match="2 private keys"):
        keys.read_key(one + one)


def _pbkdf2_identifier(iterations: int) -> bytes:
    from intaglio.asn1 import der

    derivation = der.sequence(der.octet_string(bytes(8)), der.integer(iterations))
    cipher = der.sequence(der.oid("2.16.840.1.101.3.4.1.42"), der.octet_string(bytes(16)))
    return der.sequence(
        der.oid(pbe.PBES2), der.sequence(der.sequence(der.oid("1.2.840.113549.1.5.12"), derivation), cipher)
    )


def _scrypt_encrypted(content: bytes, password: bytes) -> bytes:
    from cryptography.hazmat.primitives import padding
    from cryptography.hazmat.primitives.ciphers import Cipher
    from cryptography.hazmat.primitives.ciphers.algorithms import AES
    from cryptography.hazmat.primitives.ciphers.modes import CBC
    from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

    from intaglio.asn1 import der

    salt, iv = bytes(range(16)), bytes(range(16))
    padder = padding.PKCS7(128).padder()
    encryptor = Cipher(AES(Scrypt(salt, 32, 1024, 8, 1).derive(password)), CBC(iv)).encryptor()
    ciphertext = encryptor.update(padder.update(content) + padder.finalize()) + encryptor.finalize()
    settings = der.sequence(der.octet_string(salt), der.integer(1024), der.integer(8), der.integer(1))
    derivation = der.sequence(der.oid("1.3.6.1.4.1.11591.4.11"), settings)
    cipher = der.sequence(der.oid("2.16.840.1.101.3.4.1.42"), der.octet_string(iv))
    identifier = der.sequence(der.oid(pbe.PBES2), der.sequence(derivation, cipher))
    return der.sequence(identifier, der.octet_string(ciphertext))
