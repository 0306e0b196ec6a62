"""Reading CRLs: what real ones say, and that nothing else gets through."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from intaglio.asn1 import algorithms, der
from intaglio.core.errors import IntaglioError
from intaglio.x509 import crls
from intaglio.x509 import extensions as ext
from intaglio.x509.crl_reading import Crl, Entry, read_crl
from intaglio.x509.names import Name

_NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
_KEY = ec.generate_private_key(ec.SECP256R1())
_NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "CA")])


def _builder() -> x509.CertificateRevocationListBuilder:
    builder = x509.CertificateRevocationListBuilder().issuer_name(_NAME)
    return builder.last_update(_NOW).next_update(_NOW + timedelta(days=1))


def _revoked(serial: int, *extensions: x509.ExtensionType, at: datetime = _NOW) -> x509.RevokedCertificate:
    builder = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(at)
    for extension in extensions:
        builder = builder.add_extension(extension, False)
    return builder.build()


def _data(*revoked: x509.RevokedCertificate) -> bytes:
    builder = _builder().add_extension(x509.CRLNumber(5), False)
    for each in revoked:
        builder = builder.add_revoked_certificate(each)
    return builder.sign(_KEY, hashes.SHA256()).public_bytes(Encoding.DER)


_SAMPLE = _data(
    _revoked(1),
    _revoked(0xFF, x509.CRLReason(x509.ReasonFlags.key_compromise)),
    _revoked(2**150, x509.InvalidityDate(_NOW - timedelta(days=3)), at=datetime(2051, 1, 1, tzinfo=UTC)),
)


def test_everything_of_an_entry_is_read() -> None:
    entries = list(read_crl(_SAMPLE).entries())
    assert entries == [
        Entry(b"\x01", _NOW, None, None),
        Entry(b"\xff", _NOW, 1, None),
        Entry((2**150).to_bytes(19), datetime(2051, 1, 1, tzinfo=UTC), None, _NOW - timedelta(days=3)),
    ]


def test_the_frame_is_read() -> None:
    crl = read_crl(_SAMPLE)
    assert (crl.number, crl.delta_base, crl.is_delta) == (5, None, False)
    assert (crl.this_update, crl.next_update) == (_NOW, _NOW + timedelta(days=1))
    assert crl.issuer.rfc4514 == "CN=CA"


@pytest.mark.parametrize(
    "key", [_KEY, ed25519.Ed25519PrivateKey.generate(), rsa.generate_private_key(65537, 2048)], ids=["ec", "ed", "rsa"]
)
def test_signatures_are_verified(key: ec.EllipticCurvePrivateKey) -> None:
    digest = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    crl = read_crl(_builder().sign(key, digest).public_bytes(Encoding.DER))
    assert crl.is_signed_by(algorithms.spki(key.public_key()))
    assert not crl.is_signed_by(algorithms.spki(ec.generate_private_key(ec.SECP256R1()).public_key()))


@pytest.mark.parametrize("digest", [hashes.SHA256(), hashes.SHA384(), hashes.SHA512()])
def test_pss_signatures_are_verified(digest: hashes.HashAlgorithm) -> None:
    key = rsa.generate_private_key(65537, 2048)
    scheme = padding.PSS(padding.MGF1(digest), digest.digest_size)
    data = _builder().sign(key, digest, rsa_padding=scheme).public_bytes(Encoding.DER)
    assert read_crl(data).is_signed_by(algorithms.spki(key.public_key()))
    assert not read_crl(data[:-1] + bytes([data[-1] ^ 1])).is_signed_by(algorithms.spki(key.public_key()))


def test_a_sha1_signature_is_not_trusted() -> None:
    key = rsa.generate_private_key(65537, 2048)
    tbs = read_crl(_SAMPLE).tbs
    identifier = der.sequence(der.oid("1.2.840.113549.1.1.5"), der.null())
    signature = key.sign(bytes(tbs), padding.PKCS1v15(), hashes.SHA1())
    made = Crl(**{**vars(read_crl(_SAMPLE)), "signature_identifier": identifier, "signature": signature})
    assert not made.is_signed_by(algorithms.spki(key.public_key()))


def _assembled(entries: bytes, **changes: object) -> bytes:
    name = der.sequence(der.set_of(der.sequence(der.oid("2.5.4.3"), der.utf8_string("CA"))))
    identifier = algorithms.key_algorithm_of(_KEY).signature_identifier
    tbs = crls.assemble_tbs_crl(
        signature_identifier=identifier, issuer_der=name, this_update=_NOW, next_update=_NOW + timedelta(days=1),
        entries=entries, number=1, aki=b"1" * 20, **changes,  # type: ignore[arg-type]
    )  # fmt: skip
    return crls.assemble_crl(tbs, identifier, algorithms.sign(_KEY, tbs))


@given(st.lists(st.tuples(st.integers(1, 2**158), st.sampled_from([None, 1, 3, 4, 5, 6, 9, 10])), max_size=30))
def test_what_is_assembled_is_read_again(revoked: list[tuple[int, int | None]]) -> None:
    octets = [(serial.to_bytes((serial.bit_length() + 7) // 8), reason) for serial, reason in revoked]
    data = _assembled(b"".join(crls.revoked_entry(serial, _NOW, reason) for serial, reason in octets))
    assert [(entry.serial, entry.reason) for entry in read_crl(data).entries()] == octets


def test_a_negative_serial_number_is_left_out() -> None:
    odd = der.sequence(b"\x02\x01\x80", der.utc_or_generalized_time(_NOW))
    data = _assembled(odd + crls.revoked_entry(b"\x07", _NOW, None))
    assert [entry.serial for entry in read_crl(data).entries()] == [b"\x07"]


def test_an_entry_of_another_issuer_is_refused() -> None:
    name = der.sequence(der.set_of(der.sequence(der.oid("2.5.4.3"), der.utf8_string("Other"))))
    data = _assembled(crls.revoked_entry(b"\x07", _NOW, None, certificate_issuer=name))
    with pytest.raises(IntaglioError) as caught:
        list(read_crl(data).entries())
    assert caught.value.code == "crl-not-understood"


_NAMES = [der.sequence(der.set_of(der.sequence(der.oid("2.5.4.3"), der.utf8_string(each)))) for each in ("CA", "Other")]
_INDIRECT = crls.issuing_distribution_point(indirect=True)


@given(st.lists(st.sampled_from([None, 0, 1]), max_size=12), st.sampled_from([0, 1]))
def test_an_entry_of_an_indirect_crl_is_about_the_ca_that_was_named_last(named: list[int | None], wanted: int) -> None:
    entries, expected, current = [], [], 0
    for serial, place in enumerate(named, 1):
        issuer = None if place is None else _NAMES[place]
        entries.append(crls.revoked_entry(bytes([serial]), _NOW, None, certificate_issuer=issuer))
        current = current if place is None else place
        expected += [bytes([serial])] if current == wanted else []
    crl = read_crl(_assembled(b"".join(entries), idp=_INDIRECT))
    found = crl.entries({Name.from_der(_NAMES[wanted]).key})
    assert [entry.serial for entry in found] == expected
    assert list(crl.entries()) == []


@given(st.binary(max_size=40))
def test_any_octets_in_the_place_of_a_certificate_issuer_are_refused_in_good_order(value: bytes) -> None:
    issuer = ext.extension(ext.CERTIFICATE_ISSUER, True, value)
    entry = der.sequence(der.integer(7), der.utc_or_generalized_time(_NOW), der.sequence(issuer))
    crl = read_crl(_assembled(entry, idp=_INDIRECT))
    with pytest.raises(IntaglioError):
        list(crl.entries({Name.from_der(_NAMES[0]).key}))


def test_more_reasons_than_there_are_are_refused_at_once() -> None:
    scope = der.sequence(der.implicit(3, b"\x00" + b"\xff" * 300_000))
    with pytest.raises(IntaglioError):
        read_crl(_assembled(b"", idp=scope))
    some = read_crl(_assembled(b"", idp=der.sequence(der.implicit(3, b"\x07\x7f\x80")))).scope
    assert some.reasons == frozenset(range(1, 9))


def test_remove_from_crl_belongs_into_deltas() -> None:
    entry = crls.revoked_entry(b"\x07", _NOW, 8)
    with pytest.raises(IntaglioError):
        list(read_crl(_assembled(entry)).entries())
    delta = read_crl(_assembled(entry, delta_base=0))
    assert [each.reason for each in delta.entries()] == [8]


def _walk(data: bytes) -> None:
    try:
        crl = read_crl(data)
        for entry in crl.entries():
            assert 0 < len(entry.serial) <= 40
        crl.is_signed_by(algorithms.spki(_KEY.public_key()))
    except IntaglioError:
        pass


@given(st.binary(max_size=300))
def test_octets_that_are_no_crl_are_refused_in_good_order(data: bytes) -> None:
    _walk(data)
    _walk(b"0" + data)


@given(st.integers(0, len(_SAMPLE) - 1), st.integers(0, 255), st.integers(0, 4))
def test_changed_octets_never_break_the_reader(position: int, value: int, cut: int) -> None:
    changed = bytearray(_SAMPLE)
    changed[position] = value
    _walk(bytes(changed[: len(changed) - cut]))


@given(st.binary(max_size=60))
def test_any_octets_in_the_place_of_the_entries_are_refused_in_good_order(entries: bytes) -> None:
    _walk(_assembled(entries))
