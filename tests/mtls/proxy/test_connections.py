"""Which open connections end when something changes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from tests.support.eventually import eventually

from intaglio.mtls.proxy import connections as module
from intaglio.mtls.proxy.connections import Connection, Connections
from intaglio.mtls.proxy.decisions import Asked, Caller, Settings, Verdict
from intaglio.transport.tls_stream import PeerCertificate

_GOOD = Verdict(True, True)
_UNKNOWN = Verdict(False, False, "status_unavailable")
_REVOKED = Verdict(False, False, "revoked")
_DENIED = Verdict(False, False, "policy_denied")
_CALLER = Caller("192.0.2.1", PeerCertificate((b"certificate",)))
_ASKED = Asked("GET", "/download", "host")


class Deciding:
    """A source that answers as it is told to, by path."""

    def __init__(self) -> None:
        self.answers: dict[str, Verdict] = {}
        self.recorded: list[tuple[str, str]] = []

    async def start(self, on_change: Callable[[], Awaitable[None]]) -> None: ...
    async def stop(self) -> None: ...
    async def settings(self) -> Settings:
        raise NotImplementedError

    async def decide(self, caller: Caller, asked: Asked, *, again: bool = False) -> Verdict:
        assert again
        return self.answers.get(asked.path, _GOOD)

    def record(self, caller: Caller, asked: Asked, verdict: Verdict, *, status: int | None) -> None:
        self.recorded.append((asked.path, verdict.reason))


class House:
    def __init__(self) -> None:
        self.source = Deciding()
        self.connections = Connections(self.source)
        self.aborted: list[Caller] = []

    def open(self, caller: Caller = _CALLER) -> Connection:
        ended = asyncio.Event()

        def abort() -> None:
            self.aborted.append(caller)
            ended.set()

        async def serve() -> None:
            await ended.wait()

        connection = Connection(caller, abort)
        self.connections.add(connection, serve())
        return connection


async def test_connection_of_somebody_entitled_stays() -> None:
    house = House()
    house.open()
    assert await house.connections.recheck() == 0
    assert len(house.connections) == 1
    await house.connections.end(0)


async def test_connections_of_a_revoked_certificate_end_and_others_stay() -> None:
    house = House()
    other = Caller("192.0.2.1", PeerCertificate((b"other",)))
    house.open(), house.open(), house.open(other)
    decide = house.source.decide

    async def by_certificate(caller: Caller, asked: Asked, *, again: bool = False) -> Verdict:
        return _REVOKED if caller.peer.chain == (b"certificate",) else await decide(caller, asked, again=again)

    house.source.decide = by_certificate  # type: ignore[method-assign]
    assert await house.connections.recheck() == 2
    assert house.aborted == [_CALLER, _CALLER]
    assert house.source.recorded == [("", "revoked")] * 2
    assert await house.connections.recheck() == 0
    await house.connections.end(0)


async def test_policy_ends_what_is_under_way_and_nothing_else() -> None:
    house = House()
    idle, busy = house.open(), house.open()
    house.source.answers = {"": _DENIED, "/download": _DENIED}
    assert await house.connections.recheck() == 0
    with busy.answering(_ASKED):
        assert await house.connections.recheck() == 1
    assert house.source.recorded == [("/download", "policy_denied")]
    assert (idle.cut, busy.cut) == (False, True)
    await house.connections.end(0)


async def test_silence_about_status_is_borne_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(module, "monotonic", lambda: now)
    house = House()
    house.open()
    house.source.answers = {"": _UNKNOWN}
    assert await house.connections.recheck() == 0
    now += module.UNAVAILABLE_FOR - 1
    assert await house.connections.recheck() == 0
    house.source.answers = {}
    assert await house.connections.recheck() == 0  # it is known again, and the time starts anew
    house.source.answers = {"": _UNKNOWN}
    now += 10
    assert await house.connections.recheck() == 0
    now += module.UNAVAILABLE_FOR + 1
    assert await house.connections.recheck() == 1
    await house.connections.end(0)


async def test_what_is_under_way_may_finish_at_the_end() -> None:
    house = House()
    idle, busy = house.open(), house.open()
    with busy.answering(_ASKED):
        ending = asyncio.create_task(house.connections.end(5))
        await eventually(lambda: bool(house.aborted))
        assert (len(house.aborted), idle.requests) == (1, 0)
        busy.abort()
        await ending
    assert len(house.connections) == 0
