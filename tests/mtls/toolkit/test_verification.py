"""The verdict on a certificate, and the step at which it falls."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from tests.mtls.toolkit.conftest import NOW, Identity

from intaglio.core import clock
from intaglio.mtls.toolkit.verification import Question, Verdict, verify
from intaglio.x509.certificates import CertificateInfo, read_certificate

_ASKED = Question(at=NOW, purpose="client")
_USAGE = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
_CA_USAGE = x509.KeyUsage(False, False, False, False, False, True, True, False, False)


@dataclass(frozen=True)
class Node:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def info(self) -> CertificateInfo:
        return read_certificate(self.certificate.public_bytes(Encoding.DER))


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def make_node(
    name: str,
    issuer: Node | None = None,
    *,
    ca: bool = False,
    path_length: int | None = None,
    days: int = 30,
    start: datetime = NOW - timedelta(days=1),
    sans: Sequence[x509.GeneralName] = (),
    eku: Sequence[x509.ObjectIdentifier] = (),
    more: Sequence[tuple[Any, bool]] = (),
) -> Node:
    key = ec.generate_private_key(ec.SECP256R1())
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(issuer.certificate.subject if issuer else _name(name))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca, path_length), True)
        .add_extension(_CA_USAGE if ca else _USAGE, True)
    )
    if sans:
        builder = builder.add_extension(x509.SubjectAlternativeName(sans), False)
    if eku:
        builder = builder.add_extension(x509.ExtendedKeyUsage(eku), False)
    for value, critical in more:
        builder = builder.add_extension(value, critical)
    return Node(builder.sign(issuer.key if issuer else key, SHA256()), key)


@pytest.fixture(scope="module")
def root() -> Node:
    return make_node("root", ca=True, days=365)


@pytest.fixture(scope="module")
def issuing(root: Node) -> Node:
    return make_node("issuing", root, ca=True, path_length=0)


def _judged(leaf: Node, others: Sequence[Node], trusted: Sequence[Node], asked: Question = _ASKED) -> Verdict:
    return verify(leaf.info, [each.info for each in others], [each.info for each in trusted], asked)


def _fell_at(verdict: Verdict) -> str:
    assert not verdict.valid
    return next(step.name for step in verdict.steps if step.holds is False)


def test_a_good_certificate_holds_at_every_step(root: Node, issuing: Node) -> None:
    leaf = make_node("alice", issuing, eku=[ExtendedKeyUsageOID.CLIENT_AUTH])
    verdict = _judged(leaf, [issuing], [root])
    assert verdict.valid
    assert [str(each.subject) for each in verdict.chain] == ["CN=alice", "CN=issuing", "CN=root"]


def test_a_missing_issuer_is_named(root: Node, issuing: Node) -> None:
    verdict = _judged(make_node("alice", issuing), [], [root])
    assert _fell_at(verdict) == "chain"
    assert "CN=issuing" in verdict.reason
    assert "unknown_ca" in verdict.reason


def test_a_self_signed_certificate_nobody_trusts_is_refused(alice: Identity, root: Node) -> None:
    verdict = verify(read_certificate(alice.certificate), [], [root.info], _ASKED)
    assert "self_signed" in verdict.reason


def test_an_impostor_of_the_issuer_is_recognised_by_the_signature(root: Node, issuing: Node) -> None:
    impostor = make_node("issuing", root, ca=True)
    assert "bad_signature" in _judged(make_node("alice", impostor), [issuing], [root]).reason


@pytest.mark.parametrize(("shift", "code"), [(timedelta(days=60), "expired"), (timedelta(days=-2), "not_yet_valid")])
def test_dates_are_looked_at_in_the_whole_chain(root: Node, issuing: Node, shift: timedelta, code: str) -> None:
    leaf = make_node("alice", issuing, start=NOW - timedelta(days=100), days=300)
    verdict = _judged(leaf, [issuing], [root], replace(_ASKED, at=NOW + shift))
    assert _fell_at(verdict) == "validity"
    assert code in verdict.reason


def test_an_end_entity_issues_nothing(root: Node, issuing: Node) -> None:
    not_a_ca = make_node("bob", issuing)
    assert _fell_at(_judged(make_node("alice", not_a_ca), [not_a_ca, issuing], [root])) == "issuers"


def test_a_path_length_is_kept(root: Node, issuing: Node) -> None:
    below = make_node("below", issuing, ca=True)
    assert _fell_at(_judged(make_node("alice", below), [below, issuing], [root])) == "issuers"


@pytest.mark.parametrize(
    ("san", "allowed"),
    [
        (x509.DNSName("a.good.example"), True),
        (x509.DNSName("good.example"), True),
        (x509.DNSName("notgood.example"), False),
        (x509.DNSName("bad.good.example"), False),
        (x509.RFC822Name("alice@good.example"), True),
        (x509.RFC822Name("alice@sub.good.example"), False),
        (x509.IPAddress(ipaddress.ip_address("192.0.2.7")), True),
        (x509.IPAddress(ipaddress.ip_address("198.51.100.7")), False),
        (x509.UniformResourceIdentifier("spiffe://trust.example/svc"), True),
        (x509.UniformResourceIdentifier("spiffe://other.example/svc"), False),
        (x509.RegisteredID(x509.ObjectIdentifier("1.2.3")), True),
    ],
)
def test_name_constraints_bind_what_is_below(root: Node, san: x509.GeneralName, allowed: bool) -> None:
    permitted = [
        x509.DNSName("good.example"), x509.RFC822Name("good.example"), x509.UniformResourceIdentifier("trust.example"),
        x509.IPAddress(ipaddress.ip_network("192.0.2.0/24")),
    ]  # fmt: skip
    constraints = x509.NameConstraints(permitted, [x509.DNSName("bad.good.example")])
    ca = make_node("constrained", root, ca=True, more=[(constraints, True)])
    verdict = _judged(make_node("alice", ca, sans=[san]), [ca], [root])
    assert verdict.valid == allowed, verdict.reason
    if not allowed:
        assert _fell_at(verdict) == "names"


def test_an_unknown_critical_extension_is_fatal(root: Node, issuing: Node) -> None:
    strange = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00")
    assert _fell_at(_judged(make_node("alice", issuing, more=[(strange, True)]), [issuing], [root])) == "extensions"
    assert _judged(make_node("alice", issuing, more=[(strange, False)]), [issuing], [root]).valid


def test_a_server_certificate_is_no_client_certificate(root: Node, issuing: Node) -> None:
    leaf = make_node("www", issuing, eku=[ExtendedKeyUsageOID.SERVER_AUTH])
    assert "bad_purpose" in _judged(leaf, [issuing], [root]).reason
    assert _judged(leaf, [issuing], [root], replace(_ASKED, purpose="server")).valid


@pytest.mark.parametrize(
    ("host", "holds"),
    [
        ("www.example.com", True), ("WWW.example.com", True), ("a.wild.example", True), ("a.b.wild.example", False),
        ("wild.example", False), ("192.0.2.1", True), ("192.0.2.2", False), ("2001:db8::1", True), ("common", False),
    ],
)  # fmt: skip
def test_the_host_name_must_be_one_of_the_alternative_names(root: Node, host: str, holds: bool) -> None:
    sans = [
        x509.DNSName("www.example.com"), x509.DNSName("*.wild.example"),
        *(x509.IPAddress(ipaddress.ip_address(each)) for each in ("192.0.2.1", "2001:db8:0::1")),
    ]  # fmt: skip
    leaf = make_node("common", root, sans=sans)
    assert _judged(leaf, [], [root], replace(_ASKED, purpose="server", host=host)).valid == holds


def test_cas_that_certify_each_other_do_not_keep_the_search_busy(root: Node) -> None:
    ring = [make_node(f"ca{number}", ca=True) for number in range(8)]
    crossed = [
        _crossed(subject, issuer) for subject in ring for issuer in ring if subject is not issuer
    ]
    leaf = make_node("alice", ring[0])
    before = clock.monotonic()
    verdict = _judged(leaf, [*ring, *crossed], [root])
    assert not verdict.valid
    assert clock.monotonic() - before < 20


def _crossed(subject: Node, issuer: Node) -> Node:
    """The key and name of ``subject``, certified by ``issuer``."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject.certificate.subject)
        .issuer_name(issuer.certificate.subject)
        .public_key(subject.key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - timedelta(days=1))
        .not_valid_after(NOW + timedelta(days=30))
        .add_extension(x509.BasicConstraints(True, None), True)
        .add_extension(_CA_USAGE, True)
    )
    return Node(builder.sign(issuer.key, SHA256()), subject.key)


