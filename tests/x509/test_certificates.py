"""Certificates: what is assembled is what others read, and what others made is read here."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509 as pyca
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
from hypothesis import given
from hypothesis import strategies as st

from intaglio.asn1 import algorithms, der
from intaglio.asn1.algorithms import KeyAlgorithm
from intaglio.core.errors import InvalidInput
from intaglio.x509 import extensions as ext
from intaglio.x509.certificates import pem, read_certificate, read_certificates
from intaglio.x509.names import Name

Make = Callable[..., bytes]


@pytest.mark.parametrize("algorithm", [a for a in KeyAlgorithm if a.value not in ("rsa-3072", "rsa-4096")])
def test_certificates_of_every_algorithm_are_read_and_verified_by_others(issue: Make, algorithm: KeyAlgorithm) -> None:
    key = algorithms.generate_private_key(algorithm)
    data = issue(issuer="CN=Root", subject="CN=Root", key=key, issuer_key=key)
    theirs = pyca.load_der_x509_certificate(data)
    theirs.verify_directly_issued_by(theirs)
    info = read_certificate(data)
    assert info.key_algorithm is algorithm
    assert info.verify_signed_by(algorithms.spki(key.public_key()))
    assert not info.verify_signed_by(
        algorithms.spki(algorithms.generate_private_key(KeyAlgorithm.ECDSA_P256).public_key())
    )


def test_every_field_agrees_with_another_implementation(issue: Make) -> None:
    data = issue()
    ours, theirs = read_certificate(data), pyca.load_der_x509_certificate(data)
    assert int.from_bytes(ours.serial) == theirs.serial_number
    assert ours.subject.der == theirs.subject.public_bytes()
    assert ours.issuer.der == theirs.issuer.public_bytes()
    assert (ours.not_before, ours.not_after) == (theirs.not_valid_before_utc, theirs.not_valid_after_utc)
    assert ours.fingerprint == theirs.fingerprint(hashes.SHA256())
    assert ours.tbs == theirs.tbs_certificate_bytes
    assert ours.signature == theirs.signature
    assert [(e.oid, e.critical, e.value) for e in ours.extensions] == [
        (e.oid.dotted_string, e.critical, e.value.public_bytes()) for e in theirs.extensions
    ]
    assert (ours.is_ca, ours.path_len) == (False, None)
    assert ours.key_usage == {"digitalSignature"}
    assert ours.eku == (ext.SERVER_AUTH, ext.CLIENT_AUTH)
    assert ours.san is not None
    assert ours.san.text == ["dNSName=www.example.com"]
    assert ours.ski == theirs.extensions.get_extension_for_class(pyca.SubjectKeyIdentifier).value.digest
    assert ours.aki == theirs.extensions.get_extension_for_class(pyca.AuthorityKeyIdentifier).value.key_identifier
    assert ours.crl_urls == ("http://pki.example.com/ca.crl",)
    assert ours.ocsp_urls == ("http://pki.example.com/ocsp",)
    assert ours.issuer_urls == ("http://pki.example.com/ca.crt",)
    assert ours.policies == ()


def test_a_long_multi_valued_subject_is_copied_byte_for_byte(issue: Make) -> None:
    name = Name.parse("CN=a+UID=b+OU=c,1.2.3.4=#1e0400410042,O=Example")
    info = read_certificate(issue(subject=name.rfc4514))
    assert info.subject.der == name.der


def test_dates_from_2050_are_understood_by_others(issue: Make) -> None:
    until = datetime(2061, 1, 1, tzinfo=UTC)
    data = issue(not_after=until)
    assert pyca.load_der_x509_certificate(data).not_valid_after_utc == until
    assert read_certificate(data).not_after == until


def test_a_serial_number_with_its_high_bit_set_stays_positive(issue: Make) -> None:
    data = issue(serial=b"\xff" + bytes(15))
    assert pyca.load_der_x509_certificate(data).serial_number == 0xFF << 120
    assert read_certificate(data).serial == b"\xff" + bytes(15)


def test_openssl_accepts_the_chain_under_strict_rules(
    issue: Make, ca_extensions: Make, openssl: Callable[..., str], tmp_path: Path, now: datetime
) -> None:
    root_key, key = (algorithms.generate_private_key(KeyAlgorithm.ECDSA_P384) for _ in range(2))
    root_spki = algorithms.spki(root_key.public_key())
    root = issue(
        subject="CN=Root,O=Example,C=CA", key=root_key, issuer_key=root_key, extensions=ca_extensions(root_spki)
    )
    leaf = issue(key=key, issuer_key=root_key)
    (tmp_path / "root.pem").write_text(pem(root))
    (tmp_path / "leaf.pem").write_text(pem(leaf))
    output = openssl(
        "verify", "-x509_strict", "-check_ss_sig", "-purpose", "sslserver", "-attime", str(int(now.timestamp())),
        "-CAfile", str(tmp_path / "root.pem"), str(tmp_path / "leaf.pem"),
    )  # fmt: skip
    assert output.strip().endswith("OK")


def test_pem_der_and_base64_are_the_same_certificate(issue: Make) -> None:
    data = issue()
    assert pem(data) == pyca.load_der_x509_certificate(data).public_bytes(Encoding.PEM).decode()
    bare = "".join(pem(data).splitlines()[1:-1])
    for spelling in (data, pem(data), pem(data).encode(), f"subject=...\n{pem(data)}", bare):
        assert read_certificate(spelling).der == data


def test_bundles_are_read_in_their_order(issue: Make) -> None:
    leaf, root = issue(), issue(subject="CN=Root,O=Example,C=CA")
    assert [c.der for c in read_certificates(pem(leaf) + pem(root))] == [leaf, root]
    with pytest.raises(InvalidInput, match="2 certificates"):
        read_certificate(pem(leaf) + pem(root))


@pytest.mark.parametrize("encoding", [Encoding.DER, Encoding.PEM])
def test_pkcs7_files_are_read(issue: Make, encoding: Encoding) -> None:
    both = {issue(), issue(subject="CN=Root,O=Example,C=CA")}
    data = pkcs7.serialize_certificates([pyca.load_der_x509_certificate(c) for c in both], encoding)
    assert {c.der for c in read_certificates(data)} == both


def test_a_certificate_signed_with_pss_is_verified(rsa_key: rsa.RSAPrivateKey, now: datetime) -> None:
    name = pyca.Name.from_rfc4514_string("CN=Root")
    pss = padding.PSS(padding.MGF1(hashes.SHA384()), padding.PSS.DIGEST_LENGTH)
    data = (
        pyca.CertificateBuilder(name, name, rsa_key.public_key(), 5, now, now + timedelta(days=1))
        .sign(rsa_key, hashes.SHA384(), rsa_padding=pss)
        .public_bytes(Encoding.DER)
    )
    info = read_certificate(data)
    assert info.verify_signed_by(info.spki)
    assert not read_certificate(data[:-1] + bytes([data[-1] ^ 1])).verify_signed_by(info.spki)
    assert info.key_usage is None
    assert info.eku is None
    assert info.ski is None


def test_a_certificate_for_a_foreign_key_is_readable(now: datetime, ec_key: ec.EllipticCurvePrivateKey) -> None:
    name = pyca.Name.from_rfc4514_string("CN=x")
    foreign = ec.generate_private_key(ec.BrainpoolP256R1())
    data = pyca.CertificateBuilder(name, name, foreign.public_key(), 5, now, now + timedelta(days=1)).sign(
        ec_key, hashes.SHA256()
    )
    info = read_certificate(data.public_bytes(Encoding.DER))
    assert info.key_algorithm is None
    with pytest.raises(InvalidInput):
        _ = info.public_key


@pytest.mark.parametrize(
    "data", [b"", b"\x30\x00", "x", "AAAA", der.sequence(der.sequence(), der.sequence(), der.bit_string(b"")), b"\xff"]
)
def test_what_is_no_certificate_is_refused(data: bytes | str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read_certificate(data)
    assert caught.value.code == "certificate-unparsable"


def test_two_different_signature_algorithms_are_refused(issue: Make) -> None:
    data = issue()
    tbs, _, signature = der.children(der.read_tlv(data).content)
    with pytest.raises(InvalidInput, match="differ"):
        read_certificate(
            der.sequence(tbs.der, KeyAlgorithm.ECDSA_P384.signature_identifier, signature.der)
        )


def test_the_size_of_what_is_read_is_bounded(issue: Make) -> None:
    with pytest.raises(InvalidInput, match="longer than"):
        read_certificate(issue(extensions=ext.extension("1.2.3", False, bytes(70_000))))
    with pytest.raises(InvalidInput, match="100"):
        read_certificates(pem(issue()) * 101)
    with pytest.raises(InvalidInput, match="longer than"):
        read_certificates(bytes(2_000_000))


@given(st.data())
def test_damaged_certificates_are_readable_or_refused(data: st.DataObject) -> None:
    damaged = bytearray(_SAMPLE)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        info = read_certificate(bytes(damaged))
    except InvalidInput:
        return
    assert info.subject.rfc4514.isprintable()
    assert info.der == _SAMPLE or not info.verify_signed_by(_SAMPLE_SPKI)


_SAMPLE_KEY = ec.derive_private_key(0x1234567, ec.SECP256R1())
_SAMPLE_SPKI = algorithms.spki(_SAMPLE_KEY.public_key())
_SAMPLE = (
    pyca.CertificateBuilder(
        pyca.Name.from_rfc4514_string("CN=Root,O=Example"),
        pyca.Name.from_rfc4514_string("CN=www.example.com,O=Example,C=CA"),
        _SAMPLE_KEY.public_key(),
        0x1234567890,
        datetime(2026, 1, 1, tzinfo=UTC),
        datetime(2027, 1, 1, tzinfo=UTC),
    )
    .add_extension(pyca.SubjectAlternativeName([pyca.DNSName("www.example.com")]), critical=False)
    .add_extension(pyca.BasicConstraints(True, 1), critical=True)
    .add_extension(pyca.KeyUsage(True, False, False, False, False, True, True, False, False), critical=True)
    .sign(_SAMPLE_KEY, hashes.SHA256(), ecdsa_deterministic=True)
    .public_bytes(Encoding.DER)
)
