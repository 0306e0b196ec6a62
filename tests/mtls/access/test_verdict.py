"""Judging a chain, without a server: a CA made here takes the part of ours."""

from __future__ import annotations

from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st
from tests.mtls.access.conftest import Key, der, self_made

from intaglio.core import clock
from intaglio.core.identifiers import new_id
from intaglio.mtls.access.decision import KnownIssuer, ReasonCode, Trust, judge_certificate, reason_of
from intaglio.mtls.access.trust import trust_of
from intaglio.x509.certificates import read_certificate

Ca = tuple[x509.Certificate, Key]


@pytest.fixture
def ca() -> Ca:
    return self_made(name="Ours", ca=True)


def trusting(ca: Ca, *, domains: frozenset[str] = frozenset({"prod.example"}), status: str = "valid") -> Trust:
    """The trust of prod.example among the keys of one CA."""
    known = KnownIssuer(new_id(), "demo~ours", 1, read_certificate(der(ca[0])), domains, status)
    return trust_of("prod.example", "prod", [known])


def judged(trust: Trust, *chain: x509.Certificate) -> ReasonCode | None:
    return judge_certificate([der(each) for each in chain], trust, clock.now()).reason


def test_certificate_of_our_ca_is_good_and_every_check_is_told(ca: Ca) -> None:
    leaf = self_made(issuer=ca)[0]
    verdict = judge_certificate([der(leaf)], trusting(ca), clock.now())
    assert verdict.reason is None
    assert verdict.issuer is not None
    assert verdict.issuer.ca == "demo~ours"
    assert [check.name for check in verdict.checks] == [
        "presented", "chain", "validity", "purpose", "strength", "issuers",
    ]  # fmt: skip


def test_certificate_of_a_ca_below_ours_is_good_when_it_is_sent_along(ca: Ca) -> None:
    below = self_made(issuer=ca, name="Below", ca=True)
    leaf = self_made(issuer=below)[0]
    assert judged(trusting(ca), leaf, below[0]) is None
    assert judged(trusting(ca), leaf) is ReasonCode.UNKNOWN_CA


def test_end_entity_cannot_issue(ca: Ca) -> None:
    clever = self_made(issuer=ca, name="clever")
    leaf = self_made(issuer=clever)[0]
    assert judged(trusting(ca), leaf, clever[0]) is ReasonCode.UNKNOWN_CA


@pytest.mark.parametrize("eku", [True, False])
def test_certificate_has_to_say_that_it_is_for_clients(ca: Ca, eku: bool) -> None:
    assert judged(trusting(ca), self_made(issuer=ca, eku=eku)[0]) is (None if eku else ReasonCode.BAD_PURPOSE)


@pytest.mark.parametrize(
    ("key", "weak"),
    [
        (rsa.generate_private_key(65537, 1024), True),
        (rsa.generate_private_key(3, 2048), True),
        (rsa.generate_private_key(65537, 2048), False),
        (ec.generate_private_key(ec.SECP192R1()), True),
        (ec.generate_private_key(ec.SECP384R1()), False),
    ],
)
def test_weak_key_is_refused_although_our_ca_signed_it(ca: Ca, key: Key, weak: bool) -> None:
    leaf = self_made(issuer=ca, key=key)[0]
    assert judged(trusting(ca), leaf) is (ReasonCode.WEAK_KEY if weak else None)


def test_ca_that_was_revoked_takes_its_certificates_along(ca: Ca) -> None:
    assert judged(trusting(ca, status="revoked"), self_made(issuer=ca)[0]) is ReasonCode.REVOKED


def test_ca_of_another_domain_and_ca_of_none_are_told_apart(ca: Ca) -> None:
    leaf = self_made(issuer=ca)[0]
    assert judged(trusting(ca, domains=frozenset({"dev.example"})), leaf) is ReasonCode.WRONG_ENVIRONMENT
    assert judged(trusting(ca, domains=frozenset()), leaf) is ReasonCode.UNKNOWN_CA
    assert judged(trust_of("prod.example", "prod", []), leaf) is ReasonCode.UNKNOWN_CA


