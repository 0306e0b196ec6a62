"""The health of the responder, and answers that are made anew before anybody has to wait for them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from types import SimpleNamespace
from urllib.parse import urlsplit, urlunsplit

import httpx
import psycopg
import pytest
from structlog.testing import CapturingLogger
from tests.support.eventually import eventually
from tests.support.foreign import ForeignCa, Known, learn
from tests.support.status_authorities import Establish
from tests.validation.ocsp.test_everybody import about, post

from intaglio.core import clock
from intaglio.core.clock import monotonic
from intaglio.core.errors import Unavailable
from intaglio.db.engine import Database
from intaglio.keystore.service import Signer
from intaglio.validation.api import PublicApp
from intaglio.validation.ocsp import answers, health, responder
from intaglio.validation.ocsp.answers import Memory


@pytest.fixture(autouse=True)
def _always_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "_REPEAT", 0.0)


async def test_a_healthy_responder_says_so_and_how_current_each_source_is(
    database: Database, client: httpx.AsyncClient, establish: Establish
) -> None:
    fed, never = ForeignCa("Fed"), ForeignCa("Never read")
    authority = await establish(fed, "fed", "basic")
    await establish(never, "never", "basic")
    await learn(database, authority, {7: Known()})
    answered = await client.get("/eva/health")
    assert answered.status_code == 200
    found = answered.json()
    assert found["status"] == "UP"
    assert {name: check["status"] for name, check in found["checks"].items()} == {"database": "UP", "keys": "UP"}
    assert found["sources"]["fed"]["status"] == "CURRENT"
    assert found["sources"]["never"] == {
        "status": "STALE", "complete": False, "thisUpdate": None, "nextUpdate": None, "lastSuccess": None,
        "reason": "source-never-complete",
    }  # fmt: skip
    assert (await client.post("/eva/health")).status_code == 405


@contextmanager
def _no_database(server: str, url: str) -> Iterator[None]:
    name = urlsplit(url).path.lstrip("/")
    with psycopg.connect(urlunsplit(urlsplit(server)._replace(path="/postgres")), autocommit=True) as connection:
        connection.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
        try:
            yield
        finally:
            connection.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')


async def test_without_the_database_the_health_is_503_and_recovers(
    client: httpx.AsyncClient, database_server: str, database_url: str
) -> None:
    assert (await client.get("/eva/health")).status_code == 200
    with _no_database(database_server, database_url):
        answered = await client.get("/eva/health")
        assert answered.status_code == 503
        assert answered.json()["checks"]["database"]["status"] == "DOWN"
    await eventually(lambda: _is_up(client))


async def _is_up(client: httpx.AsyncClient) -> bool:
    return (await client.get("/eva/health")).status_code == 200


async def test_a_key_that_does_not_sign_is_503_and_named(
    database: Database, client: httpx.AsyncClient, establish: Establish, monkeypatch: pytest.MonkeyPatch
) -> None:
    ca = ForeignCa()
    await learn(database, await establish(ca, "foreign", "basic", key="rsa-3072"), {7: Known()})

    async def away(self: Signer, data: bytes) -> bytes:
        raise Unavailable("The token is away.", code="token-unavailable")

    log = CapturingLogger()
    with monkeypatch.context() as patched:
        patched.setattr(Signer, "sign", away)
        patched.setattr(responder, "log", log)
        answered = await client.get("/eva/health")
        assert answered.status_code == 503
        assert answered.json()["checks"]["keys"]["authorities"] == {"foreign": "token-unavailable"}
        for _ in range(3):
            assert (await post(client, about(ca, 7))).response_status.name == "TRY_LATER"
        assert [call.kwargs["code"] for call in log.calls] == ["token-unavailable"], "one line for all of them"
    await eventually(lambda: _is_up(client))
    assert (await post(client, about(ca, 7))).response_status.name == "SUCCESSFUL"


async def test_a_signer_that_ends_soon_is_warned_of(client: httpx.AsyncClient, establish: Establish) -> None:
    await establish(ForeignCa(), "foreign", "basic")
    keys = (await client.get("/eva/health")).json()["checks"]["keys"]
    assert keys == {"status": "UP"}
    with clock.frozen(clock.now() + timedelta(days=80)):
        keys = (await client.get("/eva/health")).json()["checks"]["keys"]
    assert keys["status"] == "UP"
    assert "ends on" in keys["warnings"]["foreign"]


async def test_asking_for_health_costs_one_signature_for_each_key_that_can_be_away(
    client: httpx.AsyncClient, establish: Establish, monkeypatch: pytest.MonkeyPatch
) -> None:
    former, present = ForeignCa("Rolling"), ForeignCa("Rolling")
    rolling = SimpleNamespace(pem=former.pem + present.pem, certify_signer=present.certify_signer)
    await establish(rolling, "rolling", "basic", key="rsa-3072")  # two keys of a CA, one signer
    await establish(ForeignCa("Quick"), "quick", "basic")
    assert await _is_up(client)
    signed, usual = [], Signer.sign

    async def counted(self: Signer, data: bytes) -> bytes:
        signed.append(self.key_id)
        return await usual(self, data)

    monkeypatch.setattr(Signer, "sign", counted)
    assert await _is_up(client)
    assert len(signed) == 1


async def test_an_answer_still_asked_for_is_made_anew_before_its_end_while_the_old_one_is_given(
    database: Database, public: PublicApp, client: httpx.AsyncClient, establish: Establish,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    ca = ForeignCa()
    authority = await establish(ca, "foreign", "CRLProfileWithNextUpdate")
    now = clock.now().replace(microsecond=0)
    await learn(database, authority, {}, this_update=now, next_update=now + timedelta(hours=2))
    request = about(ca, 7)
    await eventually(lambda: _is_kept(client, request))
    first = await post(client, request)
    ahead = timedelta(minutes=55).total_seconds()
    monkeypatch.setattr(answers, "monotonic", lambda: monotonic() + ahead)
    assert (await post(client, request)).signature == first.signature
    await eventually(lambda: _is_another(client, request, first.signature))


async def _is_kept(client: httpx.AsyncClient, request: bytes) -> bool:
    return (await post(client, request)).signature == (await post(client, request)).signature


async def _is_another(client: httpx.AsyncClient, request: bytes, signature: bytes) -> bool:
    return (await post(client, request)).signature != signature


def test_memory_asks_once_for_a_successor_in_the_last_fifth_of_a_life(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(answers, "monotonic", lambda: now)
    memory: Memory[str, str] = Memory(1_000)
    memory.put("question", "answer", about=(), octets=10, stale_at=now + 100)
    asked: list[str] = []
    now = 1079.0
    assert memory.get("question", asked.append) == "answer"
    assert asked == []
    now = 1081.0
    assert [memory.get("question", asked.append) for _ in range(3)] == ["answer"] * 3
    assert asked == ["question"]
    now = 1100.0
    assert memory.get("question", asked.append) is None
