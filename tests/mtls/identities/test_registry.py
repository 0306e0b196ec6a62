"""The registry: who sees what, what is registered, and what ends certificates."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from pydantic import SecretStr
from sqlalchemy import select
from tests.support.authority import OPERATOR
from tests.support.identities import issue, make_domain, make_service, make_user

from intaglio.audit.models import audit_record
from intaglio.authority import memberships
from intaglio.authority.certificates import RevocationReason
from intaglio.core import clock
from intaglio.core.errors import Forbidden, IntaglioError, InvalidInput, NotFound, StateConflict
from intaglio.core.principal import Permission, Principal
from intaglio.db.listing import ListQuery
from intaglio.identity import users
from intaglio.mtls.context import Mtls
from intaglio.mtls.identities import bindings, ownership
from intaglio.mtls.identities.domains import DomainChanges, edit_domain
from intaglio.mtls.identities.registration import derived_name
from intaglio.mtls.identities.registry import (
    IdentityChanges,
    NewIdentity,
    add_identities,
    add_identity,
    edit_identity,
    find_by_uri,
    get_identity,
    list_identities,
)
from intaglio.mtls.identities.revoking import (
    resume_identity,
    retire_identity,
    revoke_binding,
    revoke_identity,
    revoke_serial,
    suspend_identity,
)
from intaglio.mtls.identities.values import Kind, TrustDomain

ALL = ListQuery(limit=1000)


async def make_member(mtls: Mtls, name: str, *permissions: Permission) -> Principal:
    """A user of the organization ``demo`` with these permissions."""
    async with mtls.database.transaction() as tx:
        await users.create_user(tx, OPERATOR, name, password=SecretStr("correct horse battery staple 7"))
    await memberships.add_member(mtls.authority, OPERATOR, "demo", name)
    return Principal("user", name, frozenset(permissions))


async def names_seen(mtls: Mtls, principal: Principal) -> set[str]:
    return {each.name for each in (await list_identities(mtls, principal, ALL)).identities}


async def test_name_of_a_person_is_made_here_and_says_nothing(mtls: Mtls, trust_domain: TrustDomain) -> None:
    user = await make_user(mtls)
    assert user.name.startswith("u-")
    assert user.name != derived_name(b"", "u", user.id)  # not computable from what is public
    with pytest.raises(InvalidInput):
        await add_identity(mtls, OPERATOR, NewIdentity("prod.example", "user", "alice", email="a@example.com"))


async def test_secret_behind_the_names_is_one_for_all_processes(mtls: Mtls, trust_domain: TrustDomain) -> None:
    found = await asyncio.gather(*(make_user(mtls, f"u{n}@example.com") for n in range(8)))
    again = Mtls(mtls.authority, mtls.gateway, mtls.master_key, mtls.watch)
    found.append(await make_user(again, "last@example.com"))
    assert len({each.name for each in found}) == 9


@pytest.mark.parametrize(
    "wanted",
    [
        NewIdentity("prod.example", "service", "Payments", team="finance"),
        NewIdentity("prod.example", "service", "a/b", team="finance"),
        NewIdentity("prod.example", "service", "..", team="finance"),
        NewIdentity("prod.example", "service", "x" * 65, team="finance"),
        NewIdentity("prod.example", "service", "", team="finance"),
        NewIdentity("prod.example", "service", "a", team="fin/ance"),
        NewIdentity("prod.example", "service", "a", team="finance", roles=["a\nb"]),
        NewIdentity("prod.example", "service", "a", team="finance", roles=[f"r{n}" for n in range(33)]),
        NewIdentity("prod.example", "service", "a", team="finance", dns_names=["*.example.com"]),
        NewIdentity("prod.example", "service", "a", team="finance", version="1.0 beta"),
        NewIdentity("prod.example", "device", "a", dns_names=["a.example"]),
        NewIdentity("prod.example", "user", email="not an address"),
        NewIdentity("prod.example", "robot", "a"),
    ],
)
async def test_what_cannot_be_certified_is_not_registered(
    mtls: Mtls, trust_domain: TrustDomain, wanted: NewIdentity
) -> None:
    with pytest.raises(InvalidInput):
        await add_identity(mtls, OPERATOR, wanted)
    assert await names_seen(mtls, OPERATOR) == set()


async def test_dns_names_stay_inside_the_trust_domain(mtls: Mtls, trust_domain: TrustDomain) -> None:
    await edit_domain(mtls, OPERATOR, "prod.example", DomainChanges(dns_suffixes=["prod.svc"]))
    assert (await make_service(mtls, dns_names=["Payments.Prod.Svc"])).dns_names == ("payments.prod.svc",)
    with pytest.raises(IntaglioError) as refusal:
        await make_service(mtls, "orders", dns_names=["bank.example"])
    assert refusal.value.code == "dns-name-outside-domain"


async def test_name_is_given_out_once_per_kind_and_domain(mtls: Mtls, trust_domain: TrustDomain) -> None:
    service = await make_service(mtls)
    await add_identity(mtls, OPERATOR, NewIdentity("prod.example", "device", "payments"))
    await make_domain(mtls, "dev.example", "dev")
    await make_service(mtls, domain="dev.example")
    await retire_identity(mtls, OPERATOR, service.id)
    with pytest.raises(StateConflict) as refusal:
        await make_service(mtls)
    assert refusal.value.code == "identity-exists"


async def test_address_is_that_of_one_person_in_a_trust_domain(mtls: Mtls, trust_domain: TrustDomain) -> None:
    alice, bob = await make_user(mtls, "alice@example.com"), await make_user(mtls, "bob@example.com")
    for change in ("alice@example.com", "Alice@Example.com"):
        with pytest.raises(StateConflict) as refusal:
            await edit_identity(mtls, OPERATOR, bob.id, IdentityChanges(email=change))
        assert refusal.value.code == "email-taken"
    with pytest.raises(StateConflict):
        await make_user(mtls, "ALICE@example.com")
    await edit_identity(mtls, OPERATOR, alice.id, IdentityChanges(email="Alice@example.com"))  # her own, otherwise
    await make_domain(mtls, "dev.example", "dev")
    await make_user(mtls, domain="dev.example")
    await retire_identity(mtls, OPERATOR, alice.id)
    assert (await edit_identity(mtls, OPERATOR, bob.id, IdentityChanges(email="alice@example.com"))).state == "active"


async def test_two_who_take_an_address_at_once_do_not_both_get_it(mtls: Mtls, trust_domain: TrustDomain) -> None:
    people = [await make_user(mtls, f"u{n}@example.com") for n in range(3)]
    wish = IdentityChanges(email="shared@example.com")
    done = await asyncio.gather(
        *(edit_identity(mtls, OPERATOR, each.id, wish) for each in people),
        make_user(mtls, "shared@example.com"),
        return_exceptions=True,
    )
    refused = [each for each in done if isinstance(each, StateConflict)]
    assert (len(refused), len(done)) == (3, 4)
    assert {each.code for each in refused} <= {"email-taken", "identity-exists"}


async def test_list_that_has_a_wrong_entry_registers_nobody(mtls: Mtls, trust_domain: TrustDomain) -> None:
    good = [NewIdentity("prod.example", "device", f"laptop-{n}") for n in range(3)]
    with pytest.raises(InvalidInput) as refusal:
        await add_identities(mtls, OPERATOR, [*good, NewIdentity("prod.example", "device", "LAPTOP")])
    assert refusal.value.fields[0][0] == "[3]"
    assert await names_seen(mtls, OPERATOR) == set()
    with pytest.raises(InvalidInput):
        await add_identities(mtls, OPERATOR, [*good, good[0]])
    assert len(await add_identities(mtls, OPERATOR, good)) == 3
    more = [*good, NewIdentity("prod.example", "device", "laptop-9")]
    assert [each.name for each in await add_identities(mtls, OPERATOR, more, skip_existing=True)] == ["laptop-9"]


async def test_identity_is_found_by_every_way_to_name_it(mtls: Mtls, trust_domain: TrustDomain) -> None:
    service = await make_service(mtls)
    for reference in (service.id, str(service.id), service.uri, "payments", "service:payments@prod.example"):
        assert await get_identity(mtls, OPERATOR, reference) == service
    async with mtls.database.read() as view:
        assert await find_by_uri(view, service.uri) == service
        assert await find_by_uri(view, service.uri.replace("finance", "other")) is None
    await add_identity(mtls, OPERATOR, NewIdentity("prod.example", "device", "payments"))
    with pytest.raises(StateConflict) as refusal:
        await get_identity(mtls, OPERATOR, "payments")
    assert refusal.value.code == "identity-ambiguous"
    assert (await get_identity(mtls, OPERATOR, "device:payments")).kind is Kind.DEVICE


async def test_list_pages_and_filters(mtls: Mtls, trust_domain: TrustDomain) -> None:
    for name in ("a", "b", "c"):
        await make_service(mtls, name, team="red" if name == "b" else "blue")
    first = await list_identities(mtls, OPERATOR, ListQuery(limit=2, sort="name", total=True))
    rest = await list_identities(mtls, OPERATOR, ListQuery(limit=2, sort="name", cursor=first.next_cursor))
    assert [each.name for each in (*first.identities, *rest.identities)] == ["a", "b", "c"]
    assert first.total == 3
    blue = await list_identities(mtls, OPERATOR, ListQuery(filter=("team=blue", "domain=prod.example")))
    assert {each.name for each in blue.identities} == {"a", "c"}


async def test_service_owner_sees_and_uses_only_what_he_owns(mtls: Mtls, trust_domain: TrustDomain) -> None:
    carol = await make_member(mtls, "carol", Permission.MTLS_OWN)
    mine, other = await make_service(mtls, owner="carol"), await make_service(mtls, "orders", owner="dave")
    assert await names_seen(mtls, carol) == {"payments"}
    issued, foreign = await issue(mtls, mine, principal=carol), await issue(mtls, other)
    page = await bindings.list_bindings(mtls, carol, ALL)
    assert [each.id for each in page.bindings] == [issued.binding_id]
    await revoke_binding(mtls, carol, issued.binding_id)
    for attempt in (
        get_identity(mtls, carol, other.id),
        bindings.get_binding(mtls, carol, foreign.binding_id),
        revoke_identity(mtls, carol, other.id),
    ):
        with pytest.raises(NotFound):
            await attempt
    for attempt in (
        revoke_binding(mtls, carol, foreign.binding_id),
        issue(mtls, other, principal=carol),
        edit_identity(mtls, carol, mine.id, IdentityChanges(team="red")),
        suspend_identity(mtls, carol, mine.id),
        add_identity(mtls, carol, NewIdentity("prod.example", "device", "x")),
    ):
        with pytest.raises(Forbidden):
            await attempt


async def delete_member(mtls: Mtls, name: str) -> None:
    """As the management API does it."""
    async with mtls.database.transaction() as tx:
        await ownership.give_up(tx, OPERATOR, name)
        await users.delete_user(tx, OPERATOR, name)


async def test_name_of_a_deleted_owner_owns_nothing(mtls: Mtls, trust_domain: TrustDomain) -> None:
    carol = await make_member(mtls, "carol", Permission.MTLS_OWN)
    service, device = await make_service(mtls, owner="Carol"), NewIdentity("prod.example", "device", "d", owner="carol")
    await add_identity(mtls, OPERATOR, device)
    await issue(mtls, service, principal=carol)
    await delete_member(mtls, "carol")
    with clock.frozen(clock.now() + timedelta(hours=1)):
        again = await make_member(mtls, "carol", Permission.MTLS_OWN)
    assert await names_seen(mtls, again) == set()
    with pytest.raises(Forbidden):
        await issue(mtls, service, principal=again)
    found = await get_identity(mtls, OPERATOR, service.id)
    assert (found.owner, found.owner_confirmed) == ("Carol", False)
    async with mtls.database.read() as view:
        a = audit_record.c
        detail = await view.scalar(select(a.detail).where(a.action == "identity.lose-owner", a.organization == "demo"))
        assert await ownership.without_owner(view, trust_domain.organization_id) == [
            ("service:payments@prod.example", "Carol"), ("device:d@prod.example", "carol"),
        ]  # fmt: skip
    assert detail == {"count": 2, "identities": ["service:payments@prod.example", "device:d@prod.example"]}
    await edit_identity(mtls, OPERATOR, service.id, IdentityChanges(team="red"))  # says nothing about the owner
    assert await names_seen(mtls, again) == set()
    await edit_identity(mtls, OPERATOR, service.id, IdentityChanges(owner="Carol"))
    assert await names_seen(mtls, again) == {"payments"}


async def test_account_that_is_deleted_in_any_way_owns_nothing_any_more(
    mtls: Mtls, trust_domain: TrustDomain
) -> None:
    await make_member(mtls, "carol")
    service = await make_service(mtls, owner="carol")
    assert service.owner_confirmed
    async with mtls.database.transaction() as tx:
        await users.delete_user(tx, OPERATOR, "carol")
    assert not (await get_identity(mtls, OPERATOR, service.id)).owner_confirmed


async def test_owner_named_before_his_account_exists_is_confirmed_by_the_registry_only(
    mtls: Mtls, trust_domain: TrustDomain
) -> None:
    service = await make_service(mtls, owner="carol")
    assert (service.owner, service.owner_confirmed) == ("carol", False)
    carol = await make_member(mtls, "carol", Permission.MTLS_OWN)
    assert await names_seen(mtls, carol) == set()
    with pytest.raises(Forbidden):
        await edit_identity(mtls, carol, service.id, IdentityChanges(owner="carol"))
    assert (await edit_identity(mtls, OPERATOR, service.id, IdentityChanges(owner="carol"))).owner_confirmed
    assert await names_seen(mtls, carol) == {"payments"}
    assert await names_seen(mtls, Principal("client", "carol", frozenset({Permission.MTLS_OWN}))) == set()
    for owner in ("", "dave"):
        await edit_identity(mtls, OPERATOR, service.id, IdentityChanges(owner=owner))
        assert await names_seen(mtls, carol) == set()


async def test_members_of_other_organizations_see_nothing(mtls: Mtls, trust_domain: TrustDomain) -> None:
    service = await make_service(mtls)
    stranger = Principal("user", "mallory", frozenset(Permission) - {Permission.PLATFORM_MANAGE})
    assert await names_seen(mtls, stranger) == set()
    with pytest.raises(NotFound):
        await get_identity(mtls, stranger, service.id)
    with pytest.raises(NotFound):
        await make_service_as(mtls, stranger)
    for kind in ("client", "identity", "anonymous"):
        with pytest.raises(IntaglioError):
            await names_seen(mtls, Principal(kind, "x"))


async def make_service_as(mtls: Mtls, principal: Principal) -> None:
    await add_identity(mtls, principal, NewIdentity("prod.example", "service", "x", team="y"))


async def test_change_says_what_changed_and_counts_from_the_next_certificate_on(
    mtls: Mtls, trust_domain: TrustDomain
) -> None:
    service = await make_service(mtls)
    changed = await edit_identity(mtls, OPERATOR, service.id, IdentityChanges(roles=["writer"], version="2.0"))
    assert (changed.roles, changed.version, changed.team) == (("writer",), "2.0", "finance")
    async with mtls.database.read() as view:
        a = audit_record.c
        detail = await view.scalar(select(a.detail).where(a.action == "identity.edit"))
    assert detail["changed"] == {"roles": ["writer"], "version": "2.0"}


async def test_suspended_identity_loses_its_certificates_and_comes_back(mtls: Mtls, trust_domain: TrustDomain) -> None:
    service = await make_service(mtls)
    issued = [await issue(mtls, service) for _ in range(2)]
    await suspend_identity(mtls, OPERATOR, service.id, comment="looked strange")
    for each in issued:
        found = await bindings.get_binding(mtls, OPERATOR, each.binding_id)
        assert (found.state, found.reason) == ("revoked", RevocationReason.PRIVILEGE_WITHDRAWN)
    assert (await resume_identity(mtls, OPERATOR, service.id)).state == "active"
    assert await issue(mtls, service)
    with pytest.raises(StateConflict):
        await resume_identity(mtls, OPERATOR, service.id)


async def test_retired_identity_is_ended_for_good(mtls: Mtls, trust_domain: TrustDomain) -> None:
    service = await make_service(mtls)
    issued = await issue(mtls, service)
    assert (await retire_identity(mtls, OPERATOR, service.id)).state == "retired"
    assert (await bindings.get_binding(mtls, OPERATOR, issued.binding_id)).state == "revoked"
    for attempt in (
        resume_identity(mtls, OPERATOR, service.id),
        suspend_identity(mtls, OPERATOR, service.id),
        edit_identity(mtls, OPERATOR, service.id, IdentityChanges(team="red")),
    ):
        with pytest.raises(StateConflict) as refusal:
            await attempt
        assert refusal.value.code == "identity-retired"


async def test_person_revokes_what_is_his_and_nothing_else(mtls: Mtls, trust_domain: TrustDomain) -> None:
    alice, bob = await make_user(mtls), await make_user(mtls, "bob@example.com")
    hers, his = await issue(mtls, alice), await issue(mtls, bob)
    with pytest.raises(Forbidden):
        await revoke_binding(mtls, alice.principal(), his.binding_id)
    with pytest.raises(Forbidden):
        await revoke_identity(mtls, alice.principal(), bob.id)
    [revoked] = await revoke_identity(mtls, alice.principal("192.0.2.1"), alice.id, RevocationReason.KEY_COMPROMISE)
    assert (revoked.id, revoked.state) == (hers.binding_id, "revoked")


async def test_certificate_is_revoked_by_serial_number(mtls: Mtls, trust_domain: TrustDomain) -> None:
    service = await make_service(mtls)
    issued = await issue(mtls, service)
    serial = issued.serial.hex(":")
    revoked = await revoke_serial(mtls, OPERATOR, serial, RevocationReason.SUPERSEDED, ca=trust_domain.issuing_ca)
    assert revoked.reason is RevocationReason.SUPERSEDED
    assert await revoke_serial(mtls, OPERATOR, serial, RevocationReason.SUPERSEDED)  # nothing is left to do
    for wrong in ("00FF", "not hexadecimal"):
        with pytest.raises(IntaglioError):
            await revoke_serial(mtls, OPERATOR, wrong)
