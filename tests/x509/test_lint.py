"""The lint finds what breaks a standard, and leaves a correct certificate alone."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from intaglio.asn1 import algorithms, der
from intaglio.asn1.algorithms import KeyAlgorithm
from intaglio.x509 import crls
from intaglio.x509 import extensions as ext
from intaglio.x509.certificates import assemble_tbs, read_certificate
from intaglio.x509.lint import deep_lint, lint_certificate
from intaglio.x509.names import Name

Make = Callable[..., bytes]
X = ext.extension
SKI = X(ext.SUBJECT_KEY_IDENTIFIER, False, ext.subject_key_identifier(b"s" * 20))
AKI = X(ext.AUTHORITY_KEY_IDENTIFIER, False, ext.authority_key_identifier(b"a" * 20))
LEAF = X(ext.BASIC_CONSTRAINTS, True, ext.basic_constraints(False))
CA = X(ext.BASIC_CONSTRAINTS, True, ext.basic_constraints(True, 0))
KU = X(ext.KEY_USAGE, True, ext.key_usage(["digitalSignature"]))
CA_KU = X(ext.KEY_USAGE, True, ext.key_usage(["keyCertSign", "cRLSign"]))
PLAIN_CA = X(ext.BASIC_CONSTRAINTS, False, ext.basic_constraints(True))
CRITICAL_AKI = X(ext.AUTHORITY_KEY_IDENTIFIER, True, ext.authority_key_identifier(b"a"))
TWICE = X(ext.EXTENDED_KEY_USAGE, False, der.sequence(der.oid("1.2.3") * 2))
EKU = X(ext.EXTENDED_KEY_USAGE, False, ext.extended_key_usage([ext.SERVER_AUTH]))


def _san(tag: int, octets: bytes, critical: bool = False) -> bytes:
    return X(ext.SUBJECT_ALT_NAME, critical, der.sequence(der.tlv(tag, octets)))


def _codes(data: bytes, severity: str = "error") -> list[str]:
    return [finding.code for finding in lint_certificate(data) if finding.severity == severity]


def test_a_correct_certificate_has_no_findings(issue: Make) -> None:
    assert lint_certificate(issue()) == []
    assert lint_certificate(issue(sign=False)) == []


def test_pkilint_agrees_that_a_correct_certificate_is_correct(issue: Make) -> None:
    assert deep_lint(issue()) == []


def test_correct_ca_certificates_have_no_findings(issue: Make, ec_key: ec.EllipticCurvePrivateKey) -> None:
    identifier = ext.subject_key_identifier(algorithms.key_identifier(algorithms.spki(ec_key.public_key())))
    own = CA + CA_KU + X(ext.SUBJECT_KEY_IDENTIFIER, False, identifier)
    subordinate = issue(extensions=own + AKI, key=ec_key)
    root = issue(extensions=own, issuer="CN=a", subject="CN=a", key=ec_key, issuer_key=ec_key)
    for data in (subordinate, root):
        assert lint_certificate(data) == []
        assert deep_lint(data) == []


@pytest.mark.parametrize(
    ("code", "extensions"),
    [
        ("ca-key-usage", LEAF + CA_KU + SKI + AKI),
        ("ca-key-usage", CA + KU + SKI + AKI),
        ("ca-key-usage", CA + SKI + AKI),
        ("path-length", X(ext.BASIC_CONSTRAINTS, True, der.sequence(der.integer(0))) + KU + SKI + AKI),
        ("basic-constraints-not-critical", PLAIN_CA + CA_KU + SKI + AKI),
        ("key-usage-empty", LEAF + X(ext.KEY_USAGE, True, ext.key_usage([])) + SKI + AKI),
        ("subject-key-identifier", LEAF + KU + AKI),
        ("authority-key-identifier", LEAF + KU + SKI),
        ("key-identifier-critical", LEAF + KU + SKI + CRITICAL_AKI),
        ("unreadable", LEAF + KU + KU + SKI + AKI),
        ("usage-inconsistent", LEAF + X(ext.KEY_USAGE, True, ext.key_usage(["nonRepudiation"])) + EKU + SKI + AKI),
        ("extended-key-usage-twice", LEAF + KU + SKI + AKI + TWICE),
        ("san-syntax", LEAF + KU + SKI + AKI + _san(0x82, b"two words")),
        ("san-syntax", LEAF + KU + SKI + AKI + _san(0x82, b"a.*.example")),
        ("san-syntax", LEAF + KU + SKI + AKI + _san(0x81, b"no mailbox")),
        ("san-syntax", LEAF + KU + SKI + AKI + _san(0x86, b"no-scheme")),
        ("san-malformed", LEAF + KU + SKI + AKI + X(ext.SUBJECT_ALT_NAME, False, der.sequence())),
        ("unreadable", LEAF + b"\x30\x01\x00"),
    ],
)  # fmt: skip
def test_broken_extensions_are_errors(issue: Make, code: str, extensions: bytes) -> None:
    assert code in _codes(issue(extensions=extensions))


@pytest.mark.parametrize(
    ("code", "parts"),
    [
        ("subject-empty", {"subject": ""}),
        ("issuer-empty", {"issuer": ""}),
        ("serial-number", {"serial": b"\x00"}),
        ("serial-number", {"serial": b"\x01" * 21}),
        ("serial-number", {"serial": b"\xff" * 20}),
        ("validity-order", {"not_after": datetime(2020, 1, 1, tzinfo=UTC)}),
        ("attribute-length", {"subject": "CN=#0c" + der.utf8_string("x" * 65)[1:].hex()}),
        ("control-character", {"subject": "CN=bank.example\\00.evil.example"}),
        ("control-character", {"subject": "CN=#" + der.utf8_string("a\u202emoc.elpmaxe").hex()}),
        ("control-character", {"subject": "1.2.3.4=#" + der.utf8_string("a\x1b[2J").hex()}),
        ("attribute-type", {"subject": "CN=#" + der.octet_string(b"a.example").hex()}),
        ("country", {"subject": "C=#" + der.printable_string("Canada").hex()}),
        ("country", {"subject": "C=#" + der.utf8_string("CA").hex()}),
    ],
)
def test_broken_fields_are_errors(issue: Make, code: str, parts: dict[str, object]) -> None:
    assert code in _codes(issue(**parts))


def test_an_empty_subject_is_fine_with_a_critical_alternative_name(issue: Make) -> None:
    named = LEAF + KU + SKI + AKI + _san(0x82, b"a.example", critical=True)
    assert _codes(issue(subject="", extensions=named)) == []
    assert "san-critical" in _codes(issue(extensions=named), "warning")


def test_wrong_time_encodings_are_errors(issue: Make) -> None:
    data = issue(sign=False)
    late = der.sequence(b"\x17\x0d260531120000Z", b"\x18\x0f20270601120000Z")
    validity = der.sequence(b"\x17\x0d260531120000Z", b"\x17\x0d270601120000Z")
    assert validity in data
    assert "validity-encoding" in _codes(der.sequence(der.read_tlv(data).content.replace(validity, late)))


def test_dates_around_2050_are_compared_by_their_moment(issue: Make) -> None:
    early, late = datetime(2049, 12, 31, tzinfo=UTC), datetime(2050, 1, 1, tzinfo=UTC)
    assert _codes(issue(not_before=early, not_after=late)) == []
    assert "validity-order" in _codes(issue(not_before=late, not_after=early))


def test_encipherment_with_a_signature_key_is_a_warning(issue: Make, rsa_key: algorithms.PrivateKey) -> None:
    usage = X(ext.KEY_USAGE, True, ext.key_usage(["digitalSignature", "keyEncipherment"]))
    assert _codes(issue(extensions=LEAF + usage + SKI + AKI), "warning") == ["key-usage-algorithm"]
    assert lint_certificate(issue(key=rsa_key, extensions=LEAF + usage + SKI + AKI)) == []


def test_a_time_stamping_purpose_that_is_not_critical_is_a_warning(issue: Make) -> None:
    for critical, expected in ((False, ["time-stamping"]), (True, [])):
        purpose = X(ext.EXTENDED_KEY_USAGE, critical, ext.extended_key_usage([ext.TIME_STAMPING]))
        assert _codes(issue(extensions=LEAF + KU + purpose + SKI + AKI), "warning") == expected


def test_characters_outside_a_printable_string_are_a_warning(issue: Make) -> None:
    subject = "CN=#" + der.tlv(der.PRINTABLE_STRING, b"*.example_com").hex()
    assert _codes(issue(subject=subject), "warning") == ["printable-string"]


@pytest.mark.parametrize("kind", ["certificate", "crl", "ocsp-response"])
def test_pkilint_reports_unreadable_octets(kind: str) -> None:
    assert [finding.severity for finding in deep_lint(b"\x31\x00", kind)] == ["error"]  # type: ignore[arg-type]


def test_pkilint_finds_what_the_quick_lint_leaves_to_it(issue: Make) -> None:
    points = X(ext.CRL_DISTRIBUTION_POINTS, False, ext.crl_distribution_points(["http://a_b/"]))
    assert any(finding.severity == "error" for finding in deep_lint(issue(extensions=LEAF + KU + SKI + AKI + points)))


def test_pkilint_accepts_a_crl(ec_key: ec.EllipticCurvePrivateKey, now: datetime) -> None:
    identifier = KeyAlgorithm.ECDSA_P256.signature_identifier
    tbs = crls.assemble_tbs_crl(
        signature_identifier=identifier,
        issuer_der=Name.parse("CN=Root,C=CA").der,
        this_update=now,
        next_update=now + timedelta(days=1),
        entries=crls.revoked_entry(b"\x05", now, 1),
        number=1,
        aki=b"k" * 20,
    )
    assert deep_lint(crls.assemble_crl(tbs, identifier, algorithms.sign(ec_key, tbs)), "crl") == []


@given(st.data())
def test_the_lint_never_raises(data: st.DataObject) -> None:
    damaged = bytearray(_SAMPLE)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    findings = lint_certificate(bytes(damaged))
    assert all(finding.severity in ("error", "warning") and finding.text for finding in findings)


@given(st.binary(max_size=100))
def test_arbitrary_octets_are_unreadable(data: bytes) -> None:
    assert [finding.code for finding in lint_certificate(data)] == ["unreadable"]


def test_the_lint_and_the_reader_agree_on_the_sample() -> None:
    assert lint_certificate(_SAMPLE) == []
    wrapped = der.sequence(_SAMPLE, KeyAlgorithm.ECDSA_P256.signature_identifier, der.bit_string(b""))
    assert read_certificate(wrapped).key_usage == {"digitalSignature"}


_SAMPLE = assemble_tbs(
    serial=b"\x42" * 20,
    signature_identifier=KeyAlgorithm.ECDSA_P256.signature_identifier,
    issuer_der=Name.parse("CN=Root,O=Example").der,
    not_before=datetime(2026, 1, 1, tzinfo=UTC),
    not_after=datetime(2027, 1, 1, tzinfo=UTC),
    subject_der=Name.parse("CN=www.example.com,O=Example,C=CA").der,
    spki=algorithms.spki(ec.derive_private_key(0x1234567, ec.SECP256R1()).public_key()),
    extensions=LEAF + KU + EKU + SKI + AKI + _san(0x82, b"www.example.com"),
)