# ---- status ----------------------------------------------------------------------------------------------------------


def _crl(issuer: Node, revoked: Sequence[Node] = (), *, next_update: datetime = NOW + timedelta(days=1)) -> bytes:
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(NOW - timedelta(days=2))
        .next_update(next_update)
    )
    for node in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(node.certificate.serial_number)
        builder = builder.add_revoked_certificate(entry.revocation_date(NOW - timedelta(hours=1)).build())
    return builder.sign(issuer.key, SHA256()).public_bytes(Encoding.DER)


def _ocsp(issuer: Node, node: Node, status: ocsp.OCSPCertStatus, *, signer: Node | None = None) -> bytes:
    revoked = status is ocsp.OCSPCertStatus.REVOKED
    builder = (
        ocsp.OCSPResponseBuilder()
        .add_response(
            node.certificate, issuer.certificate, SHA256(), status, NOW - timedelta(hours=1), NOW + timedelta(hours=1),
            NOW - timedelta(hours=2) if revoked else None, None,
        )
        .responder_id(ocsp.OCSPResponderEncoding.HASH, (signer or issuer).certificate)
    )  # fmt: skip
    if signer is not None:
        builder = builder.certificates([signer.certificate])
    return builder.sign((signer or issuer).key, SHA256()).public_bytes(Encoding.DER)


