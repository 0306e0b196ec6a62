"""Trust domains: one environment each, and no CA in two of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import text
from tests.support.authority import (
    OPERATOR,
    issuing_wish,
    make_hierarchy,
    openssl,
    root_wish,
    tenant,
    verify_chain,
)
from tests.support.identities import issue, make_domain, make_service, make_user

from intaglio.authority import organizations
from intaglio.authority.cas.create import create_issuing, create_root
from intaglio.authority.cas.delete import delete_ca
from intaglio.authority.cas.renewal import rekey_ca, renew_ca
from intaglio.core.errors import Forbidden, IntaglioError, InvalidInput, NotFound, Refused, StateConflict
from intaglio.core.principal import Permission, Principal
from intaglio.mtls.context import Mtls
from intaglio.mtls.identities.authorities import PROFILES, NewCaWish
from intaglio.mtls.identities.bundles import export_bundle
from intaglio.mtls.identities.domains import (
    DomainChanges,
    NewDomain,
    create_domain,
    edit_domain,
    get_domain,
    list_domains,
    retire_domain,
)
from intaglio.mtls.identities.revoking import retire_identity
from intaglio.mtls.identities.rotation import finish_rotation, give_ca
from intaglio.mtls.identities.values import Kind, TrustDomain


async def test_trust_domain_with_a_ca_of_its_own_can_issue_at_once(mtls: Mtls, trust_domain: TrustDomain) -> None:
    assert (trust_domain.state, trust_domain.issuing_ca) == ("active", "demo~id-prod")
    assert trust_domain.cas == ("demo~id-prod",)
    snapshot = await mtls.authority.current()
    ca, root = snapshot.ca("demo~id-prod"), snapshot.ca("demo~id-prod-root")
    assert ca.issuer_id == root.id
    assert set(PROFILES) == set(ca.profile_ids)
    assert ca.options.crl_on_revoke
    assert trust_domain.lifetimes[Kind.USER].days == 5
    assert await issue(mtls, await make_service(mtls))


async def test_given_ca_gets_the_profiles_of_identities_beside_its_own(mtls: Mtls, organization: str) -> None:
    await make_hierarchy(mtls.authority)
    domain = await make_domain(mtls, new_ca=None, issuing_ca="demo~issuing")
    assert domain.issuing_ca == "demo~issuing"
    offered = (await mtls.authority.current()).ca("demo~issuing").profile_ids
    assert {"privatessl-tls-server", *PROFILES} <= set(offered)


async def test_draft_becomes_active_with_its_ca(mtls: Mtls, organization: str) -> None:
    draft = await make_domain(mtls, new_ca=None)
    assert (draft.state, draft.issuing_ca, draft.cas) == ("draft", "", ())
    service = await make_service(mtls)
    with pytest.raises(StateConflict) as refusal:
        await issue(mtls, service)
    assert refusal.value.code == "domain-not-active"
    assert (await give_ca(mtls, OPERATOR, draft.name, new_ca=NewCaWish())).state == "active"
    assert await issue(mtls, service)


async def test_ca_of_one_environment_is_refused_in_another(mtls: Mtls, trust_domain: TrustDomain) -> None:
    with pytest.raises(StateConflict) as refusal:
        await make_domain(mtls, "dev.example", "dev", new_ca=None, issuing_ca=trust_domain.issuing_ca)
    assert (refusal.value.code, refusal.value.status) == ("foreign-environment", 409)
    same = await make_domain(mtls, "prod-eu.example", "prod", new_ca=None, issuing_ca=trust_domain.issuing_ca)
    assert same.issuing_ca == trust_domain.issuing_ca


async def test_two_environments_below_one_root_need_their_issuing_cas_as_anchors(
    mtls: Mtls, organization: str
) -> None:
    await create_root(mtls.authority, OPERATOR, "demo", root_wish())
    for name in ("dev", "prod"):
        await create_issuing(mtls.authority, OPERATOR, "demo", issuing_wish(name))
    await make_domain(mtls, "dev.example", "dev", new_ca=None, issuing_ca="demo~dev", anchor="issuing")
    with pytest.raises(StateConflict) as refusal:  # whoever trusts the root trusts certificates of dev
        await make_domain(mtls, new_ca=None, issuing_ca="demo~prod", anchor="root")
    assert refusal.value.code == "foreign-environment"
    domain = await make_domain(mtls, new_ca=None, issuing_ca="demo~prod", anchor="issuing")
    assert domain.anchor == "issuing"
    with pytest.raises(StateConflict):  # the root would count in dev and prod
        await make_domain(mtls, "test.example", "test", new_ca=None, issuing_ca="demo~root")


async def test_environment_keeps_the_cas_of_its_retired_trust_domains(mtls: Mtls, organization: str) -> None:
    domain = await make_domain(mtls, "dev.example", "dev")
    service = await make_service(mtls, domain="dev.example")
    await issue(mtls, service)
    with pytest.raises(StateConflict) as refusal:
        await retire_domain(mtls, OPERATOR, "dev.example")
    assert refusal.value.code == "domain-in-use"
    await retire_identity(mtls, OPERATOR, service.id)
    assert (await retire_domain(mtls, OPERATOR, "dev.example")).state == "retired"
    with pytest.raises(StateConflict) as refusal:
        await make_domain(mtls, new_ca=None, issuing_ca=domain.issuing_ca)
    assert refusal.value.code == "foreign-environment"
    with pytest.raises(StateConflict) as refusal:
        await make_domain(mtls, "dev.example", "dev")
    assert refusal.value.code == "already-exists"


async def test_rotation_trusts_both_cas_until_nothing_of_the_old_one_is_live(
    mtls: Mtls, trust_domain: TrustDomain
) -> None:
    service = await make_service(mtls)
    old = await issue(mtls, service)
    rotating = await give_ca(mtls, OPERATOR, trust_domain.name, new_ca=NewCaWish())
    assert (rotating.state, rotating.issuing_ca) == ("rotating", "demo~id-prod-2")
    assert rotating.cas == ("demo~id-prod", "demo~id-prod-2")
    assert rotating.bundle_version > trust_domain.bundle_version
    with pytest.raises(StateConflict) as refusal:
        await finish_rotation(mtls, OPERATOR, trust_domain.name)
    assert (refusal.value.code, refusal.value.extra["certificates"]) == ("rotation-unfinished", 1)
    renewed = await issue(mtls, service, renews=old.binding_id)
    assert renewed.chain != old.chain
    finished = await finish_rotation(mtls, OPERATOR, trust_domain.name)
    assert (finished.state, finished.cas) == ("active", ("demo~id-prod-2",))


async def test_organization_of_others_is_unknown(mtls: Mtls, trust_domain: TrustDomain) -> None:
    stranger = tenant("mallory")
    for attempt in (
        get_domain(mtls, stranger, trust_domain.name),
        create_domain(mtls, stranger, NewDomain("x.example", "x", "demo", new_ca=NewCaWish())),
        give_ca(mtls, stranger, trust_domain.name, new_ca=NewCaWish()),
    ):
        with pytest.raises(NotFound):
            await attempt
    assert await list_domains(mtls, stranger) == []


async def test_deleted_ca_counts_no_more(mtls: Mtls, trust_domain: TrustDomain) -> None:
    service = await make_service(mtls)
    await delete_ca(mtls.authority, OPERATOR, trust_domain.issuing_ca, revoke_all=True)
    with pytest.raises(StateConflict) as refusal:
        await issue(mtls, service)
    assert refusal.value.code == "domain-not-active"
    with pytest.raises(NotFound):
        await export_bundle(mtls, OPERATOR, "prod.example")
    with pytest.raises(StateConflict):  # its certificates may still be around
        await make_domain(mtls, "dev.example", "dev", new_ca=None, issuing_ca="demo~id-prod-root")
    assert (await give_ca(mtls, OPERATOR, "prod.example", new_ca=NewCaWish())).state == "rotating"
    assert await issue(mtls, service)


async def test_ca_of_another_organization_is_refused(mtls: Mtls, trust_domain: TrustDomain) -> None:
    await organizations.create_organization(mtls.authority, OPERATOR, "other")
    with pytest.raises(Refused) as refusal:
        await make_domain(mtls, "o.example", "o", organization="other", new_ca=None, issuing_ca="demo~id-prod")
    assert refusal.value.code == "ca-not-suitable"


async def test_reader_changes_nothing(mtls: Mtls, trust_domain: TrustDomain) -> None:
    reader = Principal("system", "reader", frozenset({Permission.MTLS_VIEW}))
    assert await get_domain(mtls, reader, trust_domain.name) == trust_domain
    with pytest.raises(Forbidden):
        await give_ca(mtls, reader, trust_domain.name, issuing_ca="demo~id-prod")
    with pytest.raises(Forbidden):
        await create_domain(mtls, reader, NewDomain("x.example", "x", "demo"))


@pytest.mark.parametrize(
    "name", ["Prod.example", "", "-a", "a..b", "x" * 70, "prod_example", "prod example", "prod/ex", "é.example"]
)
async def test_trust_domain_is_named_like_a_host(mtls: Mtls, organization: str, name: str) -> None:
    with pytest.raises(InvalidInput):
        await make_domain(mtls, name)


async def test_refused_trust_domain_leaves_no_cas_behind(mtls: Mtls, trust_domain: TrustDomain) -> None:
    before = set((await mtls.authority.current()).cas)
    with pytest.raises(IntaglioError):
        await make_domain(mtls)  # the name is taken
    assert set((await mtls.authority.current()).cas) == before


async def test_ca_of_its_own_is_limited_to_the_trust_domain(
    mtls: Mtls, trust_domain: TrustDomain, tmp_path: Path
) -> None:
    chain = (await mtls.authority.current()).ca(trust_domain.issuing_ca).chain
    for der in chain:
        text = openssl("x509", "-inform", "DER", "-noout", "-ext", "nameConstraints,extendedKeyUsage", stdin=der)
        assert "X509v3 Name Constraints: critical" in text
        limits = ("DNS:prod.example", "DNS:internal", "URI:prod.example", "IP:0.0.0.0/0.0.0.0", "email:example.com")
        for permitted in limits:
            assert permitted in text
    assert "TLS Web Client Authentication, TLS Web Server Authentication, OCSP Signing" in openssl(
        "x509", "-inform", "DER", "-noout", "-ext", "extendedKeyUsage", stdin=chain[0]
    )
    service = await make_service(mtls, dns_names=["payments.prod.example", "payments.svc"])
    verify_chain(tmp_path, [(await issue(mtls, service)).certificate, *chain])
    with pytest.raises(Refused) as refusal:
        await make_service(mtls, "bank", dns_names=["www.bank.com"])
    assert refusal.value.code == "dns-name-outside-domain"
    with pytest.raises(Refused) as refusal:
        await edit_domain(mtls, OPERATOR, "prod.example", DomainChanges(dns_suffixes=["com"]))
    assert refusal.value.code == "dns-suffix-outside-ca"


async def test_addresses_are_those_that_the_ca_of_a_trust_domain_may_certify(
    mtls: Mtls, trust_domain: TrustDomain
) -> None:
    for beyond in (["bank.example"], [".example.com"], []):
        with pytest.raises(Refused) as refusal:
            await edit_domain(mtls, OPERATOR, "prod.example", DomainChanges(email_domains=beyond))
        assert refusal.value.code == "email-domain-outside-ca"
    await edit_domain(mtls, OPERATOR, "prod.example", DomainChanges(email_domains=["Example.com"]))
    with pytest.raises(Refused) as refusal:
        await make_user(mtls, "alice@example.org")
    assert refusal.value.code == "email-outside-domain"
    assert (await make_user(mtls, "alice@EXAMPLE.com")).email == "alice@example.com"
    for wrong in (["*.example.com"], ["a b"], ["alice@example.com"], [f"d{n}.example" for n in range(51)]):
        with pytest.raises(InvalidInput):
            await make_domain(mtls, "x.example", "x", email_domains=wrong)


async def test_trust_domain_that_names_no_addresses_has_those_of_its_own_name(mtls: Mtls, organization: str) -> None:
    made = await make_domain(mtls, email_domains=())
    assert made.email_domains == ("prod.example", ".prod.example")
    for address in ("alice@prod.example", "bob@mail.prod.example"):
        await make_user(mtls, address)
    with pytest.raises(Refused):
        await make_user(mtls, "alice@example.com")


async def test_ca_for_a_domain_from_before_certifies_the_addresses_it_has(mtls: Mtls, organization: str) -> None:
    await make_domain(mtls, email_domains=())
    async with mtls.database.transaction() as tx:  # as it was before addresses were limited
        await tx.execute(text("UPDATE mtls_trust_domain SET email_domains = '{}'"))
    await make_user(mtls, "alice@example.com")
    changed = await give_ca(mtls, OPERATOR, "prod.example", new_ca=NewCaWish())
    assert changed.email_domains == ("prod.example", ".prod.example", "example.com")
    ca = (await mtls.authority.current()).ca(changed.issuing_ca)
    assert ca.options.constraints is not None
    assert ca.options.constraints.permitted_email == changed.email_domains


async def test_limits_of_a_ca_survive_its_renewal(mtls: Mtls, trust_domain: TrustDomain) -> None:
    await renew_ca(mtls.authority, OPERATOR, "demo~id-prod-root")
    await rekey_ca(mtls.authority, OPERATOR, "demo~id-prod")
    for ca in ("demo~id-prod", "demo~id-prod-root"):
        certificate = (await mtls.authority.current()).ca(ca).certificate
        constraints = certificate.extension("2.5.29.30")
        assert constraints is not None
        assert b"\x81\x0bexample.com" in constraints.value
