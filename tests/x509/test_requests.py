"""Certificate requests of real tools are read exactly; broken, hostile or unproven ones are refused with their code."""

import base64
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509 as pyca
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st

from intaglio.asn1 import algorithms, der
from intaglio.asn1.algorithms import KeyAlgorithm
from intaglio.core.errors import InvalidInput
from intaglio.x509 import extensions as ext
from intaglio.x509.requests import parse_request, request_pem

Make = Callable[..., bytes]


def _code(data: bytes | str, **options: object) -> str:
    with pytest.raises(InvalidInput) as caught:
        parse_request(data, **options)  # type: ignore[arg-type]
    assert caught.value.detail
    return caught.value.code


def test_every_part_of_a_request_is_read(make_request: Make) -> None:
    data = make_request(
        subject="www.example.com",
        san=[pyca.DNSName("www.example.com"), pyca.DNSName("example.com")],
        extensions=((pyca.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), True),),
    )
    theirs = pyca.load_der_x509_csr(data)
    request = parse_request(data)
    assert request.der == data
    assert request.subject.der == theirs.subject.public_bytes()
    assert request.key_algorithm is KeyAlgorithm.ECDSA_P256
    assert request.spki == algorithms.spki(theirs.public_key())  # type: ignore[arg-type]
    assert request.san is not None
    assert request.san.text == ["dNSName=www.example.com", "dNSName=example.com"]
    assert [(e.oid, e.critical) for e in request.extensions] == [
        (ext.SUBJECT_ALT_NAME, False),
        (ext.EXTENDED_KEY_USAGE, True),
    ]
    purposes = request.extension(ext.EXTENDED_KEY_USAGE)
    assert purposes is not None
    assert ext.read_extended_key_usage(purposes.value) == (ext.SERVER_AUTH,)
    assert request.extension(ext.KEY_USAGE) is None


def test_der_pem_and_base64_are_the_same_request(make_request: Make) -> None:
    data = make_request()
    text = request_pem(data)
    bare = base64.b64encode(data).decode()
    wrapped = "\r\n".join(bare[i : i + 76] for i in range(0, len(bare), 76))
    for spelling in (
        data,
        text,
        text.encode(),
        text.replace("CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST"),
        f"Certificate Request:\n  Data: ...\n{text}",
        text.replace("\n", "\r\n"),
        bare,
        wrapped,
        f"  {bare}\n",
    ):
        assert parse_request(spelling).der == data


@pytest.mark.parametrize("algorithm", [a for a in KeyAlgorithm if a.value not in ("rsa-3072", "rsa-4096")])
def test_requests_of_every_algorithm_are_accepted(make_request: Make, algorithm: KeyAlgorithm) -> None:
    hash_algorithm = None if algorithm.hash_name is None else hashes.SHA256()
    data = make_request(key=algorithms.generate_private_key(algorithm), hash_algorithm=hash_algorithm)
    assert parse_request(data).key_algorithm is algorithm


def test_requests_of_openssl_are_accepted(openssl: Callable[..., str], tmp_path: Path) -> None:
    key = tmp_path / "key.pem"
    key.write_text(openssl("ecparam", "-name", "secp384r1", "-genkey", "-noout"))
    arguments = ["req", "-new", "-key", str(key), "-subj", "/C=CA/CN=x", "-addext", "subjectAltName=DNS:x,IP:::1"]
    request = parse_request(openssl(*arguments))
    assert request.subject.rfc4514 == "CN=x,C=CA"
    assert request.san is not None
    assert request.san.text == ["dNSName=x", "iPAddress=::1"]


def test_a_pss_signed_request_is_proven(rsa_key: rsa.RSAPrivateKey) -> None:
    builder = pyca.CertificateSigningRequestBuilder().subject_name(pyca.Name([]))
    pss = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH)
    data = builder.sign(rsa_key, hashes.SHA256(), rsa_padding=pss).public_bytes(Encoding.DER)
    assert parse_request(data).key_algorithm is KeyAlgorithm.RSA_2048
    assert _code(data[:-1] + bytes([data[-1] ^ 1])) == "proof-of-possession-failed"


