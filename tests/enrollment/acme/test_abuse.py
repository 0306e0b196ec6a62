"""What an account holder, or whoever owned a name before, tries in order to get what is not his."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text
from tests.enrollment.acme.conftest import House, Validations, problem, serving
from tests.enrollment.acme.test_accounts import roll_over
from tests.enrollment.acme.test_certificates import der, identifier
from tests.support.acme_client import certificate_request, new_key
from tests.support.authority import OPERATOR
from tests.support.eventually import eventually

from intaglio.core import clock
from intaglio.db.engine import Database
from intaglio.db.listing import ListQuery
from intaglio.enrollment import request_administration
from intaglio.enrollment.acme import administration, leases, models, upkeep
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


async def test_slow_name_servers_do_not_hold_a_finalization_for_ever(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    await house.endpoint(options={"validation": {"total_timeout": 1}})
    client = await house.client()
    order = await house.ready_order(client, *WWW)

    async def endless(domain: str, **_: Any) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(house.validations, "check_caa", endless)
    with clock.frozen(clock.now() + timedelta(hours=9)):
        client.nonce = None
        problem(await client.finalize(order, certificate_request(WWW)), "caa", 422)


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


async def test_slow_hosts_of_one_account_keep_no_other_account_waiting(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    await house.endpoint()
    monkeypatch.setitem(leases._SHARE, models.authorization, 2)
    house.acme.running._room[models.authorization] = asyncio.Semaphore(3)
    greedy, modest = await house.client(), await house.client()
    names = [f"tarpit-{number}.example.com" for number in range(5)]
    house.validations.endless.update(names)
    order = (await greedy.order(*names)).json()
    await greedy.answer_challenges(order)
    await house.ready_order(modest, *WWW)
    assert {each.value for each in house.validations.seen} == {*names[:2], *WWW}
    house.validations.endless.clear()
    await eventually(lambda: len(house.validations.seen) == 6)


async def test_orders_that_replace_a_certificate_are_no_way_around_the_rates(house: House) -> None:
    await house.endpoint(options={"rates": {"certificates_per_domain": 1}})
    client = await house.client()
    _, chain = await house.certificate(client, *WWW)
    replaces = identifier(der(chain))
    names = [f"host.site-{number}.example" for number in range(2)]
    assert (await client.order(names[0])).status_code == 201
    problem(await client.order(*WWW, names[0], replaces=replaces), "rateLimited", 429)
    for _ in range(10):  # beginning anew, over and over
        answer = await client.order(*WWW, replaces=replaces)
        assert answer.status_code == 201, answer.text
        await client.post(answer.json()["authorizations"][0], {"status": "deactivated"})
    problem(await client.order(*WWW, replaces=replaces), "rateLimited", 429)


async def test_a_common_name_that_only_looks_like_what_was_ordered_is_refused(house: House) -> None:
    await house.endpoint()
    client = await house.client()
    order = await house.ready_order(client, "kiosk.example")
    kelvin = certificate_request(["kiosk.example"], common_name="\u212aiosk.example")
    problem(await client.finalize(order, kelvin), "badCSR", 400)


@pytest.mark.parametrize("name", ["127.0.0.0x1", "0x7f000001", "192.0.2.0x", "1.2.3.4"])
async def test_an_address_in_another_spelling_is_no_name(house: House, name: str) -> None:
    await house.endpoint(options={"ip_addresses": False})
    problem(await (await house.client()).order(name), "malformed", 400)


async def test_a_key_registered_twice_in_one_instant_has_one_account(house: House) -> None:
    await house.endpoint()
    key = new_key()
    clients = [await house.stranger(key=key) for _ in range(6)]
    answers = await asyncio.gather(*(each.register() for each in clients))
    assert {each.status_code for each in answers} <= {200, 201}, [each.text for each in answers]
    assert len({each.headers["location"] for each in answers}) == 1


async def test_of_two_accounts_that_take_one_key_in_one_instant_one_gets_it(house: House) -> None:
    await house.endpoint()
    clients, key = [await house.client(), await house.client()], new_key()
    answers = await asyncio.gather(*(roll_over(each, key) for each in clients))
    done, refused = sorted(answers, key=lambda each: each.status_code)
    assert (done.status_code, refused.status_code) == (200, 409), [each.text for each in answers]
    assert refused.headers["location"] in {each.kid for each in clients}


async def test_accounts_of_before_are_no_way_around_a_binding_that_is_required_now(house: House) -> None:
    endpoint = await house.endpoint()
    client = await house.client()
    order = await house.ready_order(client, *WWW)
    await house.change(endpoint, options={"external_account": "required"})
    problem(await client.order(*WWW), "externalAccountRequired", 403)
    wish = {"identifier": {"type": "dns", "value": "other.example"}}
    problem(await client.post(client.directory["newAuthz"], wish), "externalAccountRequired", 403)
    problem(await client.finalize(order, certificate_request(WWW)), "externalAccountRequired", 403)


async def test_what_is_not_certified_any_more_is_not_certified_for_an_order_of_before(house: House) -> None:
    endpoint = await house.endpoint(options={"profiles": ["privatessl-tls-client"]})
    client = await house.client()
    ordinary = await house.ready_order(client, *WWW)
    special = await house.ready_order(client, "client.example.com", profile="privatessl-tls-client")
    await house.change(endpoint, options={"denied_domains": ["www.example.com"], "profiles": []})
    problem(await client.finalize(ordinary, certificate_request(WWW)), "rejectedIdentifier", 403)
    problem(await client.finalize(special, certificate_request(["client.example.com"])), "invalidProfile", 400)
