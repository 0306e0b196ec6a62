"""PKCS #12 files, written and read."""

from __future__ import annotations

import hashlib
import hmac

import pytest
from cryptography.hazmat.primitives.serialization import pkcs12 as pyca_pkcs12
from tests.mtls.toolkit.conftest import Identity, make_identity

from intaglio.asn1 import der
from intaglio.asn1.algorithms import KeyAlgorithm, spki
from intaglio.core.errors import InvalidInput
from intaglio.mtls.toolkit import pbe, pkcs12_reader
from intaglio.mtls.toolkit.pkcs12_reader import look_at_pkcs12, open_pkcs12
from intaglio.mtls.toolkit.pkcs12_writer import Protection, Variant, encode_pkcs12

_PASSWORD = "pässword €"


def _quick(variant: Variant) -> Protection:
    return Protection(variant, pbe.FEWEST_ITERATIONS, pbe.FEWEST_ITERATIONS + 1)


@pytest.mark.parametrize("variant", Variant)
@pytest.mark.parametrize("algorithm", [KeyAlgorithm.ECDSA_P256, KeyAlgorithm.ED25519, KeyAlgorithm.ML_DSA_65])
def test_what_is_put_in_comes_out(variant: Variant, algorithm: KeyAlgorithm) -> None:
    identity, issuer = make_identity(algorithm), make_identity(name="issuer")
    made = encode_pkcs12(
        identity.key, identity.certificate, [issuer.certificate], _PASSWORD, friendly_name="älice",
        protection=_quick(variant),
    )  # fmt: skip
    found = open_pkcs12(made, _PASSWORD)
    assert found.key_matches
    assert spki(found.key.public_key()) == spki(identity.key.public_key())
    assert (found.certificate, found.chain) == (identity.certificate, (issuer.certificate,))
    assert found.friendly_name == "älice"


@pytest.mark.parametrize("variant", Variant)
def test_another_library_reads_it(variant: Variant, alice: Identity) -> None:
    made = encode_pkcs12(
        alice.key, alice.certificate, [], _PASSWORD, friendly_name="alice", protection=_quick(variant)
    )
    found = pyca_pkcs12.load_pkcs12(made, _PASSWORD.encode())
    assert found.cert is not None
    assert found.cert.friendly_name == b"alice"


def test_the_default_is_aes_256_with_sha_256_and_many_iterations(alice: Identity) -> None:
    structure = look_at_pkcs12(encode_pkcs12(alice.key, alice.certificate, [], _PASSWORD))
    assert structure.mac is not None
    assert (structure.mac.digest, structure.mac.iterations >= 100_000) == ("sha256", True)
    for found in (*structure.key_encryptions, structure.parts[0].encryption):
        assert found is not None
        assert (found.cipher, found.prf) == ("AES-256-CBC", "PBKDF2 with HMAC-SHA-256")
        assert found.iterations is not None
        assert found.iterations >= 100_000


def test_iterations_of_the_mac_are_chosen_apart(alice: Identity) -> None:
    chosen = Protection(Variant.AES_128, 2000, 3000)
    made = encode_pkcs12(alice.key, alice.certificate, [], _PASSWORD, protection=chosen)
    structure = look_at_pkcs12(made)
    assert structure.mac is not None
    assert structure.mac.iterations == 3000
    assert structure.key_encryptions[0].iterations == 2000


def test_the_compatible_variant_is_triple_des_with_sha_1(alice: Identity) -> None:
    made = encode_pkcs12(alice.key, alice.certificate, [], _PASSWORD, protection=_quick(Variant.COMPATIBLE))
    structure = look_at_pkcs12(made)
    assert structure.mac is not None
    assert structure.mac.digest == "sha1"
    assert structure.key_encryptions[0].cipher == "pbeWithSHAAnd3-KeyTripleDES-CBC"


def test_a_wrong_password_is_told_from_a_damaged_file(alice: Identity) -> None:
    made = encode_pkcs12(alice.key, alice.certificate, [], _PASSWORD, protection=_quick(Variant.AES_256))
    assert _code(made, "wrong") == "password-wrong"
    assert _code(made[:-40], _PASSWORD) == "pkcs12-unreadable"
    assert _code(b"\x30\x03\x02\x01\x05", _PASSWORD) == "pkcs12-unreadable"


def test_a_key_of_another_certificate_is_not_packed(alice: Identity, rsa: Identity) -> None:
    with pytest.raises(InvalidInput) as refusal:
        encode_pkcs12(rsa.key, alice.certificate, [], _PASSWORD)
    assert refusal.value.code == "key-mismatch"


def test_indefinite_lengths_and_segments_are_read(alice: Identity) -> None:
    made = encode_pkcs12(alice.key, alice.certificate, [], _PASSWORD, protection=_quick(Variant.AES_256))
    assert open_pkcs12(_indefinite(made), _PASSWORD).key_matches


