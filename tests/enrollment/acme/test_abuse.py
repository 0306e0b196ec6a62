"""What an account holder, or whoever owned a name before, tries in order to get what is not his."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text
from tests.enrollment.acme.conftest import House, Validations, problem, serving
from tests.support.acme_client import certificate_request
from tests.support.authority import OPERATOR
from tests.support.eventually import eventually

from intaglio.core import clock
from intaglio.db.engine import Database
from intaglio.db.listing import ListQuery
from intaglio.enrollment import request_administration
from intaglio.enrollment.acme import administration, upkeep
from intaglio.enrollment.acme.validation import ValidationFailed

CAA = ValidationFailed("caa", "Another CA is named.")
WWW = ("www.example.com",)


async def issued(database: Database) -> int:
    async with database.read() as view:
        return len(await view.all(text("SELECT id FROM certificate WHERE channel = 'acme'")))


async def test_slow_name_servers_do_not_get_an_order_past_its_caa_records(
    house: House, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await house.endpoint()
    client = await house.client()
    order = await house.ready_order(client, *WWW)
    asked, answered = asyncio.Event(), asyncio.Event()

    async def slow(domain: str, **_: Any) -> None:
        asked.set()
        await answered.wait()
        raise CAA

    monkeypatch.setattr(house.validations, "check_caa", slow)
    with clock.frozen(clock.now() + timedelta(hours=9)):
        client.nonce = None
        finalizing = asyncio.create_task(client.finalize(order, certificate_request(WWW)))
        await asked.wait()
    async with serving(house.enrollment, Validations()) as other:
        with clock.frozen(clock.now() + timedelta(hours=10)):
            assert await upkeep.take_over(other.acme) == 0
            answered.set()
            problem(await finalizing, "caa", 422)
            client.nonce = None
            assert (await client.post(order["url"])).json()["status"] == "ready"
    assert await issued(database) == 0


async def test_an_approval_that_comes_late_does_not_get_an_order_past_its_caa_records(
    house: House, database: Database
) -> None:
    await house.endpoint(approval="manual")
    client = await house.client()
    order = await house.ready_order(client, *WWW)
    await client.finalize(order, certificate_request(WWW))
    house.validations.caa["www.example.com"] = CAA
    await approve(house)
    with clock.frozen(clock.now() + timedelta(hours=9)):
        assert await upkeep.take_over(house.acme) == 1
        client.nonce = None
        found = await house.reached(client, order["url"], "invalid")
    assert found["error"]["type"] == "urn:ietf:params:acme:error:caa"
    assert await issued(database) == 0


async def test_an_account_that_was_ended_gets_nothing_that_it_waited_for(house: House, database: Database) -> None:
    await house.endpoint(approval="manual")
    client = await house.client()
    order = await house.ready_order(client, *WWW)
    await client.finalize(order, certificate_request(WWW))
    (account,) = (await administration.list_accounts(house.enrollment, OPERATOR, ListQuery())).items
    await administration.deactivate_account(house.enrollment, OPERATOR, account.account.id)
    await approve(house)
    with clock.frozen(clock.now() + timedelta(minutes=1)):
        assert await upkeep.take_over(house.acme) == 1
        await eventually(lambda: not house.acme.running._tasks)
    (found,) = (await administration.list_orders(house.enrollment, OPERATOR, ListQuery())).items
    assert found.status == "invalid"
    assert await issued(database) == 0


async def approve(house: House) -> None:
    (waiting,) = (await request_administration.list_requests(house.enrollment, OPERATOR, ListQuery())).items
    await request_administration.approve_request(house.enrollment, OPERATOR, waiting.request.id)