def test_a_request_without_subject_names_or_attributes_is_read(ec_key: ec.EllipticCurvePrivateKey) -> None:
    info = der.sequence(der.integer(0), der.sequence(), algorithms.spki(ec_key.public_key()))
    request = parse_request(_sign(ec_key, info))
    assert request.subject.is_empty
    assert request.san is None
    assert request.extensions == ()


def test_a_wrong_signature_is_no_proof_of_possession(make_request: Make) -> None:
    data = make_request()
    forged = data[:-1] + bytes([data[-1] ^ 1])
    assert _code(forged) == "proof-of-possession-failed"
    assert parse_request(forged, prove_possession=False).der == forged


def test_the_key_of_somebody_else_is_no_proof_of_possession(ec_key: ec.EllipticCurvePrivateKey) -> None:
    victim = ec.generate_private_key(ec.SECP256R1()).public_key()
    info = der.sequence(der.integer(0), der.sequence(), algorithms.spki(victim), der.explicit(0, b""))
    assert _code(_sign(ec_key, info)) == "proof-of-possession-failed"


@pytest.mark.parametrize("identifier", ["3000", "3002 0500", "3003 0601ff", "3100"])
def test_a_malformed_signature_algorithm_is_refused(make_request: Make, identifier: str) -> None:
    info, _, signature = der.children(der.read_tlv(make_request()).content)
    assert _code(der.sequence(info.der, bytes.fromhex(identifier), signature.der)) == "csr-unparsable"


def test_a_sha1_signature_is_no_proof_of_possession(rsa_key: rsa.RSAPrivateKey) -> None:
    info = der.sequence(der.integer(0), der.sequence(), algorithms.spki(rsa_key.public_key()), der.explicit(0, b""))
    identifier = der.sequence(der.oid("1.2.840.113549.1.1.5"), der.null())
    signature = rsa_key.sign(info, padding.PKCS1v15(), hashes.SHA1())
    assert _code(der.sequence(info, identifier, der.bit_string(signature))) == "proof-of-possession-failed"


@pytest.mark.parametrize("curve", [ec.SECP224R1(), ec.SECP256K1()])
def test_other_curves_are_not_allowed(make_request: Make, curve: ec.EllipticCurve) -> None:
    assert _code(make_request(key=ec.generate_private_key(curve))) == "key-algorithm-not-allowed"


def test_short_rsa_keys_are_not_allowed(make_request: Make) -> None:
    assert _code(make_request(key=rsa.generate_private_key(65_537, 1024))) == "key-algorithm-not-allowed"


def test_an_rsa_exponent_of_three_is_weak(make_request: Make) -> None:
    assert _code(make_request(key=rsa.generate_private_key(3, 2048))) == "weak-key"


def test_the_number_of_names_is_bounded(make_request: Make) -> None:
    data = make_request(san=[pyca.DNSName(f"h{i}.example") for i in range(101)])
    assert _code(data) == "too-many-names"
    found = parse_request(data, max_names=101).san
    assert found is not None
    assert len(found.entries) == 101


def test_more_than_fifty_extensions_are_refused(make_request: Make) -> None:
    extensions = tuple(
        (pyca.UnrecognizedExtension(pyca.ObjectIdentifier(f"1.2.3.{i}"), b"\x05\x00"), False) for i in range(51)
    )
    assert _code(make_request(extensions=extensions)) == "csr-unparsable"
    assert len(parse_request(make_request(extensions=extensions[:50])).extensions) == 50


def test_an_extension_that_occurs_twice_is_refused(ec_key: ec.EllipticCurvePrivateKey) -> None:
    one = ext.extension(ext.TLS_FEATURE, False, der.sequence(der.integer(5)))
    attribute = der.sequence(der.oid("1.2.840.113549.1.9.14"), der.set_of(der.sequence(one, one)))
    assert _code(_request(ec_key, attribute)) == "csr-unparsable"


def test_extensions_requested_in_two_attributes_are_refused(ec_key: ec.EllipticCurvePrivateKey) -> None:
    one = ext.extension(ext.TLS_FEATURE, False, der.sequence(der.integer(5)))
    attributes = [
        der.sequence(der.oid(oid), der.set_of(der.sequence(one)))
        for oid in ("1.2.840.113549.1.9.14", "1.3.6.1.4.1.311.2.1.14")
    ]
    assert _code(_request(ec_key, *attributes)) == "csr-unparsable"
    assert len(parse_request(_request(ec_key, attributes[1])).extensions) == 1


