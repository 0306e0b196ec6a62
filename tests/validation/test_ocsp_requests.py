"""The request parser: what it takes, what it refuses, and that rubbish never gets further."""

from __future__ import annotations

import base64
import contextlib
from datetime import timedelta
from functools import cache

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from hypothesis import given
from hypothesis import strategies as st
from tests.support.foreign import ForeignCa

from intaglio.asn1 import der
from intaglio.core import clock
from intaglio.core.errors import InvalidInput
from intaglio.validation.ocsp.requestors import authorized_by
from intaglio.validation.ocsp.requests import (
    MAX_CERTIFICATES,
    MAX_REQUEST_OCTETS,
    MAX_SIGNER_CERTIFICATES,
    RequestSignature,
    decode_get_path,
    parse_request,
)
from intaglio.x509.certificates import CertificateInfo

_NONCE = der.oid("1.3.6.1.5.5.7.48.1.2")


def _cert_id(serial: int = 0x1234) -> bytes:
    algorithm = der.sequence(der.oid("2.16.840.1.101.3.4.2.1"))
    return der.sequence(algorithm, der.octet_string(bytes(32)), der.octet_string(bytes(32)), der.integer(serial))


def _request(*entries: bytes, before: bytes = b"", extensions: bytes = b"", after: bytes = b"") -> bytes:
    listed = der.sequence(*(entries or (der.sequence(_cert_id()),)))
    return der.sequence(der.sequence(before, listed, extensions), after)


def _extensions(*entries: bytes, tag: int = 2) -> bytes:
    return der.explicit(tag, der.sequence(*entries))


def _extension(oid: str, value: bytes, *, critical: bool = False) -> bytes:
    return der.sequence(der.oid(oid), der.boolean(True) if critical else b"", der.octet_string(value))


def _nonce(octets: int) -> bytes:
    return der.sequence(_NONCE, der.octet_string(der.octet_string(bytes(octets))))


@given(
    st.integers(1, 2**159 - 1),
    st.sampled_from([hashes.SHA1(), hashes.SHA256(), hashes.SHA384(), hashes.SHA512()]),
    st.none() | st.binary(min_size=1, max_size=128),
)
def test_what_another_library_writes_is_understood(
    serial: int, algorithm: hashes.HashAlgorithm, nonce: bytes | None
) -> None:
    size = algorithm.digest_size
    builder = ocsp.OCSPRequestBuilder().add_certificate_by_hash(b"n" * size, b"k" * size, serial, algorithm)
    if nonce is not None:
        builder = builder.add_extension(x509.OCSPNonce(nonce), critical=False)
    request = parse_request(builder.build().public_bytes(Encoding.DER))
    (asked,) = request.certificates
    assert asked.serial is not None
    assert int.from_bytes(asked.serial, "big") == serial
    assert asked.issuer.endswith(der.octet_string(b"n" * size) + der.octet_string(b"k" * size))
    assert request.nonce == (None if nonce is None else der.octet_string(nonce))


def test_unsigned_and_signed_named_and_versioned_requests_are_taken() -> None:
    signature = der.explicit(0, der.sequence(der.sequence(der.oid("1.2.840.10045.4.3.2")), der.bit_string(b"x")))
    name = der.explicit(1, der.explicit(4, der.sequence()))
    for request in (
        _request(),
        _request(after=signature),
        _request(before=name),
        _request(before=der.explicit(0, der.integer(0)) + name),
    ):
        assert len(parse_request(request).certificates) == 1


def test_a_negative_serial_number_is_nobodys() -> None:
    assert parse_request(_request(der.sequence(_cert_id(-5)))).certificates[0].serial is None


@pytest.mark.parametrize("octets", [1, 32, 128])
def test_nonces_of_permitted_lengths_are_taken(octets: int) -> None:
    assert parse_request(_request(extensions=_extensions(_nonce(octets)))).nonce == der.octet_string(bytes(octets))


