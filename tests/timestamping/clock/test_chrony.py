"""Asking chronyd: a real one, and everything else that may answer."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.clocks import Chronyd

from intaglio.core.clock import monotonic
from intaglio.timestamping.clock import chrony
from intaglio.timestamping.clock.measurement import ClockUnreachable, ClockUnsynchronized


@pytest.fixture(scope="module")
def chronyd() -> Iterator[Chronyd]:
    with TemporaryDirectory(prefix="intaglio-chrony-test-") as folder:
        made = Chronyd(Path(folder) / "run")
        made.start()
        yield made
        made.stop()


async def test_chronyd_is_asked_over_its_port_and_its_socket(chronyd: Chronyd) -> None:
    for address in (chronyd.address, str(chronyd.socket)):
        found = await chrony.tracking(address, 5)
        assert found.stratum == 8
        assert (await chrony.measure(address, 5)).error < 1


async def test_a_chronyd_without_servers_does_not_know_the_time() -> None:
    with TemporaryDirectory(prefix="intaglio-chrony-test-") as folder:
        made = Chronyd(Path(folder) / "run")
        made.start(synchronized=False)
        try:
            with pytest.raises(ClockUnsynchronized):
                await chrony.measure(made.address, 5)
        finally:
            made.stop()


async def test_nobody_at_the_port_is_told_at_once() -> None:
    with pytest.raises(ClockUnreachable, match="cannot be asked"):
        await chrony.measure("127.0.0.1:9", 5)
    with pytest.raises(ClockUnreachable, match="cannot be asked"):
        await chrony.measure("/nowhere/chronyd.sock", 5)


async def test_silence_ends_after_the_connection_timeout() -> None:
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0)
    )
    host, port = transport.get_extra_info("sockname")
    started = monotonic()
    with pytest.raises(ClockUnreachable, match="no answer within"):
        await chrony.measure(f"{host}:{port}", 0.2)
    assert monotonic() - started >= 0.2
    transport.close()


@given(st.binary(max_size=150))
def test_any_octets_are_an_answer_or_refused(data: bytes) -> None:
    with contextlib.suppress(ClockUnreachable):
        chrony.parse_answer(data, 7)


@given(st.binary(min_size=76, max_size=90))
def test_any_numbers_in_an_answer_are_read(data: bytes) -> None:
    header = bytes.fromhex("06020000 0021 0005 0000 0000 0000 0000 00000007 00000000 00000000".replace(" ", ""))
    found = chrony.parse_answer(header + data, 7)
    assert isinstance(found.correction, float)


@pytest.mark.parametrize(("word", "value"), [(0, 0.0), (0x02800000, 0.5), (0x04800000, 1.0), (0x03800000, -0.5)])
def test_floating_point_numbers_are_chronys(word: int, value: float) -> None:
    assert chrony._float(word) == value
