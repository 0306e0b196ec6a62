"""What the responder puts up with: sizes, numbers and times, each an operator's choice."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from tests.support.authority import OPERATOR
from tests.support.eventually import eventually
from tests.support.foreign import ForeignCa, Known, learn
from tests.support.status_authorities import Establish
from tests.validation.ocsp.test_everybody import about

from intaglio.authority.context import Authority
from intaglio.db.engine import Database
from intaglio.db.listen import Watch
from intaglio.platform import live_settings
from intaglio.validation.api import PublicApp, public_app
from intaglio.validation.ocsp import responder
from intaglio.validation.settings import Ocsp

_Message = dict[str, Any]


async def _set(database: Database, public: PublicApp, **values: Any) -> None:
    async with database.transaction() as tx:
        await live_settings.change(tx, OPERATOR, "ocsp", values)
    await eventually(lambda: _knows(public, values))


async def _knows(public: PublicApp, values: dict[str, Any]) -> bool:
    await public.responder.catch_up()
    return all(getattr(public.responder.limits, name) == value for name, value in values.items())


async def test_bodies_and_heads_over_the_limits_are_413_and_431(
    database: Database, public: PublicApp, client: httpx.AsyncClient
) -> None:
    assert Ocsp().max_body_octets == 8192
    assert (await client.post("/eva", content=bytes(8192))).status_code == 200
    assert (await client.post("/eva", content=bytes(8193))).status_code == 413
    assert (await client.get("/eva/" + "A" * 20_000)).status_code == 431
    assert (await client.post("/eva", content=b"", headers={"X-Long": "x" * 17_000})).status_code == 431
    await _set(database, public, max_body_octets=300, max_header_octets=1024)
    assert (await client.post("/ocsp", content=bytes(301))).status_code == 413
    assert (await client.post("/ocsp", content=bytes(300), headers={"X-Long": "x" * 1000})).status_code == 431


class _Slow:
    """A client that sends what it is told to, when it is told to."""

    def __init__(self) -> None:
        self.messages: asyncio.Queue[_Message] = asyncio.Queue()
        self.status = 0

    async def send(self, message: _Message) -> None:
        self.status = message.get("status", self.status)

    def ask(self, public: PublicApp) -> asyncio.Task[None]:
        scope = {"type": "http", "method": "POST", "path": "/eva", "headers": []}
        return asyncio.create_task(public(scope, self.messages.get, self.send))


async def test_a_body_that_does_not_arrive_is_503(database: Database, public: PublicApp) -> None:
    await _set(database, public, read_timeout=1.0)
    slow = _Slow()
    asking = slow.ask(public)
    slow.messages.put_nowait({"type": "http.request", "body": b"0", "more_body": True})
    await asking
    assert slow.status == 503


async def test_more_requests_at_a_time_than_wanted_are_503_and_the_next_are_answered(
    database: Database, public: PublicApp, client: httpx.AsyncClient, establish: Establish
) -> None:
    ca = ForeignCa()
    await learn(database, await establish(ca, "foreign", "basic"), {7: Known()})
    await _set(database, public, listen_limit=2)
    waiting = [_Slow(), _Slow()]
    tasks = [slow.ask(public) for slow in waiting]
    await eventually(lambda: public.running == 2)
    refused = await client.post("/eva", content=about(ca, 7))
    assert refused.status_code == 503
    assert refused.headers["retry-after"] == "1"
    for slow in waiting:
        slow.messages.put_nowait({"type": "http.request", "body": about(ca, 7), "more_body": False})
    await asyncio.gather(*tasks)
    assert [slow.status for slow in waiting] == [200, 200]
    assert (await client.post("/eva", content=about(ca, 7))).status_code == 200


async def test_a_client_that_hangs_up_while_sending_costs_nothing_more(authority: Authority, watch: Watch) -> None:
    public = public_app(authority, watch)
    slow = _Slow()
    asking = slow.ask(public)
    slow.messages.put_nowait({"type": "http.disconnect"})
    await asking
    assert public.running == 0
    await public.close()


async def test_requests_are_logged_with_serial_number_and_ca_where_that_is_wanted(
    database: Database, public: PublicApp, client: httpx.AsyncClient, establish: Establish,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    lines: list[tuple[str, dict[str, Any]]] = []
    monkeypatch.setattr(responder.log, "info", lambda event, **facts: lines.append((event, facts)))
    ca = ForeignCa()
    await learn(database, await establish(ca, "foreign", "basic"), {7: Known()})
    assert (await client.post("/eva", content=about(ca, 7))).status_code == 200
    assert lines == []
    await _set(database, public, log_requests=True)
    for request in (about(ca, 7), about(ca, 7), about(ForeignCa("Strange"), 8), b"rubbish"):
        assert (await client.post("/eva", content=request)).status_code == 200
    good = {"serial": "07", "issuer": "CN=Foreign CA", "authority": "foreign", "outcome": "answered"}
    assert lines[:2] == [("SendRevocationStatusRequest", good)] * 2
    strange = {"serial": "08", "issuer": None, "authority": None, "outcome": "unprocessed"}
    assert lines[2] == ("SendRevocationStatusRequest.Failed", strange)
    assert lines[3] == ("SendRevocationStatusRequest.Failed", {"outcome": "invalid"})
