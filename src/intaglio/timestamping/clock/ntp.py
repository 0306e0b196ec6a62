"""Asking NTP servers for the time, as a client that sets no clock. Source: RFC 5905 sections 7.3, 8 and 14.

The answers are not authenticated (NTS, RFC 8915, is chronyd's business: use the source chrony for it), so a question
carries 64 random bits that an answer must repeat, and several servers are asked where there are several.
"""

from __future__ import annotations

import asyncio
import secrets
import statistics
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from intaglio.core import clock
from intaglio.timestamping.clock.measurement import ClockUnreachable, ClockUnsynchronized, Measurement
from intaglio.timestamping.settings import split_address

PORT: Final = 123

_PACKET: Final = struct.Struct(">BBbbII4sQQQQ")
_CLIENT: Final = 0x23  # no warning, version 4, client
_SERVER: Final = 4
_UNSYNCHRONIZED: Final = 3
_MOST_STRATUM: Final = 15
_TO_1970: Final = 2_208_988_800  # seconds from 1900
_ERA: Final = 1 << 32


@dataclass(frozen=True)
class Answer:
    """``offset`` is how far this host's clock is ahead; ``error`` bounds what the way there and back and the server's
    own distance from true time may hide. In seconds."""

    offset: float
    error: float


async def measure(servers: Sequence[str], timeout: float) -> Measurement:
    """The median of what the servers say, within ``timeout`` seconds; more than half of them have to answer.

    Raises ClockUnreachable, ClockUnsynchronized.
    """
    if not servers:
        raise ClockUnreachable("No NTP server is named.", remedy="Set timestamping.ntp_servers.")
    found = await asyncio.gather(*(ask(server, timeout) for server in servers), return_exceptions=True)
    answers = [each for each in found if isinstance(each, Answer)]
    if len(answers) * 2 <= len(servers):
        refusals = [each for each in found if isinstance(each, ClockUnreachable | ClockUnsynchronized)]
        for unexpected in found:
            if isinstance(unexpected, BaseException) and unexpected not in refusals:
                raise unexpected
        raise refusals[0]
    offset = statistics.median(answer.offset for answer in answers)
    error = max(abs(answer.offset - offset) + answer.error for answer in _majority(answers, offset))
    return Measurement("ntp", offset, abs(offset) + error, clock.monotonic())


async def ask(server: str, timeout: float) -> Answer:
    """What one server says. Raises ClockUnreachable, ClockUnsynchronized."""
    host, port = split_address(server, PORT)
    cookie = secrets.randbits(64)
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(timeout):
            transport, protocol = await loop.create_datagram_endpoint(
                lambda: _Conversation(cookie), remote_addr=(host, port)
            )
            try:
                sent, started = clock.now().timestamp(), clock.monotonic()
                transport.sendto(_PACKET.pack(_CLIENT, 0, 0, 0, 0, 0, b"\0" * 4, 0, 0, 0, cookie))
                data, arrived = await protocol.answer
            finally:
                transport.close()
    except TimeoutError:
        raise ClockUnreachable(f"The NTP server {server} does not answer within {timeout:g} seconds.") from None
    except OSError as error:
        raise ClockUnreachable(f"The NTP server {server} cannot be asked: {error.strerror or error}.") from None
    return judged(server, data, sent, sent + (arrived - started))


def judged(server: str, data: bytes, sent: float, arrived: float) -> Answer:
    """What an answer says; ``sent`` and ``arrived`` by this host's clock, in seconds since 1970."""
    first, stratum, _, precision, delay, dispersion, _, _, _, received, transmitted = _PACKET.unpack_from(data)
    if first & 7 != _SERVER or not transmitted or not received:
        raise ClockUnreachable(f"What answers at {server} is no NTP server.")
    if first >> 6 == _UNSYNCHRONIZED or not 0 < stratum <= _MOST_STRATUM:
        raise ClockUnsynchronized(f"The NTP server {server} does not know the time.")
    there, back = _seconds(received, sent) - sent, _seconds(transmitted, arrived) - arrived
    way = max(there - back, 0.0)
    distance = delay / 65536 / 2 + dispersion / 65536
    return Answer(-(there + back) / 2, way / 2 + distance + 2.0 ** max(precision, -30))


def _majority(answers: Sequence[Answer], offset: float) -> Sequence[Answer]:
    """The half of the answers (and one) that are nearest to the median: what is further away is outvoted."""
    return sorted(answers, key=lambda answer: abs(answer.offset - offset))[: len(answers) // 2 + 1]


def _seconds(timestamp: int, near: float) -> float:
    """Seconds since 1970 of an NTP timestamp, in the era nearest to ``near``."""
    seconds = timestamp / _ERA - _TO_1970
    return seconds + round((near - seconds) / _ERA) * _ERA


class _Conversation(asyncio.DatagramProtocol):
    def __init__(self, cookie: int) -> None:
        self._cookie = cookie.to_bytes(8, "big")
        self.answer: asyncio.Future[tuple[bytes, float]] = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, addr: object) -> None:
        # The origin timestamp repeats ours; whatever does not is not the answer to our question.
        if not self.answer.done() and len(data) >= _PACKET.size and data[24:32] == self._cookie:
            self.answer.set_result((data, clock.monotonic()))

    def error_received(self, exc: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(exc)
