"""PKCS #12 files open in openssl, in both encodings, and only with their password."""

from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509 as pyca
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.hazmat.primitives.serialization import pkcs12 as pyca_pkcs12
from hypothesis import given
from hypothesis import strategies as st

from intaglio.asn1 import algorithms
from intaglio.asn1.algorithms import KeyAlgorithm
from intaglio.core.errors import InvalidInput, NotSupported
from intaglio.x509.pkcs12 import decode_pkcs12, encode_pkcs12

Make = Callable[..., bytes]


def _key(algorithm: KeyAlgorithm = KeyAlgorithm.ECDSA_P256) -> algorithms.PrivateKey:
    return algorithms.generate_private_key(algorithm)


@pytest.mark.parametrize("compatibility", ["modern", "legacy"])
@pytest.mark.parametrize("algorithm", [KeyAlgorithm.RSA_2048, KeyAlgorithm.ECDSA_P256, KeyAlgorithm.ED25519])
def test_key_certificate_and_chain_come_out_as_they_went_in(
    issue: Make, compatibility: str, algorithm: KeyAlgorithm
) -> None:
    key, root = _key(algorithm), issue(subject="CN=Root,O=Example,C=CA")
    certificate = issue(key=key)
    data = encode_pkcs12(
        key, certificate, [root], "pässword", friendly_name="Zoë", compatibility=compatibility  # type: ignore[arg-type]
    )
    opened = decode_pkcs12(data, "pässword")
    assert opened.certificate_der == certificate
    assert opened.chain_ders == (root,)
    assert opened.friendly_name == "Zoë"
    assert opened.private_key is not None
    assert _octets(opened.private_key) == _octets(key)


def test_openssl_opens_a_modern_file_and_sees_its_algorithms(
    issue: Make, openssl: Callable[..., str], tmp_path: Path
) -> None:
    key = _key()
    file = tmp_path / "a.p12"
    file.write_bytes(encode_pkcs12(key, issue(key=key), [], "secret", friendly_name="alice"))
    output = openssl("pkcs12", "-in", str(file), "-passin", "pass:secret", "-nodes", "-info")
    assert "MAC: sha256" in output
    assert "PBES2, PBKDF2, AES-256-CBC" in output
    assert "friendlyName: alice" in output
    assert "BEGIN PRIVATE KEY" in output


def test_a_legacy_file_uses_what_old_clients_know(issue: Make, openssl: Callable[..., str], tmp_path: Path) -> None:
    key = _key()
    file = tmp_path / "a.p12"
    file.write_bytes(encode_pkcs12(key, issue(key=key), [], "secret", friendly_name="a", compatibility="legacy"))
    output = openssl("pkcs12", "-in", str(file), "-passin", "pass:secret", "-nodes", "-info", "-legacy")
    assert "MAC: sha1" in output
    assert "pbeWithSHA1And3-KeyTripleDES-CBC" in output


def test_the_wrong_password_opens_nothing(issue: Make) -> None:
    key = _key()
    data = encode_pkcs12(key, issue(key=key), [], "secret", friendly_name="a")
    with pytest.raises(InvalidInput) as caught:
        decode_pkcs12(data, "Secret")
    assert caught.value.code == "pkcs12-unreadable"


def test_a_key_that_does_not_belong_to_the_certificate_is_refused(issue: Make) -> None:
    with pytest.raises(InvalidInput) as caught:
        encode_pkcs12(_key(), issue(), [], "secret", friendly_name="a")
    assert caught.value.code == "key-mismatch"


def test_an_empty_password_is_refused(issue: Make) -> None:
    key = _key()
    with pytest.raises(InvalidInput) as caught:
        encode_pkcs12(key, issue(key=key), [], "", friendly_name="a")
    assert caught.value.code == "password-missing"


def test_ml_dsa_keys_are_refused_as_not_supported(issue: Make) -> None:
    key = _key(KeyAlgorithm.ML_DSA_44)
    with pytest.raises(NotSupported):
        encode_pkcs12(key, issue(key=key), [], "secret", friendly_name="a")


def test_a_file_with_certificates_only_has_no_key(issue: Make) -> None:
    certificate = issue()
    data = pyca_pkcs12.serialize_key_and_certificates(
        None, None, None, [pyca.load_der_x509_certificate(certificate)], NoEncryption()
    )
    opened = decode_pkcs12(data, "")
    assert (opened.private_key, opened.certificate_der) == (None, None)
    assert opened.chain_ders == (certificate,)


@given(st.binary(max_size=200))
def test_arbitrary_octets_are_no_file(data: bytes) -> None:
    with pytest.raises(InvalidInput):
        decode_pkcs12(data, "secret")


def test_a_file_beyond_the_limit_is_refused() -> None:
    with pytest.raises(InvalidInput):
        decode_pkcs12(bytes(2_000_000), "secret")


def _octets(key: algorithms.PrivateKey) -> bytes:
    return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
