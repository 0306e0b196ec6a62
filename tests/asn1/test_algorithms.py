"""Keys and signatures: the right algorithm for every key, and no key of any other kind."""

import hashlib

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, padding, rsa, x25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from intaglio.asn1 import algorithms, der
from intaglio.asn1.algorithms import KeyAlgorithm
from intaglio.core.errors import InvalidInput

SIGNATURES = {
    KeyAlgorithm.RSA_2048: "sha256WithRSAEncryption",
    KeyAlgorithm.RSA_3072: "sha256WithRSAEncryption",
    KeyAlgorithm.RSA_4096: "sha512WithRSAEncryption",
    KeyAlgorithm.ECDSA_P256: "ecdsa-with-SHA256",
    KeyAlgorithm.ECDSA_P384: "ecdsa-with-SHA384",
    KeyAlgorithm.ECDSA_P521: "ecdsa-with-SHA512",
    KeyAlgorithm.ED25519: "Ed25519",
    KeyAlgorithm.ED448: "Ed448",
    KeyAlgorithm.ML_DSA_44: "ML-DSA-44",
    KeyAlgorithm.ML_DSA_65: "ML-DSA-65",
    KeyAlgorithm.ML_DSA_87: "ML-DSA-87",
}
QUICK = [a for a in KeyAlgorithm if a not in (KeyAlgorithm.RSA_3072, KeyAlgorithm.RSA_4096)]


@pytest.mark.parametrize("algorithm", KeyAlgorithm)
def test_the_signature_algorithm_follows_from_the_key(algorithm: KeyAlgorithm) -> None:
    assert algorithm.signature_name == SIGNATURES[algorithm]


@pytest.mark.parametrize("algorithm", QUICK)
def test_a_key_signs_with_its_algorithm_and_is_recognized(algorithm: KeyAlgorithm) -> None:
    key = algorithms.generate_private_key(algorithm)
    signature = algorithms.sign(key, b"message")
    public_key = key.public_key()
    assert algorithms.verify(public_key, algorithm.signature_oid, signature, b"message")
    assert not algorithms.verify(public_key, algorithm.signature_oid, signature, b"massage")
    assert algorithms.key_algorithm_of(key) is algorithm
    assert algorithms.load_public_key(algorithms.spki(public_key))[1] is algorithm


@pytest.mark.parametrize("algorithm", QUICK)
def test_signature_identifiers_equal_those_of_another_implementation(algorithm: KeyAlgorithm) -> None:
    key = algorithms.generate_private_key(algorithm)
    hash_algorithm = {"sha256": hashes.SHA256(), "sha384": hashes.SHA384(), "sha512": hashes.SHA512(), None: None}
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .sign(key, hash_algorithm[algorithm.hash_name])
        .public_bytes(Encoding.DER)
    )
    identifier = der.children(der.read_tlv(request).content)[1].der
    assert algorithm.signature_identifier == identifier


def test_rsa_4096_is_signed_with_sha512_and_rsa_parameters_are_null() -> None:
    assert KeyAlgorithm.RSA_4096.hash_name == "sha512"
    for algorithm in (KeyAlgorithm.RSA_2048, KeyAlgorithm.RSA_3072, KeyAlgorithm.RSA_4096):
        assert algorithm.signature_identifier.endswith(b"\x05\x00")


@pytest.mark.parametrize(
    ("text", "algorithm"),
    [
        ("P-256", KeyAlgorithm.ECDSA_P256),
        ("EC-P-256", KeyAlgorithm.ECDSA_P256),
        ("prime256v1", KeyAlgorithm.ECDSA_P256),
        ("ECDSA P-384", KeyAlgorithm.ECDSA_P384),
        ("secp521r1", KeyAlgorithm.ECDSA_P521),
        ("RSA 2048", KeyAlgorithm.RSA_2048),
        ("rsa2048", KeyAlgorithm.RSA_2048),
        ("RSA_4096", KeyAlgorithm.RSA_4096),
        ("Ed25519", KeyAlgorithm.ED25519),
        ("ML-DSA-65", KeyAlgorithm.ML_DSA_65),
        ("mldsa87", KeyAlgorithm.ML_DSA_87),
    ],
)
def test_people_may_spell_an_algorithm_as_they_are_used_to(text: str, algorithm: KeyAlgorithm) -> None:
    assert KeyAlgorithm.parse(text) is algorithm


@pytest.mark.parametrize("algorithm", KeyAlgorithm)
def test_the_stable_name_of_an_algorithm_is_read_back(algorithm: KeyAlgorithm) -> None:
    assert KeyAlgorithm.parse(algorithm.value) is algorithm
    assert KeyAlgorithm.parse(algorithm.name) is algorithm


