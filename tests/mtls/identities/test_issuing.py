"""Certificates of identities: what they say comes from the registry, and nobody gets one without a binding."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from pydantic import SecretStr
from sqlalchemy import func, select, text
from tests.support.authority import OPERATOR, openssl, verify_chain
from tests.support.identities import hours, issue, make_domain, make_request, make_service, make_user

from intaglio.asn1.algorithms import KeyAlgorithm
from intaglio.authority import models as authority_models
from intaglio.authority.certificates import RevocationReason
from intaglio.core import clock
from intaglio.core.errors import Forbidden, IntaglioError, NotFound, Refused, StateConflict, Unavailable
from intaglio.core.principal import Permission, Principal
from intaglio.db.listing import ListQuery
from intaglio.gateway.callers import Caller
from intaglio.gateway.enrollment import enroll
from intaglio.gateway.schemas import EnrollmentRequest
from intaglio.identity import users
from intaglio.mtls.context import Mtls
from intaglio.mtls.identities import bindings, issuing, models, revoking
from intaglio.mtls.identities.attributes import read_identity
from intaglio.mtls.identities.authorities import NewCaWish
from intaglio.mtls.identities.domains import DomainChanges, edit_domain
from intaglio.mtls.identities.registry import NewIdentity, add_identities, add_identity
from intaglio.mtls.identities.revoking import revoke_binding, suspend_identity
from intaglio.mtls.identities.unbound import PATIENCE, revoke_unbound
from intaglio.mtls.identities.values import Channel, Kind, TrustDomain


async def test_certificate_of_a_service_says_what_is_registered(
    mtls: Mtls, trust_domain: TrustDomain, tmp_path: Path
) -> None:
    service = await make_service(mtls, dns_names=["payments.prod.svc"])
    issued = await issue(mtls, service)
    verify_chain(tmp_path, [issued.certificate, *issued.chain])
    text = openssl("x509", "-inform", "DER", "-text", "-noout", stdin=issued.certificate)
    assert "Subject: O = demo, OU = finance, CN = payments" in text
    assert "URI:spiffe://prod.example/env/prod/team/finance/svc/payments, DNS:payments.prod.svc" in text
    assert "X509v3 Key Usage: critical\n                Digital Signature\n" in text
    assert "TLS Web Client Authentication, TLS Web Server Authentication" in text
    found = read_identity(issued.certificate)
    assert (found.kind, found.name, found.team, found.environment) == (Kind.SERVICE, "payments", "finance", "prod")
    assert (found.service, found.roles, found.version) == ("payments", ("reader",), "1.4.2")
    assert found.uri == service.uri


async def test_certificate_of_a_person_names_the_address_and_nothing_of_the_code(
    mtls: Mtls, trust_domain: TrustDomain
) -> None:
    user = await make_user(mtls)
    issued = await issue(mtls, user, principal=user.principal("192.0.2.7"), channel=Channel.PAGE)
    text = openssl("x509", "-inform", "DER", "-text", "-noout", stdin=issued.certificate)
    assert "email:alice@example.com" in text
    assert "TLS Web Client Authentication\n" in text
    assert "TLS Web Server Authentication" not in text
    assert user.name.startswith("u-")
    assert len(user.name) == 22
    assert issued.not_after - issued.not_before <= hours(5 * 24 + 1)


async def test_subject_names_and_extensions_of_the_request_do_not_count(mtls: Mtls, trust_domain: TrustDomain) -> None:
    service = await make_service(mtls)
    key = ec.generate_private_key(ec.SECP256R1())
    uri = x509.UniformResourceIdentifier("spiffe://prod.example/env/prod/svc/orders")
    names = [x509.DNSName("orders.prod.svc"), uri]
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "orders")]))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.CODE_SIGNING]), critical=False)
        .sign(key, SHA256())
    )
    issued = await issuing.issue_identity(
        mtls, OPERATOR, service, request.public_bytes(Encoding.DER), channel=Channel.VAULT
    )
    assert b"orders" not in issued.certificate
    assert read_identity(issued.certificate).name == "payments"
    purposes = x509.load_der_x509_certificate(issued.certificate).extensions.get_extension_for_class(
        x509.ExtendedKeyUsage
    )
    assert list(purposes.value) == [x509.ExtendedKeyUsageOID.CLIENT_AUTH]


async def test_binding_says_who_asked_and_is_sealed_in_the_database(mtls: Mtls, trust_domain: TrustDomain) -> None:
    user = await make_user(mtls)
    issued = await issue(mtls, user, channel=Channel.PAGE, source="192.0.2.7", user_agent="Firefox/140")
    found = await bindings.get_binding(mtls, OPERATOR, issued.binding_id)
    assert found.details == bindings.Details("alice@example.com", "192.0.2.7", "Firefox/140")
    assert (found.state, found.serial, found.name) == ("valid", issued.serial, user.name)
    async with mtls.database.read() as view:
        row = await view.one_or_none(select(models.binding))
    assert row is not None
    stored = repr(dict(row)).encode() + bytes(row["sealed"])
    assert all(secret not in stored for secret in (b"alice@example.com", b"192.0.2.7", b"Firefox"))


async def test_sealed_details_cannot_be_moved_to_another_binding(mtls: Mtls, trust_domain: TrustDomain) -> None:
    user = await make_user(mtls)
    mine, other = await issue(mtls, user), await issue(mtls, user)
    async with mtls.database.read() as view:
        sealed = await view.scalar(select(models.binding.c.sealed).where(models.binding.c.id == mine.binding_id))
    with pytest.raises(IntaglioError) as refusal:
        bindings.unseal(mtls.master_key, other.binding_id, sealed)
    assert refusal.value.code == "secret-tampered"


async def test_key_of_another_identity_is_refused(mtls: Mtls, trust_domain: TrustDomain) -> None:
    payments, orders = await make_service(mtls), await make_service(mtls, "orders")
    key = ec.generate_private_key(ec.SECP256R1())
    await issue(mtls, payments, key=key)
    await issue(mtls, payments, key=key)  # its own key may be certified again
    with pytest.raises(StateConflict) as refusal:
        await issue(mtls, orders, key=key)
    assert refusal.value.code == "key_reused"


async def test_of_two_identities_that_bring_one_key_at_once_only_one_gets_a_certificate(
    mtls: Mtls, trust_domain: TrustDomain
) -> None:
    services = [await make_service(mtls, name) for name in ("payments", "orders", "stock", "mail")]
    key = ec.generate_private_key(ec.SECP256R1())
    outcomes = await asyncio.gather(*(issue(mtls, each, key=key) for each in services), return_exceptions=True)
    refused = [each for each in outcomes if isinstance(each, StateConflict)]
    assert len(refused) == 3
    assert {each.code for each in refused} == {"key_reused"}


async def test_key_that_was_compromised_is_not_certified_again(mtls: Mtls, trust_domain: TrustDomain) -> None:
    service, key = await make_service(mtls), ec.generate_private_key(ec.SECP256R1())
    issued = await issue(mtls, service, key=key)
    await revoke_binding(mtls, OPERATOR, issued.binding_id, RevocationReason.KEY_COMPROMISE)
    with pytest.raises(Refused) as refusal:
        await issue(mtls, service, key=key)
    assert refusal.value.code == "key-compromised"


@pytest.mark.parametrize("kind", ["service", "workload"])
async def test_service_or_workload_certificate_never_lives_longer_than_three_days(
    mtls: Mtls, trust_domain: TrustDomain, kind: str
) -> None:
    wanted = NewIdentity("prod.example", kind, "payments", team="finance", service="payments")
    identity = await add_identity(mtls, OPERATOR, wanted)
    issued = await issue(mtls, identity, lifetime=hours(72))
    assert issued.not_after - issued.not_before <= hours(72)
    with pytest.raises(Refused) as refusal:
        await issue(mtls, identity, lifetime=hours(30 * 24))
    assert refusal.value.code == "lifetime-above-ceiling"
    with pytest.raises(Refused):
        await edit_domain(mtls, OPERATOR, "prod.example", DomainChanges(ceilings={Kind(kind): hours(73)}))


async def test_lifetime_of_people_follows_the_policy_of_the_trust_domain(
    mtls: Mtls, trust_domain: TrustDomain
) -> None:
    user = await make_user(mtls)
    for days in (1, 5):
        issued = await issue(mtls, user, lifetime=hours(days * 24))
        assert abs(issued.not_after - issued.not_before - hours(days * 24)) <= hours(0.1)
    with pytest.raises(Refused) as refusal:
        await issue(mtls, user, lifetime=hours(500 * 24))
    assert refusal.value.code == "lifetime-above-ceiling"
    await edit_domain(mtls, OPERATOR, "prod.example", DomainChanges(ceilings={Kind.USER: hours(500 * 24)}))
    issued = await issue(mtls, user, lifetime=hours(500 * 24))
    assert issued.not_after - issued.not_before >= hours(499 * 24)
    with pytest.raises(Refused):
        await edit_domain(mtls, OPERATOR, "prod.example", DomainChanges(ceilings={Kind.USER: hours(501 * 24)}))


async def test_service_without_a_required_attribute_gets_no_certificate(mtls: Mtls, trust_domain: TrustDomain) -> None:
    with pytest.raises(Refused) as refusal:
        await make_service(mtls, team="")
    assert (refusal.value.code, refusal.value.target) == ("attribute-missing", "team")
    service = await make_service(mtls, roles=[], version="")
    await edit_domain(mtls, OPERATOR, "prod.example", DomainChanges(required_attributes=["roles", "version"]))
    with pytest.raises(Refused) as refusal:
        await issue(mtls, service)
    assert refusal.value.code == "attribute-missing"


async def test_dns_names_are_those_registered_and_names_below_them(mtls: Mtls, trust_domain: TrustDomain) -> None:
    service = await make_service(mtls, dns_names=["payments.prod.svc"])
    issued = await issue(mtls, service, also_dns=["pod-7.payments.prod.svc"])
    assert read_identity(issued.certificate).dns_names == ("payments.prod.svc", "pod-7.payments.prod.svc")
    for foreign in ("orders.prod.svc", "evilpayments.prod.svc", "prod.svc", "*.payments.prod.svc"):
        with pytest.raises(IntaglioError):
            await issue(mtls, service, also_dns=[foreign])


async def test_weak_or_foreign_keys_are_refused(mtls: Mtls, trust_domain: TrustDomain) -> None:
    service = await make_service(mtls)
    for key in (rsa.generate_private_key(65537, 1024), ec.generate_private_key(ec.SECP256K1())):
        with pytest.raises(IntaglioError) as refusal:
            await issue(mtls, service, key=key)
        assert refusal.value.status in (400, 422)


async def test_nobody_gets_certificates_of_somebody_else(mtls: Mtls, trust_domain: TrustDomain) -> None:
    async with mtls.database.transaction() as tx:
        await users.create_user(tx, OPERATOR, "carol", password=SecretStr("correct horse battery staple 7"))
    payments, orders = await make_service(mtls, owner="carol"), await make_service(mtls, "orders")
    for principal in (orders.principal(), Principal("client", "CN=x"), Principal("user", "mallory")):
        with pytest.raises(Forbidden):
            await issue(mtls, payments, principal=principal)
    stranger = Principal("user", "carol", frozenset({Permission.MTLS_OWN}))
    with pytest.raises(NotFound):  # owns it, but does not belong to the organization (any more)
        await issue(mtls, payments, principal=stranger)
    assert await issue(mtls, payments, principal=payments.principal())


async def test_suspended_identity_gets_no_certificate(mtls: Mtls, trust_domain: TrustDomain) -> None:
    service = await make_service(mtls)
    await suspend_identity(mtls, OPERATOR, service.id)
    with pytest.raises(Forbidden) as refusal:
        await issue(mtls, service, principal=service.principal())
    assert refusal.value.code == "identity-suspended"


async def test_certificate_that_is_issued_while_its_identity_is_suspended_does_not_survive(
    mtls: Mtls, trust_domain: TrustDomain
) -> None:
    service = await make_service(mtls)
    requests = [issue(mtls, service) for _ in range(20)]
    await asyncio.gather(*requests, suspend_identity(mtls, OPERATOR, service.id), return_exceptions=True)
    page = await bindings.list_bindings(mtls, OPERATOR, ListQuery(limit=100))
    assert {each.state for each in page.bindings} <= {"revoked"}
    async with mtls.database.read() as view:
        issued = await view.scalar(
            select(func.count()).where(authority_models.certificate.c.channel == "mtls")
        )
    assert issued == len(page.bindings)


async def test_renewal_is_refused_once_the_certificate_before_is_revoked(mtls: Mtls, trust_domain: TrustDomain) -> None:
    service = await make_service(mtls)
    first = await issue(mtls, service)
    second = await issue(mtls, service, channel=Channel.AGENT, renews=first.binding_id)
    assert (await bindings.get_binding(mtls, OPERATOR, first.binding_id)).state == "superseded"
    await revoke_binding(mtls, OPERATOR, second.binding_id)
    with pytest.raises(StateConflict) as refusal:
        await issue(mtls, service, channel=Channel.AGENT, renews=second.binding_id)
    assert refusal.value.code == "certificate-revoked"
    live = await bindings.list_bindings(mtls, OPERATOR, ListQuery(filter=("state=valid",)))
    assert not live.bindings


@pytest.mark.parametrize(
    ("reason", "left"), [(RevocationReason.KEY_COMPROMISE, 0), (RevocationReason.UNSPECIFIED, 0),
                         (RevocationReason.SUPERSEDED, 3)]
)  # fmt: skip
async def test_whoever_loses_a_certificate_loses_what_was_renewed_with_it(
    mtls: Mtls, trust_domain: TrustDomain, reason: RevocationReason, left: int
) -> None:
    service = await make_service(mtls)
    stolen = await issue(mtls, service)
    renewed = await issue(mtls, service, channel=Channel.AGENT, renews=stolen.binding_id)
    await issue(mtls, service, channel=Channel.AGENT, renews=stolen.binding_id)
    await issue(mtls, service, channel=Channel.AGENT, renews=renewed.binding_id)
    other = await issue(mtls, service)
    await revoke_binding(mtls, OPERATOR, stolen.binding_id, reason)
    async with mtls.database.read() as view:
        live = await bindings.live_bindings(view, service.id)
    assert len(live) == left + 1
    assert other.binding_id in {each.id for each in live}


async def test_what_was_renewed_with_an_expired_certificate_can_be_ended(
    mtls: Mtls, trust_domain: TrustDomain
) -> None:
    """Whoever stole a certificate and renewed it goes on long after the stolen one has expired."""
    service = await make_service(mtls)
    stolen = await issue(mtls, service)
    renewed = await issue(mtls, service, channel=Channel.AGENT, renews=stolen.binding_id)
    await issue(mtls, service, channel=Channel.AGENT, renews=renewed.binding_id)
    other = await issue(mtls, service)
    async with mtls.database.transaction() as tx:
        for table in ("certificate", "mtls_binding"):
            ending = f"UPDATE {table} SET not_after = now() - interval '1 minute' WHERE id = :id"
            await tx.execute(text(ending).bindparams(id=stolen.binding_id))
    serial = stolen.serial.hex()
    with pytest.raises(StateConflict) as refusal:
        await revoking.revoke_serial(mtls, OPERATOR, serial, RevocationReason.KEY_COMPROMISE)
    assert refusal.value.code == "certificate-expired"
    ended = await revoking.revoke_descendants(mtls, OPERATOR, serial, RevocationReason.KEY_COMPROMISE)
    assert [each.state for each in ended] == ["revoked", "revoked"]
    async with mtls.database.read() as view:
        assert [each.id for each in await bindings.live_bindings(view, service.id)] == [other.binding_id]
    assert (await bindings.get_binding(mtls, OPERATOR, stolen.binding_id)).state == "expired"
    assert await revoking.revoke_descendants(mtls, OPERATOR, serial) == []


async def test_revoking_with_descendants_ends_a_live_certificate_too(mtls: Mtls, trust_domain: TrustDomain) -> None:
    service = await make_service(mtls)
    first = await issue(mtls, service)
    await issue(mtls, service, channel=Channel.AGENT, renews=first.binding_id)
    ended = await revoking.revoke_descendants(mtls, OPERATOR, first.serial.hex(), RevocationReason.SUPERSEDED)
    assert len(ended) == 2


async def test_holding_a_certificate_holds_what_was_renewed_with_it(mtls: Mtls, trust_domain: TrustDomain) -> None:
    service = await make_service(mtls)
    first = await issue(mtls, service)
    second = await issue(mtls, service, channel=Channel.AGENT, renews=first.binding_id)
    async with asyncio.timeout(30):  # it was asked for ever
        await revoke_binding(mtls, OPERATOR, first.binding_id, RevocationReason.CERTIFICATE_HOLD)
    for each in (first, second):
        assert (await bindings.get_binding(mtls, OPERATOR, each.binding_id)).state == "held"


async def test_serial_numbers_of_others_are_refused_like_those_that_do_not_exist(
    mtls: Mtls, trust_domain: TrustDomain
) -> None:
    issued = await issue(mtls, await make_service(mtls))
    stranger = Principal("user", "stranger", frozenset({Permission.MTLS_IDENTITIES}))
    for revoke in (revoking.revoke_serial, revoking.revoke_descendants):
        said = []
        for serial in (issued.serial.hex(), "4f2a"):
            with pytest.raises(NotFound) as refusal:
                await revoke(mtls, stranger, serial)
            said.append(refusal.value.detail.replace(serial, "SERIAL"))
        assert said[0] == said[1]


async def test_repeated_request_gets_the_same_certificate_and_one_binding(
    mtls: Mtls, trust_domain: TrustDomain
) -> None:
    user, request = await make_user(mtls), make_request()
    asked = {"channel": Channel.PAGE, "idempotency_key": "session-1"}
    outcomes = [await issuing.issue_identity(mtls, user.principal(), user, request, **asked) for _ in range(3)]
    assert len({each.certificate for each in outcomes}) == 1
    assert [each.repeated for each in outcomes] == [False, True, True]
    assert len((await bindings.list_bindings(mtls, OPERATOR, ListQuery())).bindings) == 1
    await revoke_binding(mtls, OPERATOR, outcomes[0].binding_id)
    with pytest.raises(StateConflict) as refusal:
        await issuing.issue_identity(mtls, user.principal(), user, request, **asked)
    assert refusal.value.code == "certificate-revoked"


async def test_gateway_and_console_do_not_issue_with_the_profiles_of_identities(
    mtls: Mtls, trust_domain: TrustDomain
) -> None:
    caller = Caller.of_principal(OPERATOR, None)
    for channel in ("gateway-api", "console", "acme"):
        facts = {"environment": "prod", "team": "finance", "service": "payments"}
        body = EnrollmentRequest(profileId="identity-service", csr=make_request().decode(), properties=facts)
        with pytest.raises(Refused) as refusal:
            await enroll(mtls.gateway, caller, trust_domain.issuing_ca, body, channel=channel)
        assert refusal.value.code == "channel-not-allowed"


async def test_issuing_for_many_identities_does_not_move_the_configuration(
    mtls: Mtls, trust_domain: TrustDomain
) -> None:
    epoch = (await mtls.authority.current()).epoch
    wanted = [NewIdentity("prod.example", "workload", f"pod-{n}", team="web", service="shop") for n in range(200)]
    added = await add_identities(mtls, OPERATOR, wanted)
    await asyncio.gather(*(issue(mtls, each, principal=each.principal()) for each in added))
    assert (await mtls.authority.current()).epoch == epoch
    page = await bindings.list_bindings(mtls, OPERATOR, ListQuery(filter=("state=valid",), limit=1, total=True))
    assert page.total == 200


async def test_certificate_whose_binding_was_never_written_is_revoked(
    mtls: Mtls, trust_domain: TrustDomain, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = await make_service(mtls)
    kept = await issue(mtls, service)

    async def dies(*_: object) -> None:
        raise Unavailable("The process was killed here.")

    with monkeypatch.context() as broken:
        broken.setattr(issuing, "_bind", dies)
        with pytest.raises(Unavailable):
            await issue(mtls, service)
    assert await revoke_unbound(mtls) == 0  # somebody may still come back for it
    with clock.frozen(clock.now() + PATIENCE + hours(0.1)):
        assert await revoke_unbound(mtls) == 1
        assert await revoke_unbound(mtls) == 0
    page = await bindings.list_bindings(mtls, OPERATOR, ListQuery())
    assert [(each.id, each.state) for each in page.bindings] == [(kept.binding_id, "valid")]


async def test_rsa_root_as_companies_make_it_issues_for_identities(mtls: Mtls, organization: str) -> None:
    await make_domain(mtls, new_ca=NewCaWish(KeyAlgorithm.RSA_2048))
    issued = await issue(mtls, await make_service(mtls))
    for certificate in (issued.certificate, *issued.chain):
        text = openssl("x509", "-inform", "DER", "-noout", "-text", stdin=certificate)
        assert "Signature Algorithm: sha256WithRSAEncryption" in text
    assert "Public-Key: (2048 bit)" in text
    assert "CN = demo prod id-prod root" in text
