"""Deleting CAs and what remains of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select
from tests.support.authority import OPERATOR, issue_server_certificate, issuing_wish, make_hierarchy, root_wish

from intaglio.authority import models
from intaglio.authority.cas.create import create_issuing, create_root
from intaglio.authority.cas.delete import delete_ca
from intaglio.authority.cas.views import get_chain, list_cas
from intaglio.authority.context import Authority
from intaglio.authority.organizations import create_organization
from intaglio.core import clock
from intaglio.core.errors import NotFound, Refused, StateConflict


async def test_a_root_with_cas_below_it_is_not_deleted(authority: Authority, organization: str) -> None:
    await make_hierarchy(authority)
    with pytest.raises(StateConflict) as refusal:
        await delete_ca(authority, OPERATOR, "demo~root")
    assert (refusal.value.code, refusal.value.extra["cas"]) == ("ca-has-subordinates", ["demo~issuing"])
    await delete_ca(authority, OPERATOR, "demo~issuing")
    await delete_ca(authority, OPERATOR, "demo~root")
    assert await list_cas(authority, OPERATOR) == []


async def test_an_orphan_goes_on_and_can_be_deleted(authority: Authority, organization: str) -> None:
    await make_hierarchy(authority)
    deletion = await delete_ca(authority, OPERATOR, "demo~root", force=True)
    assert deletion.orphans == ("demo~issuing",)
    await issue_server_certificate(authority, "demo~issuing")
    await delete_ca(authority, OPERATOR, "demo~issuing")
    assert await list_cas(authority, OPERATOR) == []


async def test_a_deleted_ca_leaves_a_tombstone_that_issues_nothing(authority: Authority, organization: str) -> None:
    await make_hierarchy(authority)
    issued = await issue_server_certificate(authority, "demo~issuing")
    chain = await get_chain(authority, OPERATOR, "demo~issuing")
    await delete_ca(authority, OPERATOR, "demo~issuing")
    with pytest.raises(NotFound):
        await issue_server_certificate(authority, "demo~issuing")
    with pytest.raises(NotFound):
        await get_chain(authority, OPERATOR, "demo~issuing")
    snapshot = await authority.snapshot()
    tombstone = snapshot.by_name["demo", "issuing"]
    assert (tombstone.state, tombstone.chain) == ("deleted", chain)
    assert all(tombstone.id not in client.grants for client in snapshot.clients.values())
    async with authority.database.read() as view:
        query = select(models.certificate.c.status).where(models.certificate.c.id == issued.id)
        assert await view.scalar(query) == "valid"
    [shown] = [ca for ca in await list_cas(authority, OPERATOR, deleted=True) if ca.name == "issuing"]
    assert (shown.state, shown.reserved_until) == ("deleted", issued.not_after)


async def test_the_id_is_reserved_for_a_day_and_while_certificates_live(
    authority: Authority, organization: str
) -> None:
    with clock.frozen(datetime(2030, 1, 1, tzinfo=UTC)) as advance:
        await create_root(authority, OPERATOR, "demo", root_wish())
        await delete_ca(authority, OPERATOR, "demo~root")
        advance(timedelta(hours=23))
        with pytest.raises(StateConflict) as refusal:
            await create_root(authority, OPERATOR, "demo", root_wish())
        assert refusal.value.code == "ca-id-reserved"
        assert "2030-01-02T00:00:00Z" in refusal.value.detail
        advance(timedelta(hours=1))
        await create_root(authority, OPERATOR, "demo", root_wish())
        await create_issuing(authority, OPERATOR, "demo", issuing_wish())
        end = clock.now() + timedelta(days=10)
        await issue_server_certificate(authority, "demo~issuing", not_after=end)
        await delete_ca(authority, OPERATOR, "demo~issuing")
        advance(timedelta(days=9))
        with pytest.raises(StateConflict) as refusal:
            await create_issuing(authority, OPERATOR, "demo", issuing_wish())
        assert refusal.value.extra["reserved_until"] == clock.rfc3339(end)
        advance(timedelta(days=1))
        await create_issuing(authority, OPERATOR, "demo", issuing_wish())


async def test_namesakes_in_other_organizations_are_untouched(authority: Authority, organization: str) -> None:
    await create_organization(authority, OPERATOR, "other")
    await create_root(authority, OPERATOR, "demo", root_wish())
    await create_root(authority, OPERATOR, "other", root_wish())
    await delete_ca(authority, OPERATOR, "demo~root")
    assert [ca.id for ca in await list_cas(authority, OPERATOR)] == ["other~root"]
    await create_issuing(authority, OPERATOR, "other", issuing_wish())


async def test_on_wish_everything_is_revoked_first(authority: Authority, organization: str) -> None:
    await make_hierarchy(authority)
    for _ in range(3):
        await issue_server_certificate(authority, "demo~issuing")
    deletion = await delete_ca(authority, OPERATOR, "demo~issuing", revoke_all=True)
    assert deletion.revoked == 4  # with the CA's own certificate
    async with authority.database.read() as view:
        c = models.certificate.c
        rows = await view.all(select(c.subject, c.status).order_by(c.subject))
    revoked = [row["subject"] for row in rows if row["status"] == "revoked"]
    assert revoked == ["CN=issuing,O=Demo,C=CA", "CN=www.example", "CN=www.example", "CN=www.example"]


async def test_a_deleted_ca_cannot_be_deleted_again(authority: Authority, organization: str) -> None:
    await create_root(authority, OPERATOR, "demo", root_wish())
    await delete_ca(authority, OPERATOR, "demo~root")
    with pytest.raises(NotFound):
        await delete_ca(authority, OPERATOR, "demo~root")


async def test_internal_cas_are_not_deleted(authority: Authority, organization: str) -> None:
    with pytest.raises(Refused) as refusal:
        await delete_ca(authority, OPERATOR, "demo~clients")
    assert refusal.value.code == "ca-internal"
