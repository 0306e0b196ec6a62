"""CRLs: others read every entry and extension, openssl accepts them, and size stays cheap."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509 as pyca
from cryptography.hazmat.primitives.asymmetric import ec

from intaglio.asn1 import algorithms
from intaglio.asn1.algorithms import KeyAlgorithm
from intaglio.core.errors import InvalidInput
from intaglio.x509 import crls, pem
from intaglio.x509 import extensions as ext
from intaglio.x509.names import Name

ISSUER = Name.parse("CN=Root,O=Example,C=CA")
KEY_ID = b"k" * 20


def _crl(key: ec.EllipticCurvePrivateKey, now: datetime, entries: bytes = b"", **options: object) -> bytes:
    identifier = KeyAlgorithm.ECDSA_P256.signature_identifier
    arguments: dict[str, object] = {
        "signature_identifier": identifier,
        "issuer_der": ISSUER.der,
        "this_update": now,
        "next_update": now + timedelta(days=1),
        "entries": entries,
        "number": 7,
        "aki": KEY_ID,
    }
    tbs = crls.assemble_tbs_crl(**(arguments | options))  # type: ignore[arg-type]
    return crls.assemble_crl(tbs, identifier, algorithms.sign(key, tbs))


@pytest.mark.parametrize("code", sorted(crls.REASONS.values()))
def test_every_reason_is_read_by_others(ec_key: ec.EllipticCurvePrivateKey, now: datetime, code: int) -> None:
    serial = b"\xab" * 20
    found = pyca.load_der_x509_crl(_crl(ec_key, now, crls.revoked_entry(serial, now, code)))
    assert found.is_signature_valid(ec_key.public_key())
    (entry,) = found
    assert entry.serial_number == int.from_bytes(serial)
    assert entry.revocation_date_utc == now
    reasons = [e.value.reason for e in entry.extensions if isinstance(e.value, pyca.CRLReason)]
    # RFC 5280 section 5.3.1: the reason should be absent instead of unspecified.
    assert [reason.value for reason in reasons] == [n for n, c in crls.REASONS.items() if c == code and c]


def test_an_entry_carries_invalidity_date_and_certificate_issuer(
    ec_key: ec.EllipticCurvePrivateKey, now: datetime
) -> None:
    entry = crls.revoked_entry(b"\x05", now, 1, now - timedelta(days=3), Name.parse("CN=Other").der)
    scope = crls.issuing_distribution_point(indirect=True)
    (found,) = pyca.load_der_x509_crl(_crl(ec_key, now, entry, idp=scope))
    values = {type(e.value): (e.critical, e.value) for e in found.extensions}
    assert values[pyca.InvalidityDate] == (False, pyca.InvalidityDate(datetime(2026, 5, 29, 12, 0)))  # noqa: DTZ001
    assert values[pyca.CertificateIssuer][0] is True
    assert found.serial_number == 5


def test_an_empty_crl_has_no_list(ec_key: ec.EllipticCurvePrivateKey, now: datetime) -> None:
    found = pyca.load_der_x509_crl(_crl(ec_key, now))
    assert len(found) == 0
    assert found.extensions.get_extension_for_class(pyca.CRLNumber).value.crl_number == 7
    assert found.extensions.get_extension_for_class(pyca.AuthorityKeyIdentifier).value.key_identifier == KEY_ID


def test_a_delta_crl_names_its_base(ec_key: ec.EllipticCurvePrivateKey, now: datetime) -> None:
    found = pyca.load_der_x509_crl(_crl(ec_key, now, delta_base=6))
    indicator = found.extensions.get_extension_for_class(pyca.DeltaCRLIndicator)
    assert (indicator.critical, indicator.value.crl_number) == (True, 6)


def test_a_complete_crl_says_where_its_deltas_are(ec_key: ec.EllipticCurvePrivateKey, now: datetime) -> None:
    found = pyca.load_der_x509_crl(_crl(ec_key, now, freshest_urls=["http://a/d.crl"]))
    points = list(found.extensions.get_extension_for_class(pyca.FreshestCRL).value)
    assert points[0].full_name == [pyca.UniformResourceIdentifier("http://a/d.crl")]


def test_a_partition_names_its_scope(ec_key: ec.EllipticCurvePrivateKey, now: datetime) -> None:
    scope = crls.issuing_distribution_point("http://a/p1.crl", only_user=True)
    found = pyca.load_der_x509_crl(_crl(ec_key, now, idp=scope))
    extension = found.extensions.get_extension_for_class(pyca.IssuingDistributionPoint)
    assert extension.critical
    assert extension.value.only_contains_user_certs
    assert not extension.value.only_contains_ca_certs
    assert extension.value.full_name == [pyca.UniformResourceIdentifier("http://a/p1.crl")]


@pytest.mark.parametrize(
    "options",
    [
        {"number": -1},
        {"number": 1 << 159},
        {"delta_base": 7},
        {"delta_base": 6, "freshest_urls": ["http://a/"]},
        {"next_update": datetime(2026, 6, 1, 12, 0, tzinfo=UTC)},
    ],
)
def test_fields_that_do_not_go_together_are_refused(
    ec_key: ec.EllipticCurvePrivateKey, now: datetime, options: dict[str, object]
) -> None:
    with pytest.raises(InvalidInput):
        _crl(ec_key, now, **options)


@pytest.mark.parametrize("reason", [7, 11, -1])
def test_numbers_that_are_no_reason_are_refused(now: datetime, reason: int) -> None:
    with pytest.raises(InvalidInput):
        crls.revoked_entry(b"\x01", now, reason)
    with pytest.raises(InvalidInput):
        crls.revoked_entry(b"\x01", now, reason, now)


def test_serial_numbers_longer_than_20_octets_are_refused(now: datetime) -> None:
    with pytest.raises(InvalidInput):
        crls.revoked_entry(b"\x01" * 22, now, 1)
    with pytest.raises(InvalidInput):
        crls.revoked_entry(b"", now, 1)


def test_scopes_that_restrict_nothing_or_everything_are_refused() -> None:
    with pytest.raises(InvalidInput):
        crls.issuing_distribution_point()
    with pytest.raises(InvalidInput):
        crls.issuing_distribution_point("http://a/", only_user=True, only_ca=True)


def test_openssl_reads_and_verifies_a_crl(
    ec_key: ec.EllipticCurvePrivateKey,
    now: datetime,
    issue: Callable[..., bytes],
    ca_extensions: Callable[..., bytes],
    openssl: Callable[..., str],
    tmp_path: Path,
) -> None:
    extensions = ca_extensions(algorithms.spki(ec_key.public_key()))
    root = issue(subject=ISSUER.rfc4514, key=ec_key, issuer_key=ec_key, extensions=extensions)
    (tmp_path / "root.pem").write_text(pem.encode("CERTIFICATE", root))
    data = _crl(ec_key, now, crls.revoked_entry(b"\x7f\x01", now, crls.REASONS["keyCompromise"]))
    output = openssl(
        "crl", "-inform", "DER", "-noout", "-text", "-CAfile", str(tmp_path / "root.pem"), data=data
    )
    assert "verify OK" in output
    assert "Serial Number: 7F01" in output
    assert "Key Compromise" in output


def test_a_crl_of_many_entries_holds_them_all(ec_key: ec.EllipticCurvePrivateKey, now: datetime) -> None:
    serials = [number.to_bytes(20) for number in range(1 << 150, (1 << 150) + 5_000)]
    data = _crl(ec_key, now, b"".join(crls.revoked_entry(serial, now, None) for serial in serials))
    found = pyca.load_der_x509_crl(data)
    assert {entry.serial_number for entry in found} == {int.from_bytes(serial) for serial in serials}
    assert ext.CRL_NUMBER in {extension.oid.dotted_string for extension in found.extensions}