def test_what_may_be_ignored_is_ignored_even_when_critical() -> None:
    acceptable = _extension("1.3.6.1.5.5.7.48.1.4", der.sequence(der.oid("1.3.6.1.5.5.7.48.1.1")), critical=True)
    assert parse_request(_request(extensions=_extensions(acceptable))).nonce is None


@pytest.mark.parametrize(
    ("what", "request_der"),
    [
        ("empty", b""),
        ("trailing data", _request() + b"\0"),
        ("no certificate", der.sequence(der.sequence(der.sequence()))),
        ("too many certificates", _request(*[der.sequence(_cert_id())] * (MAX_CERTIFICATES + 1))),
        ("too large", _request(before=der.explicit(1, der.octet_string(bytes(MAX_REQUEST_OCTETS))))),
        ("version 2", _request(before=der.explicit(0, der.integer(1)))),
        ("fields out of order", der.sequence(der.sequence(_extensions(_nonce(8)), der.sequence(_cert_id())))),
        ("a repeated field", _request(before=der.explicit(0, der.integer(0)) * 2)),
        ("an empty nonce", _request(extensions=_extensions(_nonce(0)))),
        ("a nonce of 129 octets", _request(extensions=_extensions(_nonce(129)))),
        ("a bare nonce", _request(extensions=_extensions(der.sequence(_NONCE, der.octet_string(b"12345678"))))),
        ("two nonces", _request(extensions=_extensions(_nonce(8), _nonce(8)))),
        ("no extension in Extensions", _request(extensions=_extensions())),
        ("unknown critical extension", _request(extensions=_extensions(_extension("1.2.3.4", b"x", critical=True)))),
        (
            "unknown critical extension of one certificate",
            _request(der.sequence(_cert_id(), _extensions(_extension("1.2.3.4", b"x", critical=True), tag=0))),
        ),
        ("a padded serial number", _request().replace(b"\x02\x02\x12\x34", b"\x02\x02\x00\x34")),
    ],
)
def test_malformed_requests_are_refused(what: str, request_der: bytes) -> None:
    with pytest.raises(InvalidInput):
        parse_request(request_der)


@given(st.binary(max_size=300))
def test_random_octets_are_refused(data: bytes) -> None:
    with pytest.raises(InvalidInput):
        parse_request(data)


@given(st.data())
def test_a_damaged_request_is_understood_or_refused_and_nothing_else(data: st.DataObject) -> None:
    request = bytearray(_request(extensions=_extensions(_nonce(16), _extension("1.3.6.1.5.5.7.48.1.8", b"x"))))
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(request) - 1))
        if data.draw(st.booleans()):
            request[position] = data.draw(st.integers(0, 255))
        else:
            del request[position]
    with contextlib.suppress(InvalidInput):
        assert parse_request(bytes(request)).certificates


_ECDSA = der.sequence(der.oid("1.2.840.10045.4.3.2"))


def _signed(*parts: bytes) -> bytes:
    """A request with a Signature of these parts."""
    tbs = der.children(der.read_tlv(_request()).content)[0].der
    return der.sequence(tbs, der.explicit(0, der.sequence(*parts)))


def _certs(*certificates: bytes) -> bytes:
    return der.explicit(0, der.sequence(*certificates))


def test_a_signature_is_read_with_its_certificates_and_what_it_is_over() -> None:
    request = _signed(_ECDSA, der.bit_string(b"signature"), _certs(b"\x30\x00", b"\x30\x01\x05"))
    signature = parse_request(request).signature
    assert signature is not None
    assert signature.signed == der.children(der.read_tlv(request).content)[0].der
    assert (signature.algorithm, signature.value) == ("1.2.840.10045.4.3.2", b"signature")
    assert signature.certificates == (b"\x30\x00", b"\x30\x01\x05")
    assert signature.requestor == b""


