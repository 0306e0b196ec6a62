"""What administrators see of ACME, and what they can end."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import text
from tests.enrollment.acme.conftest import House, problem
from tests.support.authority import OPERATOR, tenant

from intaglio.core import clock
from intaglio.core.errors import Forbidden, NotFound
from intaglio.core.identifiers import new_id
from intaglio.core.principal import Principal
from intaglio.db.listing import ListQuery
from intaglio.enrollment.acme import administration
from intaglio.enrollment.acme.validation import ValidationFailed
from intaglio.enrollment.administration import delete_endpoint

ALL = ListQuery()


async def test_orders_are_listed_with_what_they_have_come_to(house: House) -> None:
    await house.endpoint(options={"order_lifetime": "PT1H"})
    client = await house.client()
    house.validations.failing["bad.example.com"] = ValidationFailed("connection", "Nobody answered.")
    await client.order("waiting.example.com")
    await house.ready_order(client, "ready.example.com")
    await house.certificate(client, "done.example.com")
    failed = await client.order("bad.example.com")
    await client.answer_challenges(failed.json())
    await house.reached(client, failed.headers["location"], "invalid")
    found = await administration.list_orders(house.enrollment, OPERATOR, ALL)
    states = {view.order.identifiers[0].value: view.status for view in found.items}
    assert states == {
        "waiting.example.com": "pending",
        "ready.example.com": "ready",
        "done.example.com": "valid",
        "bad.example.com": "invalid",
    }
    for condition, names in (
        ("status=ready", ["ready.example.com"]),
        ("names~done", ["done.example.com"]),
        ("status=processing", []),
    ):
        page = await administration.list_orders(house.enrollment, OPERATOR, ListQuery(filter=[condition]))
        assert [view.order.identifiers[0].value for view in page.items] == names
    (bad,) = [view for view in found.items if view.status == "invalid"]
    shown = await administration.show_order(house.enrollment, OPERATOR, bad.order.id)
    (proof,) = shown.proofs
    assert proof.error is not None
    assert "Nobody answered." in proof.error["detail"]


async def test_an_account_that_an_administrator_ended_does_nothing_any_more(house: House) -> None:
    await house.endpoint()
    client = await house.client(contact=["mailto:admin@example.com"])
    _, chain = await house.certificate(client, "www.example.com")
    (view,) = (await administration.list_accounts(house.enrollment, OPERATOR, ALL)).items
    assert (view.account.contacts, view.orders) == (("mailto:admin@example.com",), 1)
    for _ in range(2):
        ended = await administration.deactivate_account(house.enrollment, OPERATOR, view.account.id)
        assert ended.account.status == "revoked"
    problem(await client.order("www.example.com"), "unauthorized", 403)
    problem(await client.register(), "unauthorized", 403)
    assert "BEGIN CERTIFICATE" in chain


@pytest.mark.parametrize("principal", [Principal("user", "nobody"), tenant("stranger")])
async def test_strangers_see_nothing(house: House, principal: Principal) -> None:
    await house.endpoint()
    client = await house.client()
    order = await client.order("www.example.com")
    account_id = UUID((client.kid or "").rpartition("/")[2])
    order_id = UUID(order.headers["location"].rpartition("/")[2])
    for call in (
        administration.show_account(house.enrollment, principal, account_id),
        administration.deactivate_account(house.enrollment, principal, account_id),
        administration.show_order(house.enrollment, principal, order_id),
    ):
        with pytest.raises((Forbidden, NotFound)):
            await call
    if principal.permissions:
        assert not (await administration.list_orders(house.enrollment, principal, ALL)).items
        assert not (await administration.list_accounts(house.enrollment, principal, ALL)).items


async def test_what_does_not_exist_is_not_found(house: House) -> None:
    with pytest.raises(NotFound):
        await administration.show_account(house.enrollment, OPERATOR, new_id())
    with pytest.raises(NotFound):
        await administration.show_order(house.enrollment, OPERATOR, new_id())


async def test_an_expired_order_is_listed_as_invalid(house: House) -> None:
    await house.endpoint(options={"order_lifetime": "PT1S"})
    client = await house.client()
    with clock.frozen(clock.now() - timedelta(hours=1)):  # the database has a clock of its own
        client.nonce = None
        await client.order("www.example.com")
    (view,) = (await administration.list_orders(house.enrollment, OPERATOR, ALL)).items
    assert view.status == "invalid"


async def test_an_endpoint_is_deleted_with_its_accounts_and_leaves_its_certificates(house: House) -> None:
    made = await house.endpoint()
    client = await house.client()
    await house.certificate(client, "www.example.com")
    await delete_endpoint(house.enrollment, OPERATOR, made.protocol, made.name)
    await house.enrollment.authority.current()
    assert not (await administration.list_accounts(house.enrollment, OPERATOR, ALL)).items
    assert not (await administration.list_orders(house.enrollment, OPERATOR, ALL)).items
    problem(await client.order("www.example.com"), "malformed", 404)
    async with house.enrollment.database.read() as view:
        assert await view.scalar(text("SELECT count(*) FROM certificate WHERE channel = 'acme'")) == 1