@pytest.mark.parametrize("name", [b"a\x00.example.com", b"a\r\n.example.com", "ü.example".encode()])
def test_control_characters_in_a_dns_name_are_refused(ec_key: ec.EllipticCurvePrivateKey, name: bytes) -> None:
    san = ext.extension(ext.SUBJECT_ALT_NAME, False, der.sequence(der.tlv(0x82, name)))
    attribute = der.sequence(der.oid("1.2.840.113549.1.9.14"), der.set_of(der.sequence(san)))
    assert _code(_request(ec_key, attribute)) == "csr-unparsable"


def test_control_characters_in_the_subject_are_displayable(make_request: Make) -> None:
    request = parse_request(make_request(subject="a\x00\x1b[31mb"))
    assert request.subject.rfc4514 == "CN=a\\00\\1B[31mb"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x30",
        b"\x30\x00",
        "",
        "no base64!",
        "AAAA",
        "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n",
        "-----BEGIN CERTIFICATE REQUEST-----\n?\n-----END CERTIFICATE REQUEST-----\n",
        "-----BEGIN CERTIFICATE REQUEST-----",
        b"\x30\x84" + b"\xff" * 4,
        "M" * 200_000,
        der.octet_string(bytes(70_000)),
        der.sequence(bytes(70_000)),
        "\ud800",
    ],
)
def test_what_is_no_request_is_refused(data: bytes | str) -> None:
    assert _code(data) == "csr-unparsable"


def test_two_requests_in_one_text_are_refused(make_request: Make) -> None:
    assert _code(request_pem(make_request()) * 2) == "csr-unparsable"


def test_trailing_data_is_refused(make_request: Make) -> None:
    assert _code(make_request() + b"\x00") == "csr-unparsable"


def test_a_request_of_another_version_is_refused(ec_key: ec.EllipticCurvePrivateKey) -> None:
    info = der.sequence(der.integer(1), der.sequence(), algorithms.spki(ec_key.public_key()), der.explicit(0, b""))
    assert _code(_sign(ec_key, info)) == "csr-unparsable"


CODES = {
    "csr-unparsable", "proof-of-possession-failed", "weak-key", "key-algorithm-not-allowed", "too-many-names",
}  # fmt: skip


@given(st.data())
def test_damaged_requests_are_refused_with_a_known_code(data: st.DataObject) -> None:
    damaged = bytearray(_SAMPLE)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        request = parse_request(bytes(damaged))
    except InvalidInput as error:
        code = error.code
    else:
        code = "csr-unparsable" if request.der == _SAMPLE else "accepted"
    assert code in CODES


@given(st.data())
def test_damaged_requests_stay_displayable_without_proof(data: st.DataObject) -> None:
    damaged = bytearray(_SAMPLE)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        request = parse_request(bytes(damaged), prove_possession=False)
    except InvalidInput:
        return
    assert request.subject.rfc4514.isprintable()
    assert request.san is None or all(text.isprintable() for text in request.san.text)


@given(st.one_of(st.binary(max_size=300), st.text(max_size=300)))
def test_arbitrary_input_is_refused(data: bytes | str) -> None:
    assert _code(data) in CODES


def _sign(key: ec.EllipticCurvePrivateKey, info: bytes) -> bytes:
    identifier = KeyAlgorithm.ECDSA_P256.signature_identifier
    return der.sequence(info, identifier, der.bit_string(algorithms.sign(key, info)))


def _request(key: ec.EllipticCurvePrivateKey, *attributes: bytes) -> bytes:
    spki = algorithms.spki(key.public_key())
    return _sign(
        key, der.sequence(der.integer(0), der.sequence(), spki, der.explicit(0, b"".join(sorted(attributes))))
    )


_SAMPLE = (
    pyca.CertificateSigningRequestBuilder()
    .subject_name(pyca.Name.from_rfc4514_string("CN=www.example.com,O=Example,C=CA"))
    .add_extension(pyca.SubjectAlternativeName([pyca.DNSName("www.example.com")]), critical=False)
    .sign(ec.derive_private_key(0x1234567, ec.SECP256R1()), hashes.SHA256())
    .public_bytes(Encoding.DER)
)
