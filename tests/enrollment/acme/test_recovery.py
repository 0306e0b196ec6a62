"""What a process leaves unfinished is finished by another one, exactly once."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text
from tests.enrollment.acme.conftest import DIRECTORY, House, Validations, problem, serving
from tests.support.acme_client import AcmeClient, certificate_request
from tests.support.eventually import eventually

from intaglio.core import clock
from intaglio.core.errors import Unavailable
from intaglio.db.engine import Database
from intaglio.enrollment.acme import finalization, upkeep

LATER = timedelta(minutes=1)


async def count(database: Database, query: str) -> int:
    async with database.read() as view:
        return int(await view.scalar(text(query)))


async def die(house: House) -> None:
    """End the work of a process as a crash would: nothing is given back."""
    running = house.acme.running
    tasks = [*running._tasks.values(), *([running._keeper] if running._keeper else [])]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_validation_is_taken_over_when_its_process_died(house: House) -> None:
    await house.endpoint()
    client = await house.client()
    house.validations.endless.add("www.example.com")
    answer = await client.order("www.example.com")
    await client.answer_challenges(answer.json())
    await die(house)
    async with serving(house.enrollment, Validations()) as other:
        assert await upkeep.take_over(other.acme) == 0  # it may still be alive
        with clock.frozen(clock.now() + LATER):
            assert await upkeep.take_over(other.acme) == 1
            assert await upkeep.take_over(other.acme) == 0
            client.nonce = None
            await house.reached(client, answer.headers["location"], "ready")


async def test_work_is_given_back_when_a_process_stops_in_order(house: House) -> None:
    await house.endpoint()
    client = await house.client()
    async with serving(house.enrollment, Validations(endless={"www.example.com"})) as stopping:
        elsewhere = AcmeClient(stopping.http, DIRECTORY, client.key, client.kid, client.directory)
        answer = await elsewhere.order("www.example.com")
        await elsewhere.answer_challenges(answer.json())
    await eventually(lambda: _taken(house))
    await house.reached(client, answer.headers["location"], "ready")


async def _taken(house: House) -> bool:
    return await upkeep.take_over(house.acme) == 1


async def test_who_lost_a_validation_does_not_decide_it(house: House, database: Database) -> None:
    await house.endpoint()
    client = await house.client()
    house.validations.endless.add("www.example.com")
    answer = await client.order("www.example.com")
    await client.answer_challenges(answer.json())
    async with database.transaction() as tx:
        await tx.execute(text("UPDATE acme_authorization SET holder = gen_random_uuid()"))
    house.validations.endless.clear()
    await eventually(lambda: not house.acme.running._tasks)
    assert (await client.post(answer.headers["location"])).json()["status"] == "pending"


async def test_a_certificate_is_issued_once_though_a_process_died_in_between(
    house: House, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await house.endpoint()
    client = await house.client()
    order = await house.ready_order(client, "www.example.com")
    real = finalization.apply

    async def dying(*arguments: Any) -> Any:
        await real(*arguments)
        raise asyncio.CancelledError  # after the certificate was issued, before it is written down with the order

    monkeypatch.setattr(finalization, "apply", dying)
    monkeypatch.setattr(finalization, "_PATIENCE", 0.5)
    with pytest.raises(asyncio.CancelledError):
        await client.finalize(order, certificate_request(["www.example.com"]))
    client.nonce = None
    monkeypatch.setattr(finalization, "apply", real)
    assert (await client.post(order["url"])).json()["status"] == "processing"
    async with serving(house.enrollment, Validations()) as other:
        with clock.frozen(clock.now() + LATER):
            assert await upkeep.take_over(other.acme) == 1
            client.nonce = None
            done = await house.reached(client, order["url"], "valid")
            assert (await client.post(done["certificate"])).status_code == 200
    assert await count(database, "SELECT count(*) FROM certificate WHERE channel = 'acme'") == 1


async def test_an_order_outlives_an_outage_while_it_is_issued(
    house: House, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await house.endpoint()
    client = await house.client()
    order = await house.ready_order(client, "www.example.com")
    real = finalization.apply

    async def unavailable(*arguments: Any) -> Any:
        raise Unavailable("The key store is away.")

    monkeypatch.setattr(finalization, "apply", unavailable)
    answer = await client.finalize(order, certificate_request(["www.example.com"]))
    assert answer.json()["status"] == "processing"
    assert answer.headers["retry-after"]
    monkeypatch.setattr(finalization, "apply", real)
    with clock.frozen(clock.now() + LATER):
        client.nonce = None
        assert await upkeep.take_over(house.acme) == 1
        await house.reached(client, order["url"], "valid")


async def test_of_two_simultaneous_finalizations_one_counts(house: House, database: Database) -> None:
    await house.endpoint()
    client = await house.client()
    order = await house.ready_order(client, "www.example.com")
    async with serving(house.enrollment, Validations()) as other:
        elsewhere = AcmeClient(other.http, DIRECTORY, client.key, client.kid, client.directory)
        answers = await asyncio.gather(
            *(each.finalize(order, certificate_request(["www.example.com"])) for each in (client, elsewhere))
        )
    good = [answer for answer in answers if answer.status_code == 200]
    (refused,) = [answer for answer in answers if answer.status_code != 200]
    assert [answer.json()["status"] for answer in good] == ["valid"]
    problem(refused, "orderNotReady", 403)
    assert await count(database, "SELECT count(*) FROM certificate WHERE channel = 'acme'") == 1


async def test_accounts_and_orders_are_known_to_every_process(house: House) -> None:
    await house.endpoint()
    client = await house.client()
    answer = await client.order("www.example.com")
    async with serving(house.enrollment, Validations()) as other:
        elsewhere = AcmeClient(other.http, DIRECTORY, client.key, client.kid, client.directory)
        await elsewhere.answer_challenges(answer.json())
        order = await other.reached(elsewhere, answer.headers["location"], "ready")
    done = await client.finalize(order, certificate_request(["www.example.com"]))
    assert done.json()["status"] == "valid"


async def test_every_change_is_in_the_audit_trail(house: House, database: Database) -> None:
    await house.endpoint()
    client = await house.client()
    await house.certificate(client, "www.example.com")
    await client.post(client.kid or "", {"status": "deactivated"})
    async with database.read() as view:
        rows = await view.all(
            text("SELECT action, actor, outcome FROM audit_record WHERE actor LIKE 'acme:%' ORDER BY seq")
        )
    assert [row["action"] for row in rows] == [
        "acme-account.create",
        "acme-order.create",
        "acme-authorization.validate",
        "certificate.issue",
        "acme-account.deactivate",
    ]
    assert {row["outcome"] for row in rows} == {"success"}
    assert len({row["actor"] for row in rows}) == 1
