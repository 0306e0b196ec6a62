"""One system call, and one TLS record, for head and body of an answer.

uvicorn writes the head as soon as it is known and the body after it. Most answers here are small and complete at once,
so what is written during one turn of the event loop is sent together at its end.
"""

from __future__ import annotations

import asyncio
from typing import Any

_WORTH_JOINING = 1 << 16  # octets; what is larger may be the one copy of an answer for many clients, and stays that


class CoalescingTransport(asyncio.Transport):
    """A transport that gathers the writes of one turn of ``loop`` and hands them to ``transport`` together."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._gathered: list[bytes] = []
        self.written = 0  # octets so far
        # Read often, never changed.
        self.get_extra_info = transport.get_extra_info  # type: ignore[method-assign]
        self.pause_reading = transport.pause_reading  # type: ignore[method-assign]
        self.resume_reading = transport.resume_reading  # type: ignore[method-assign]
        self.is_closing = transport.is_closing  # type: ignore[method-assign]

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self._gathered:
            self._loop.call_soon(self.flush)
        self._gathered.append(bytes(data))
        self.written += len(data)

    def flush(self) -> None:
        """Send what was gathered."""
        gathered, self._gathered = self._gathered, []
        if len(gathered) > 1 and sum(map(len, gathered)) <= _WORTH_JOINING:
            gathered = [b"".join(gathered)]
        for each in gathered:
            if not self._transport.is_closing():
                self._transport.write(each)

    def close(self) -> None:
        self.flush()
        self._transport.close()

    def abort(self) -> None:
        self._gathered.clear()
        self._transport.abort()

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._transport.get_protocol()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._transport.set_protocol(protocol)

    def get_write_buffer_size(self) -> int:
        return self._transport.get_write_buffer_size() + sum(map(len, self._gathered))

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._transport.set_write_buffer_limits(high, low)

    def write_eof(self) -> None:
        self.flush()
        self._transport.write_eof()

    def can_write_eof(self) -> bool:
        return self._transport.can_write_eof()

    def writelines(self, list_of_data: Any) -> None:
        for data in list_of_data:
            self.write(data)
