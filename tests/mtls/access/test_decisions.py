"""Decisions about connections and requests: every reason, both barriers, every mode."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from tests.mtls.access.conftest import House, Key, der, self_made, until
from tests.support.authority import OPERATOR, issue_server_certificate, make_hierarchy
from tests.support.identities import issue, make_domain, make_service

from intaglio.authority.certificates import RevocationReason
from intaglio.core import clock
from intaglio.core.errors import NotFound, Unavailable
from intaglio.core.identifiers import new_id
from intaglio.mtls.access import decider
from intaglio.mtls.access.decision import Facts, ReasonCode
from intaglio.mtls.access.ingress_values import IngressChanges
from intaglio.mtls.access.ingresses import edit_ingress, retire_ingress
from intaglio.mtls.identities.revoking import revoke_identity
from intaglio.mtls.identities.values import IssuedIdentity


async def test_certificate_of_the_trust_domain_is_let_in_and_its_holder_known(house: House) -> None:
    ingress = await house.ingress()
    decision = await house.decide(ingress, house.payments.certificate)
    assert decision.allowed
    assert decision.enforced
    assert decision.reason is None
    assert decision.status == 200
    assert decision.identity is not None
    assert decision.identity.uri == house.payments.identity.uri
    assert decision.identity.team == "finance"
    assert decision.identity.service == "payments"
    assert decision.certificate is not None
    assert decision.certificate.serial == house.payments.serial
    assert decision.certificate.ca == house.domain.issuing_ca
    assert [check.name for check in decision.checks if check.reason] == []


async def test_nobody_without_a_certificate_is_let_in(house: House) -> None:
    decision = await house.decide(await house.ingress())
    assert not decision.allowed
    assert decision.reason is ReasonCode.NO_CERTIFICATE
    assert decision.status == 401


async def test_self_signed_certificate_is_refused(house: House) -> None:
    decision = await house.decide(await house.ingress(), der(self_made()[0]))
    assert decision.reason is ReasonCode.SELF_SIGNED
    assert decision.identity is None


async def test_certificate_of_another_ca_is_refused_also_with_its_chain(
    house: House, other_ca: tuple[x509.Certificate, Key]
) -> None:
    ingress = await house.ingress()
    leaf = der(self_made(issuer=other_ca)[0])
    assert (await house.decide(ingress, leaf)).reason is ReasonCode.UNKNOWN_CA
    assert (await house.decide(ingress, leaf, der(other_ca[0]))).reason is ReasonCode.UNKNOWN_CA


async def test_ca_that_calls_itself_like_ours_is_found_out(house: House) -> None:
    ours = x509.load_der_x509_certificate(house.payments.chain[0])
    impostor = ec.generate_private_key(ec.SECP256R1())
    leaf = (
        x509.CertificateBuilder()
        .subject_name(ours.subject)
        .issuer_name(ours.subject)
        .public_key(impostor.public_key())
        .serial_number(7)
        .not_valid_before(ours.not_valid_before_utc)
        .not_valid_after(ours.not_valid_after_utc)
        .sign(impostor, SHA256())
    )
    named = self_made(issuer=(ours, impostor))
    ingress = await house.ingress()
    assert (await house.decide(ingress, der(named[0]))).reason is ReasonCode.BAD_SIGNATURE
    assert (await house.decide(ingress, der(leaf))).reason is ReasonCode.SELF_SIGNED
    assert (await house.decide(ingress, der(named[0]), der(leaf))).reason is ReasonCode.BAD_SIGNATURE


async def test_certificate_that_was_tampered_with_is_refused(house: House) -> None:
    tampered = bytearray(house.payments.certificate)
    tampered[-1] ^= 1
    decision = await house.decide(await house.ingress(), bytes(tampered))
    assert decision.reason is ReasonCode.BAD_SIGNATURE


async def test_certificate_of_another_environment_is_refused_as_such(house: House, foreign: IssuedIdentity) -> None:
    ingress = await house.ingress()
    decision = await house.decide(ingress, foreign.certificate)
    assert decision.reason is ReasonCode.WRONG_ENVIRONMENT
    assert "dev.example" in decision.detail
    with_chain = await house.decide(ingress, foreign.certificate, *foreign.chain)
    assert with_chain.reason is ReasonCode.WRONG_ENVIRONMENT


async def test_ca_of_ours_that_is_in_no_trust_domain_counts_nowhere(house: House) -> None:
    await make_hierarchy(house.mtls.authority)
    issued = await issue_server_certificate(house.mtls.authority, "demo~issuing")
    ingress = await house.ingress()
    decision = await house.decide(ingress, issued.der)
    assert decision.reason is ReasonCode.UNKNOWN_CA


async def test_expired_and_future_certificates_are_refused_with_their_reasons(house: House) -> None:
    ingress = await house.ingress()
    late = house.payments.not_after + timedelta(seconds=1)
    early = house.payments.not_before - timedelta(seconds=1)
    assert (await house.decide(ingress, house.payments.certificate, at=late)).reason is ReasonCode.EXPIRED
    assert (await house.decide(ingress, house.payments.certificate, at=early)).reason is ReasonCode.NOT_YET_VALID
    assert (await house.decide(ingress, house.payments.certificate)).reason is None


async def test_ca_certificate_is_nobodys_client(house: House) -> None:
    decision = await house.decide(await house.ingress(), house.payments.chain[0])
    assert decision.reason is ReasonCode.BAD_PURPOSE


async def test_what_is_no_certificate_is_refused_without_an_error(house: House) -> None:
    ingress = await house.ingress()
    for nonsense in (b"", b"\x30\x03\x02\x01\x01", b"x" * 1000, house.payments.certificate[:-5]):
        assert (await house.decide(ingress, nonsense)).reason is ReasonCode.BAD_SIGNATURE
    assert (await house.decide(ingress, *[house.payments.certificate] * 11)).reason is ReasonCode.UNKNOWN_CA


async def test_revoked_certificate_is_refused_at_once(house: House) -> None:
    ingress = await house.ingress()
    assert (await house.decide(ingress, house.payments.certificate)).allowed
    await revoke_identity(house.mtls, OPERATOR, str(house.payments.identity.id), RevocationReason.KEY_COMPROMISE)

    async def refused() -> bool:
        return (await house.decide(ingress, house.payments.certificate)).reason is ReasonCode.REVOKED

    await until(refused)


async def test_nobody_gets_in_while_the_status_cannot_be_looked_up(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed, opened = await house.ingress(), await house.ingress("careless", fail_mode="open")

    async def away(key: object) -> Any:
        raise Unavailable("The database is not reachable.")

    monkeypatch.setattr(house.decider._status, "get", away)
    decision = await house.decide(closed, house.payments.certificate)
    assert decision.reason is ReasonCode.STATUS_UNAVAILABLE
    assert not decision.allowed
    assert decision.identity is None
    assert (await house.decide(opened, house.payments.certificate)).allowed


async def test_database_that_fell_silent_keeps_nobody_waiting_for_long(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingress = await house.ingress()
    assert (await house.decide(ingress, house.payments.certificate)).allowed

    async def silent(key: object) -> Any:
        await asyncio.Event().wait()

    await house.mtls.watch.stop()
    await until(lambda: not house.mtls.watch.current)
    monkeypatch.setattr(house.decider._status, "get", silent)
    monkeypatch.setattr(decider, "PATIENCE", 0.05)
    decision = await house.decide(ingress, house.payments.certificate)
    assert decision.reason is ReasonCode.STATUS_UNAVAILABLE


async def test_nobody_gets_in_while_two_clocks_disagree(house: House) -> None:
    ingress = await house.ingress()
    house.mtls.authority.clock_offset = lambda: 3600.0
    assert (await house.decide(ingress, house.payments.certificate)).reason is ReasonCode.STATUS_UNAVAILABLE


async def test_ip_rule_and_certificate_are_two_barriers(house: House) -> None:
    ingress = await house.ingress(ip_rule=["10.0.0.0/24", "2001:db8::/32"])
    good, inside, outside = house.payments.certificate, "10.0.0.7", "10.0.1.7"
    both = await house.decide(ingress, good, source_ip=inside)
    only_certificate = await house.decide(ingress, good, source_ip=outside)
    only_address = await house.decide(ingress, source_ip=inside)
    neither = await house.decide(ingress, source_ip=outside)
    assert both.allowed
    assert both.ip_allowed
    assert only_certificate.reason is ReasonCode.IP_DENIED
    assert only_certificate.certificate_reason is None
    assert only_certificate.status == 403
    assert only_address.reason is ReasonCode.NO_CERTIFICATE
    assert only_address.ip_allowed
    assert neither.reason is ReasonCode.IP_DENIED
    assert neither.certificate_reason is ReasonCode.NO_CERTIFICATE


@pytest.mark.parametrize(
    ("source", "allowed"),
    [
        ("10.0.0.7", True), ("::ffff:10.0.0.7", True), ("2001:db8::1", True), ("2001:db8::1%eth0", True),
        ("10.0.1.7", False), ("::1", False), ("", False), ("10.0.0.7, 1.2.3.4", False), ("010.0.0.7", False),
        ("10.0.0", False), ("localhost", False),
    ],
)  # fmt: skip
async def test_ip_rule_denies_what_it_does_not_name(house: House, source: str, allowed: bool) -> None:
    ingress = await house.ingress(ip_rule=["10.0.0.0/24", "2001:db8::/32"])
    decision = await house.decide(ingress, house.payments.certificate, source_ip=source)
    assert (decision.reason is None) is allowed
    assert decision.ip_allowed is allowed


async def test_empty_ip_rule_denies_everybody(house: House) -> None:
    ingress = await house.ingress(ip_rule=[])
    assert (await house.decide(ingress, house.payments.certificate)).reason is ReasonCode.IP_DENIED


async def test_permissive_ingress_lets_in_and_says_what_was_wrong_but_keeps_the_outer_barrier(house: House) -> None:
    ingress = await house.ingress(mode="permissive", ip_rule=["10.0.0.0/8"])
    decision = await house.decide(ingress, der(self_made()[0]))
    assert decision.allowed
    assert not decision.enforced
    assert decision.reason is ReasonCode.SELF_SIGNED
    assert decision.identity is None
    assert decision.chain == ()
    assert not (await house.decide(ingress, house.payments.certificate, source_ip="192.0.2.1")).allowed


async def test_ingress_that_is_off_asks_for_no_certificate_but_keeps_the_outer_barrier(house: House) -> None:
    ingress = await house.ingress(mode="off", ip_rule=["10.0.0.0/8"])
    assert (await house.decide(ingress)).allowed
    assert not (await house.decide(ingress, source_ip="192.0.2.1")).allowed


async def test_what_the_ingress_itself_found_wrong_turns_yes_into_no(house: House) -> None:
    decision = await house.decide(await house.ingress(), house.payments.certificate, verify_error="CERT_REVOKED")
    assert decision.reason is ReasonCode.REVOKED


async def test_change_of_an_ingress_counts_at_once(house: House) -> None:
    ingress = await house.ingress()
    assert (await house.decide(ingress, house.payments.certificate)).allowed
    await edit_ingress(house.mtls, OPERATOR, "web", IngressChanges(ip_rule=["192.0.2.0/24"]))
    await house.settled()
    assert not (await house.decide(ingress, house.payments.certificate)).allowed
    await retire_ingress(house.mtls, OPERATOR, "web")
    await house.settled()
    with pytest.raises(NotFound) as refused:
        await house.decide(ingress, house.payments.certificate)
    assert refused.value.code == "ingress-unknown"


async def test_unknown_ingress_is_told_as_such(house: House) -> None:
    with pytest.raises(NotFound):
        await house.decider.decide(Facts(new_id(), "10.0.0.1", clock.now()))


async def test_who_wants_to_know_is_told_when_a_certificate_is_revoked(house: House) -> None:
    def fail() -> None:
        raise RuntimeError("a subscriber's own fault")

    told: list[int] = []
    ingress = await house.ingress()
    await house.decide(ingress, house.payments.certificate)
    house.decider.subscribe(fail)
    end = house.decider.subscribe(lambda: told.append(1))
    await revoke_identity(house.mtls, OPERATOR, str(house.payments.identity.id), RevocationReason.SUPERSEDED)
    await until(lambda: bool(told))
    end()


async def test_identity_of_a_domain_that_shares_the_ca_is_refused(house: House) -> None:
    await make_domain(house.mtls, "more.example", "prod", new_ca=None, issuing_ca=house.domain.issuing_ca)
    other = await issue(house.mtls, await make_service(house.mtls, "orders", "more.example", service="orders"))
    await house.settled()
    decision = await house.decide(await house.ingress(), other.certificate)
    assert decision.reason is ReasonCode.WRONG_ENVIRONMENT


async def test_decision_does_not_depend_on_what_was_asked_before(house: House) -> None:
    ingress = await house.ingress()
    facts = Facts(ingress.id, "10.0.0.1", clock.now(), (house.payments.certificate,), method="GET", path="/")
    first = await house.decider.decide(facts)
    expired = await house.decider.decide(replace(facts, at=house.payments.not_after + timedelta(days=1)))
    assert expired.reason is ReasonCode.EXPIRED
    assert await house.decider.decide(facts) == first
