"""A client of chronyd's command protocol: one question, "tracking".

The protocol is that of chronyc (version 6, which chronyd has spoken since 2.2): one datagram each way, to the command
port or the Unix socket. The question is padded to the length of the answer, so that chronyd cannot be used to amplify.
Source: chrony, candm.h and cmdmon.c; chronyc(1), "tracking".
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
import struct
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from intaglio.timestamping.clock.measurement import ClockUnreachable, ClockUnsynchronized, Measurement
from intaglio.timestamping.settings import split_address

PORT: Final = 323

_VERSION: Final = 6
_REQUEST: Final = 1
_REPLY: Final = 2
_REQ_TRACKING: Final = 33
_RPY_TRACKING: Final = 5
_UNSYNCHRONIZED: Final = 3  # leap status

# version, type, two reserved octets, command, attempt, sequence, two words of padding
_QUESTION: Final = struct.Struct(">BBBBHHIII")
# version, type, two reserved octets, command, reply, status, three padded halves, sequence, two words of padding
_ANSWER: Final = struct.Struct(">BBBBHHHHHHIII")
# reference id, its address (16 octets, family, padding), stratum, leap status, reference time (high, low, nanoseconds),
# current correction, last offset, RMS offset, frequency, residual, skew, root delay, root dispersion, update interval
_TRACKING: Final = struct.Struct(">I16sHHHHIII9I")
_LENGTH: Final = _ANSWER.size + _TRACKING.size


@dataclass(frozen=True)
class Tracking:
    """What chronyd says of the clock it keeps; times in seconds. ``correction`` is how far the clock is behind."""

    reference_id: int
    stratum: int
    leap_status: int
    reference_time: tuple[int, int, int]
    correction: float
    root_delay: float
    root_dispersion: float


async def measure(address: str, timeout: float) -> Measurement:
    """What chronyd at ``address`` (``HOST:PORT`` or the path of its socket) says, within ``timeout`` seconds.

    Raises ClockUnreachable, ClockUnsynchronized.
    """
    found = await tracking(address, timeout)
    if found.leap_status == _UNSYNCHRONIZED or not found.reference_id:
        raise ClockUnsynchronized(
            "chronyd is not synchronized.", remedy="See chronyc sources; chronyd needs a server it can reach."
        )
    # Root dispersion and half of the root delay bound what lies between chronyd and true time (RFC 5905 section 11.2).
    error = abs(found.correction) + found.root_dispersion + found.root_delay / 2
    return Measurement("chrony", -found.correction, error, found.reference_time)


async def tracking(address: str, timeout: float) -> Tracking:
    """The answer of chronyd. Raises ClockUnreachable."""
    sequence = secrets.randbits(32)
    question = _QUESTION.pack(_VERSION, _REQUEST, 0, 0, _REQ_TRACKING, 0, sequence, 0, 0).ljust(_LENGTH, b"\0")
    try:
        async with asyncio.timeout(timeout):
            answer = await (_ask_socket if address.startswith("/") else _ask_port)(address, question)
    except TimeoutError:
        raise _unreachable(address, f"no answer within {timeout:g} seconds") from None
    except OSError as error:
        raise _unreachable(address, error.strerror or str(error)) from None
    return parse_answer(answer, sequence)


def parse_answer(data: bytes, sequence: int) -> Tracking:
    """The fields of an answer to the question ``sequence``. Raises ClockUnreachable for anything else."""
    if len(data) < _ANSWER.size:
        raise ClockUnreachable("What answers is not chronyd.")
    version, kind, _, _, command, reply, status, _, _, _, echoed, _, _ = _ANSWER.unpack_from(data)
    if (version, kind, command, echoed) != (_VERSION, _REPLY, _REQ_TRACKING, sequence):
        raise ClockUnreachable("What answers is not chronyd, or speaks another version of its protocol.")
    if status or reply != _RPY_TRACKING or len(data) < _LENGTH:
        raise ClockUnreachable(
            f"chronyd refuses to tell how it is doing (status {status}).", remedy="Allow it: cmdallow in chrony.conf."
        )
    fields = _TRACKING.unpack_from(data, _ANSWER.size)
    reference_id, _, _, _, stratum, leap, high, low, nanoseconds, *numbers = fields
    correction, root_delay, root_dispersion = (_float(numbers[index]) for index in (0, 6, 7))
    return Tracking(reference_id, stratum, leap, (high, low, nanoseconds), correction, root_delay, root_dispersion)


def _float(word: int) -> float:
    """chrony's floating point number: 7 bits of exponent and 25 of coefficient, both two's complement."""
    exponent, coefficient = word >> 25, word & (1 << 25) - 1
    if exponent >= 1 << 6:
        exponent -= 1 << 7
    if coefficient >= 1 << 24:
        coefficient -= 1 << 25
    return float(coefficient * 2.0 ** (exponent - 25))


async def _ask_port(address: str, question: bytes) -> bytes:
    host, port = split_address(address, PORT)
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(_Conversation, remote_addr=(host, port))
    try:
        transport.sendto(question)
        return await protocol.answer
    finally:
        transport.close()


async def _ask_socket(address: str, question: bytes) -> bytes:
    loop = asyncio.get_running_loop()
    with _named_socket(address) as asking:
        asking.connect(address)
        await loop.sock_sendall(asking, question)
        return await loop.sock_recv(asking, _LENGTH)


@contextlib.contextmanager
def _named_socket(address: str) -> Iterator[socket.socket]:
    """A socket with a name that chronyd may write to: it answers to the sender's address."""
    with tempfile.TemporaryDirectory(prefix="intaglio-chrony-", dir=_place(address)) as folder:
        own = Path(folder) / "sock"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as asking:
            asking.setblocking(False)
            asking.bind(str(own))
            Path(folder).chmod(0o711)
            own.chmod(0o666)
            yield asking


def _place(address: str) -> str | None:
    """The folder of chronyd's socket when it may be written, which is where chronyc puts its own."""
    folder = Path(address).parent
    return str(folder) if os.access(folder, os.W_OK) else None


class _Conversation(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, addr: object) -> None:
        if not self.answer.done():
            self.answer.set_result(data)

    def error_received(self, exc: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(exc)


def _unreachable(address: str, reason: str) -> ClockUnreachable:
    return ClockUnreachable(
        f"chronyd at {address} cannot be asked: {reason}.",
        remedy="Start chronyd, and let this host ask it (bindcmdaddress, cmdallow 127.0.0.1).",
    )