@pytest.mark.parametrize(
    ("what", "parts"),
    [
        ("nothing", ()),
        ("no value", (_ECDSA,)),
        ("no algorithm", (der.bit_string(b"signature"),)),
        ("an algorithm without a name", (der.sequence(), der.bit_string(b"signature"))),
        ("unused bits", (_ECDSA, der.bit_string(b"\x80", 7))),
        ("certificates untagged", (_ECDSA, der.bit_string(b"s"), der.sequence())),
        ("one part too many", (_ECDSA, der.bit_string(b"s"), _certs(), _certs())),
        ("too many", (_ECDSA, der.bit_string(b"s"), _certs(*[der.sequence()] * (MAX_SIGNER_CERTIFICATES + 1)))),
    ],
)
def test_malformed_signatures_are_refused(what: str, parts: tuple[bytes, ...]) -> None:
    with pytest.raises(InvalidInput):
        parse_request(_signed(*parts))


@given(st.data())
def test_a_damaged_signed_request_is_understood_or_refused_and_nobody_authorized_by(data: st.DataObject) -> None:
    ca, _, request = _really_signed()
    damaged = bytearray(request)
    for _ in range(data.draw(st.integers(1, 3))):
        position = data.draw(st.integers(0, len(damaged) - 1))
        damaged[position] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(InvalidInput):
        found = parse_request(bytes(damaged))
        if found.signature is not None and found.signature.signed not in request:
            assert not authorized_by(found.signature, ca, clock.now())


def test_an_undamaged_signed_request_is_authorized_by_its_ca_only() -> None:
    ca, _, request = _really_signed()
    signature = parse_request(request).signature
    assert signature is not None
    assert authorized_by(signature, ca, clock.now())
    assert not authorized_by(signature, ForeignCa("Requestors").pem, clock.now())
    assert not authorized_by(signature, ca, clock.now() + timedelta(days=91))


def test_certificates_that_all_name_each_other_cost_no_more_than_some_signatures(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    verified, usual = 0, CertificateInfo.verify_signed_by

    def counted(self: CertificateInfo, spki: bytes) -> bool:
        nonlocal verified
        verified += 1
        return usual(self, spki)

    monkeypatch.setattr(CertificateInfo, "verify_signed_by", counted)
    key = ec.generate_private_key(ec.SECP256R1())
    mutual = [ForeignCa("Mutual", key) for _ in range(MAX_SIGNER_CERTIFICATES - 1)]
    certificate, own_key = mutual[0].end_entity()
    offered = (certificate.public_bytes(Encoding.DER), *(each.der for each in mutual))
    value = own_key.sign(b"a request", ec.ECDSA(hashes.SHA256()))
    signature = RequestSignature(b"a request", b"", "1.2.840.10045.4.3.2", value, offered)
    trusted = "".join(ForeignCa("Mutual").pem for _ in range(8))
    assert authorized_by(signature, trusted, clock.now()) == ()
    assert verified <= 16


@cache
def _really_signed() -> tuple[str, bytes, bytes]:
    """The PEM of a CA, the certificate of a requestor, and a request that he signed."""
    ca = ForeignCa("Requestors")
    certificate, key = ca.end_entity()
    encoded = certificate.public_bytes(Encoding.DER)
    tbs = der.children(der.read_tlv(_request()).content)[0].der
    signature = key.sign(tbs, ec.ECDSA(hashes.SHA256()))
    return ca.pem, encoded, der.sequence(
        tbs, der.explicit(0, der.sequence(_ECDSA, der.bit_string(signature), _certs(encoded)))
    )


@given(st.binary(min_size=1, max_size=400), st.booleans(), st.integers(0, 2), st.booleans())
def test_a_path_is_decoded_with_and_without_padding_in_both_alphabets(
    data: bytes, padded: bool, slashes: int, url_safe: bool
) -> None:
    text = (base64.urlsafe_b64encode(data) if url_safe else base64.b64encode(data)).decode()
    if text.startswith("/"):
        return  # a SEQUENCE never does
    assert decode_get_path("/" * slashes + (text if padded else text.rstrip("="))) == data


@given(st.text(max_size=200))
def test_a_path_of_any_text_is_decoded_or_refused(text: str) -> None:
    with contextlib.suppress(InvalidInput):
        assert isinstance(decode_get_path(text), bytes)
