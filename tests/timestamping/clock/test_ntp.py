"""Asking NTP servers: honest ones, wrong ones, and those that are none."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intaglio.core import clock
from intaglio.timestamping.clock import ntp
from intaglio.timestamping.clock.measurement import ClockUnreachable, ClockUnsynchronized

_TO_1970 = 2_208_988_800
_PACKET = struct.Struct(">BBbbII4sQQQQ")


class Server(asyncio.DatagramProtocol):
    """An NTP server whose clock is ``ahead`` seconds; ``first`` is leap indicator, version and mode."""

    def __init__(self, ahead: float = 0.0, *, first: int = 0x24, stratum: int = 2, honest: bool = True) -> None:
        self.ahead, self.first, self.stratum, self.honest = ahead, first, stratum, honest
        self.address = ""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        now = int((clock.now().timestamp() + self.ahead + _TO_1970) * (1 << 32)) & (1 << 64) - 1
        origin = int.from_bytes(data[40:48], "big") if self.honest else 1
        answer = (self.first, self.stratum, 6, -20, 655, 655, b"TEST", now, origin, now, now)
        self.transport.sendto(_PACKET.pack(*answer), addr)


Start = Callable[..., Awaitable[str]]


@pytest.fixture
async def start() -> Any:
    transports = []

    async def begin(*given: Any, **named: Any) -> str:
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: Server(*given, **named), local_addr=("127.0.0.1", 0)
        )
        transports.append(transport)
        return "{}:{}".format(*transport.get_extra_info("sockname"))

    yield begin
    for transport in transports:
        transport.close()


async def test_the_offset_to_a_server_is_measured(start: Start) -> None:
    assert abs((await ntp.measure([await start()], 5)).offset) < 1
    found = await ntp.measure([await start(100.0)], 5)
    assert -101 < found.offset < -99
    assert found.error > 99


async def test_one_false_server_of_three_is_outvoted(start: Start) -> None:
    found = await ntp.measure([await start(), await start(5000.0), await start()], 5)
    assert found.error < 5


async def test_most_servers_have_to_answer(start: Start) -> None:
    with pytest.raises(ClockUnreachable):
        await ntp.measure([await start(), "127.0.0.1:9"], 0.5)


async def test_no_servers_are_no_time() -> None:
    with pytest.raises(ClockUnreachable, match="No NTP server"):
        await ntp.measure([], 1)


@pytest.mark.parametrize("wrong", [{"first": 0xE4}, {"stratum": 0}, {"stratum": 16}])
async def test_a_server_that_does_not_know_the_time_says_so(start: Start, wrong: dict[str, int]) -> None:
    with pytest.raises(ClockUnsynchronized):
        await ntp.measure([await start(**wrong)], 5)


async def test_answers_to_other_questions_are_ignored(start: Start) -> None:
    with pytest.raises(ClockUnreachable, match="does not answer"):
        await ntp.measure([await start(honest=False)], 0.2)


@given(st.binary(min_size=48, max_size=60))
def test_any_octets_are_an_answer_or_refused(data: bytes) -> None:
    try:
        found = ntp.judged("ntp.example", data, 1_800_000_000.0, 1_800_000_000.1)
    except (ClockUnreachable, ClockUnsynchronized):
        return
    assert found.error >= 0