def test_ca_of_another_domain_below_a_root_of_ours_does_not_count(ca: Ca) -> None:
    below = self_made(issuer=ca, name="Dev", ca=True)
    leaf = self_made(issuer=below)[0]
    ours = KnownIssuer(new_id(), "demo~root", 1, read_certificate(der(ca[0])), frozenset({"prod.example"}))
    dev = KnownIssuer(new_id(), "demo~dev", 1, read_certificate(der(below[0])), frozenset({"dev.example"}))
    trust = trust_of("prod.example", "prod", [ours, dev])
    assert judged(trust, leaf, below[0]) is ReasonCode.WRONG_ENVIRONMENT


def test_what_is_wrong_with_the_chain_comes_before_dates_in_it(ca: Ca) -> None:
    late = clock.now() + timedelta(days=9)
    stranger = der(self_made()[0])
    ours = der(self_made(issuer=ca)[0])
    assert judge_certificate([stranger], trusting(ca), late).reason is ReasonCode.SELF_SIGNED
    assert judge_certificate([ours], trusting(ca), late).reason is ReasonCode.EXPIRED


def test_trust_that_is_the_same_has_the_same_version_and_no_other(ca: Ca) -> None:
    first = trusting(ca)
    again = Trust(first.domain, first.environment, dict(first.known))
    assert first.version == again.version
    assert first.version != trusting(ca, status="held").version
    assert first.version != trusting(ca, domains=frozenset({"dev.example"})).version


@given(st.lists(st.binary(max_size=200), max_size=4))
def test_anything_can_be_judged(chain: list[bytes]) -> None:
    assert judge_certificate(chain, _TRUST, clock.now()).reason is not None


@given(st.data())
def test_changed_certificate_is_never_good(data: st.DataObject) -> None:
    position = data.draw(st.integers(0, len(_GOOD) - 1))
    changed = bytearray(_GOOD)
    changed[position] ^= data.draw(st.integers(1, 255))
    assert judge_certificate([bytes(changed)], _TRUST, clock.now()).reason is not None


@given(st.data())
def test_certificate_with_anything_written_into_it_is_judged(data: st.DataObject) -> None:
    """Our reader, ``cryptography`` and OpenSSL differ in what they take for a certificate; all three look at it."""
    position = data.draw(st.integers(0, len(_GOOD) - 1))
    written = data.draw(st.binary(max_size=6) | st.sampled_from([b"\x13\x00", b"\x80", b"\x30\x80", b"\x03\x02\x09"]))
    kept = position + data.draw(st.integers(0, 6))
    changed = _GOOD[:position] + written + _GOOD[kept:]
    if changed != _GOOD:
        assert judge_certificate([changed], _TRUST, clock.now()).reason is not None


def test_certificate_that_only_openssl_cannot_read_is_refused_with_a_reason() -> None:
    name = b"\x0c\x07mallory"  # a UTF8String, made a NULL that is not empty
    assert name in _GOOD
    changed = _GOOD.replace(name, b"\x05" + name[1:])
    for chain in ([changed], [_GOOD, changed]):
        assert judge_certificate(chain, _TRUST, clock.now()).reason is ReasonCode.BAD_SIGNATURE


_CA = self_made(name="Fixed", ca=True)
_TRUST = trusting(_CA)
_GOOD = der(self_made(issuer=_CA)[0])


def test_words_of_openssl_have_reasons() -> None:
    assert reason_of("CERT_HAS_EXPIRED") is ReasonCode.EXPIRED
    assert reason_of("UNABLE_TO_GET_ISSUER_CERT_LOCALLY") is ReasonCode.UNKNOWN_CA
    assert reason_of("ERROR_4711") is ReasonCode.UNKNOWN_CA
