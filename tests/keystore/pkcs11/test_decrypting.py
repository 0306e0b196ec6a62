"""RSA keys in a real token (SoftHSM 2) that decrypt what was encrypted for them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from tests.support.tokens import SoftHsm

from intaglio.asn1.algorithms import KeyAlgorithm, sign
from intaglio.core.errors import NotSupported
from intaglio.core.identifiers import new_id
from intaglio.keystore.pkcs11.mechanisms import RAW_RSA, unpadded
from intaglio.keystore.pkcs11.provider import Pkcs11Provider

RSA = KeyAlgorithm.RSA_2048


@pytest.fixture
def provider(tmp_path: Path) -> Pkcs11Provider:
    hsm = SoftHsm(tmp_path)
    hsm.make("one")
    return Pkcs11Provider(hsm.settings("one"))


def made(provider: Pkcs11Provider, *, decrypts: bool = True) -> rsa.RSAPrivateKey:
    key = provider.generate(new_id(), RSA, "a test", decrypts=decrypts).private_key
    assert isinstance(key, rsa.RSAPrivateKey)
    return key


@pytest.mark.parametrize("raw", [True, False])
def test_a_key_that_is_made_to_decrypt_decrypts_and_signs(provider: Pkcs11Provider, raw: bool) -> None:
    key = made(provider)
    if not raw:
        provider.token.mechanisms -= {RAW_RSA}
    for secret in (b"", b"x", os.urandom(32), bytes(200)):
        assert key.decrypt(key.public_key().encrypt(secret, padding.PKCS1v15()), padding.PKCS1v15()) == secret
    assert sign(key, b"data")


def test_what_cannot_be_decrypted_disturbs_nobody(provider: Pkcs11Provider) -> None:
    key = made(provider)
    epoch = provider.token._library.epoch
    for nonsense in (b"", b"short", bytes(256), b"\xff" * 256, b"\x01" + os.urandom(255)):
        with pytest.raises(ValueError, match="decryption failed"):
            key.decrypt(nonsense, padding.PKCS1v15())
    assert provider.token._library.epoch == epoch
    assert provider.token.fault is None


def test_a_key_that_is_made_to_sign_does_not_decrypt(provider: Pkcs11Provider) -> None:
    key = made(provider, decrypts=False)
    with pytest.raises(NotSupported) as refusal:
        key.decrypt(key.public_key().encrypt(b"secret", padding.PKCS1v15()), padding.PKCS1v15())
    assert refusal.value.code == "token-not-capable"


def test_other_paddings_are_not_for_tokens(provider: Pkcs11Provider) -> None:
    key, oaep = made(provider), padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
    with pytest.raises(NotSupported):
        key.decrypt(key.public_key().encrypt(b"secret", oaep), oaep)


@pytest.mark.parametrize(
    ("block", "content"),
    [
        (b"\0\x02" + b"p" * 8 + b"\0secret", b"secret"),
        (b"\x02" + b"p" * 8 + b"\0secret", b"secret"),  # without the leading zero, as some tokens give it
        (b"\0\x02" + b"p" * 7 + b"\0secret", None),  # the padding is too short
        (b"\0\x01" + b"p" * 8 + b"\0secret", None),
        (b"\0\x02" + b"p" * 14, None),
    ],
)
def test_padding_is_taken_off_as_the_standard_says(block: bytes, content: bytes | None) -> None:
    size = 17 if content is not None else len(block)
    assert unpadded(block, size) == content