def test_a_revoked_certificate_is_refused_by_crl_and_by_ocsp(root: Node) -> None:
    leaf = make_node("alice", root)
    for asked in (
        replace(_ASKED, crls=[_crl(root, [leaf])]),
        replace(_ASKED, ocsp=[_ocsp(root, leaf, ocsp.OCSPCertStatus.REVOKED)]),
    ):
        verdict = _judged(leaf, [], [root], asked)
        assert _fell_at(verdict) == "status"
        assert "(revoked)" in verdict.reason


def test_a_current_status_that_says_good_is_believed(root: Node) -> None:
    leaf = make_node("alice", root)
    responder = make_node("responder", root, eku=[ExtendedKeyUsageOID.OCSP_SIGNING])
    for asked in (
        replace(_ASKED, crls=[_crl(root)]),
        replace(_ASKED, ocsp=[_ocsp(root, leaf, ocsp.OCSPCertStatus.GOOD)]),
        replace(_ASKED, ocsp=[_ocsp(root, leaf, ocsp.OCSPCertStatus.GOOD, signer=responder)]),
    ):
        assert _judged(leaf, [], [root], replace(asked, require_status=True)).valid


def test_what_is_stale_foreign_or_unsigned_proves_nothing(root: Node) -> None:
    leaf = make_node("alice", root)
    stranger = make_node("root", ca=True)
    not_delegated = make_node("responder", root)
    for asked in (
        _ASKED,
        replace(_ASKED, crls=[_crl(root, next_update=NOW - timedelta(hours=1))]),
        replace(_ASKED, crls=[_crl(stranger)]),
        replace(_ASKED, ocsp=[_ocsp(root, leaf, ocsp.OCSPCertStatus.GOOD, signer=not_delegated)]),
        replace(_ASKED, ocsp=[_ocsp(root, leaf, ocsp.OCSPCertStatus.UNKNOWN)]),
    ):
        verdict = _judged(leaf, [], [root], replace(asked, require_status=True))
        assert _fell_at(verdict) == "status"
        assert "status_unavailable" in verdict.reason