@pytest.mark.parametrize("text", ["", "RSA 1024", "P-224", "dsa", "x25519"])
def test_an_unknown_algorithm_is_refused_with_the_list(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        KeyAlgorithm.parse(text)
    assert "ecdsa-p256" in caught.value.remedy


def test_only_112_bit_keys_carry_a_retirement_note() -> None:
    noted = [algorithm for algorithm in KeyAlgorithm if algorithm.retirement_note]
    assert noted == [KeyAlgorithm.RSA_2048]
    assert "2030-12-31" in str(KeyAlgorithm.RSA_2048.retirement_note)


def _spki(key: object) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined, no-any-return]


@pytest.mark.parametrize(
    "make",
    [
        lambda: _spki(ec.generate_private_key(ec.SECP224R1()).public_key()),
        lambda: _spki(ec.generate_private_key(ec.SECP256K1()).public_key()),
        lambda: _spki(ec.generate_private_key(ec.BrainpoolP256R1()).public_key()),
        lambda: _spki(rsa.generate_private_key(65_537, 1024).public_key()),
        lambda: _spki(dsa.generate_private_key(1024).public_key()),
        lambda: _spki(x25519.X25519PrivateKey.generate().public_key()),
    ],
    ids=["P-224", "secp256k1", "brainpool", "RSA 1024", "DSA", "X25519"],
)
def test_keys_of_other_algorithms_are_not_allowed(make: object) -> None:
    with pytest.raises(InvalidInput) as caught:
        algorithms.load_public_key(make())  # type: ignore[operator]
    assert caught.value.code == "key-algorithm-not-allowed"


def test_an_rsa_key_for_pss_only_is_not_allowed() -> None:
    plain = _spki(rsa.generate_private_key(65_537, 2048).public_key())
    bits = der.children(der.read_tlv(plain).content)[1].der
    with pytest.raises(InvalidInput, match="RSASSA-PSS only"):
        algorithms.load_public_key(der.sequence(der.sequence(der.oid(algorithms.RSASSA_PSS)), bits))


def test_a_compressed_point_is_not_allowed() -> None:
    public_key = ec.generate_private_key(ec.SECP256R1()).public_key()
    point = public_key.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    identifier = der.children(der.read_tlv(_spki(public_key)).content)[0].der
    with pytest.raises(InvalidInput, match="compressed"):
        algorithms.load_public_key(der.sequence(identifier, der.bit_string(point)))


def test_a_point_off_the_curve_is_malformed() -> None:
    good = _spki(ec.generate_private_key(ec.SECP256R1()).public_key())
    with pytest.raises(InvalidInput) as caught:
        algorithms.load_public_key(good[:-1] + bytes([good[-1] ^ 1]))
    assert caught.value.code == "invalid-public-key"


def test_sha1_signatures_are_never_valid() -> None:
    key = rsa.generate_private_key(65_537, 2048)
    signature = key.sign(b"message", padding.PKCS1v15(), hashes.SHA1())
    assert not algorithms.verify(key.public_key(), "1.2.840.113549.1.1.5", signature, b"message")


def test_a_signature_algorithm_that_does_not_fit_the_key_is_never_valid() -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    for algorithm in KeyAlgorithm:
        expected = algorithm is KeyAlgorithm.ED25519
        assert algorithms.verify(key.public_key(), algorithm.signature_oid, key.sign(b"m"), b"m") is expected


def test_the_key_identifier_is_the_truncated_sha256_of_the_key_bits() -> None:
    public_key = ec.generate_private_key(ec.SECP256R1()).public_key()
    point = public_key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    assert algorithms.key_identifier(algorithms.spki(public_key)) == hashlib.sha256(point).digest()[:20]


@given(st.binary(max_size=120))
def test_arbitrary_octets_are_no_public_key(data: bytes) -> None:
    with pytest.raises(InvalidInput):
        algorithms.load_public_key(data)


@given(st.integers(0, 90), st.integers(0, 255))
def test_a_damaged_public_key_raises_invalid_input_or_stays_a_key(position: int, octet: int) -> None:
    damaged = bytearray(_SAMPLE)
    damaged[position] = octet
    try:
        algorithms.load_public_key(bytes(damaged))
    except InvalidInput as error:
        code = error.code
    else:
        code = "unchanged" if bytes(damaged) == _SAMPLE else "accepted"
    assert code in {"unchanged", "invalid-der", "invalid-public-key", "key-algorithm-not-allowed"}


_SAMPLE = algorithms.spki(ec.derive_private_key(0x1234567, ec.SECP256R1()).public_key())