def test_the_newer_mac_of_rfc_9579_is_verified(alice: Identity) -> None:
    made = encode_pkcs12(alice.key, alice.certificate, [], _PASSWORD, protection=_quick(Variant.AES_256))
    modern = _with_pbmac1(made, _PASSWORD)
    found = open_pkcs12(modern, _PASSWORD)
    assert found.key_matches
    assert found.structure.mac is not None
    assert found.structure.mac.pbmac1
    assert _code(modern, "wrong") == "password-wrong"


def test_a_file_with_two_keys_is_refused_before_the_second_is_tried(alice: Identity) -> None:
    made = encode_pkcs12(alice.key, alice.certificate, [], _PASSWORD, protection=_quick(Variant.AES_256))
    version, safe, _ = der.children(der.read_tlv(made, der.SEQUENCE).content)
    octets = der.read_tlv(der.children(safe.content)[1].content, der.OCTET_STRING).content
    infos = [each.der for each in der.children(der.read_tlv(octets, der.SEQUENCE).content)]
    twice = der.sequence(*infos, infos[1])
    content = der.sequence(der.oid("1.2.840.113549.1.7.1"), der.explicit(0, der.octet_string(twice)))
    with pytest.raises(InvalidInput, match="several private keys"):
        open_pkcs12(der.sequence(version.der, content), _PASSWORD)


def test_many_parts_cannot_multiply_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pkcs12_reader, "_MOST_ITERATIONS_TOGETHER", 10_000)
    identifier, ciphertext = pbe.encrypt(der.sequence(), _PASSWORD, pbe.Encryption.AES_256, 1_000)
    encrypted = der.sequence(der.oid("1.2.840.113549.1.7.1"), identifier, der.implicit(0, ciphertext))
    wrapped = der.explicit(0, der.sequence(der.integer(0), encrypted))
    info = der.sequence(der.oid("1.2.840.113549.1.7.6"), wrapped)
    safe = der.explicit(0, der.octet_string(der.sequence(*[info] * 11)))
    data = der.sequence(der.integer(3), der.sequence(der.oid("1.2.840.113549.1.7.1"), safe))
    assert _code(data, _PASSWORD) == "iterations-out-of-range"


def test_the_key_derivation_gives_the_published_values() -> None:
    # The vectors that Bouncy Castle and OpenSSL test their derivation with.
    derive = pbe._pkcs12_derive
    salt = bytes.fromhex("0A58CF64530D823F")
    expected = "8AAAE6297B6CB04642AB5B077851284EB7128F1A2A7FBCA3"
    assert derive("sha1", 1, "smeg", salt, 1, 24) == bytes.fromhex(expected)
    salt = bytes.fromhex("05DEC959ACFF72F7")
    assert derive("sha1", 1, "queeg", salt, 1000, 24).hex().upper() == (
        "ED2034E36328830FF09DF1E1A07DD357185DAC0D4F9EB3D4"
    )


def _code(data: bytes, password: str) -> str:
    with pytest.raises(InvalidInput) as refusal:
        open_pkcs12(data, password)
    return refusal.value.code


def _indefinite(data: bytes) -> bytes:
    """The outer elements with indefinite lengths, the authenticated safe in segments, as old writers make them."""
    version, safe, mac = der.children(der.read_tlv(data, der.SEQUENCE).content)
    kind, wrapped = der.children(safe.content)
    octets = der.read_tlv(wrapped.content, der.OCTET_STRING).content
    middle = len(octets) // 2
    segments = b"\x24\x80" + der.octet_string(octets[:middle]) + der.octet_string(octets[middle:]) + b"\x00\x00"
    content = b"\x30\x80" + kind.der + b"\xa0\x80" + segments + b"\x00\x00" * 2
    return b"\x30\x80" + version.der + content + mac.der + b"\x00\x00"


def _with_pbmac1(data: bytes, password: str) -> bytes:
    version, safe, _ = der.children(der.read_tlv(data, der.SEQUENCE).content)
    octets = der.read_tlv(der.children(safe.content)[1].content, der.OCTET_STRING).content
    salt, iterations = bytes(range(8)), 2048
    key = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations, 32)
    prf = der.sequence(der.oid("1.2.840.113549.2.9"), der.null())
    derivation = der.sequence(der.octet_string(salt), der.integer(iterations), der.integer(32), prf)
    parameters = der.sequence(der.sequence(der.oid("1.2.840.113549.1.5.12"), derivation), prf)
    digest = hmac.new(key, octets, "sha256").digest()
    info = der.sequence(der.sequence(der.oid("1.2.840.113549.1.5.14"), parameters), der.octet_string(digest))
    return der.sequence(version.der, safe.der, der.sequence(info, der.octet_string(b"unused"), der.integer(1)))
