"""Clients of scenarios: from an address of the loopback network, with a certificate or without."""

from __future__ import annotations

import asyncio
import contextlib
import ssl

import httpx

from intaglio.core.clock import monotonic
from intaglio.mtls.scenarios.credentials import Held
from intaglio.transport.contexts import client_context

_PATIENCE = 10.0
_READ = 1 << 16


async def ask(port: int, authority: bytes, held: Held | None, *, source: str, path: str = "/") -> str:
    """What comes of one request: an HTTP status, the reason code of a refusal, or the failure of the handshake.

    Arguments: ``authority`` (PEM) is what vouches for the server.
    """
    context = client_context(authority, held.identity if held else None)
    transport = httpx.AsyncHTTPTransport(verify=context, local_address=source, trust_env=False)
    try:
        async with httpx.AsyncClient(transport=transport, timeout=_PATIENCE) as http:
            answer = await http.get(f"https://localhost:{port}{path}")
    except httpx.TransportError as error:
        return f"no connection: {_reason(error)}"
    if answer.status_code == 200:
        return "200"
    with contextlib.suppress(ValueError):
        return str(answer.json().get("code", answer.status_code))
    return str(answer.status_code)


class OpenConnection:
    """A connection that stays: after an upgrade, octets go both ways until somebody ends it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, port: int, authority: bytes, held: Held, *, source: str) -> OpenConnection:
        """Connect and upgrade. Raises OSError."""
        context = client_context(authority, held.identity)
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=context, server_hostname="localhost", local_addr=(source, 0)
        )
        writer.write(b"GET /tunnel HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), _PATIENCE)
        if not head.startswith(b"HTTP/1.1 101"):
            raise OSError("the connection was not upgraded")
        return cls(reader, writer)

    async def echoes(self) -> bool:
        """Whether octets still go both ways."""
        try:
            self._writer.write(b"x")
            return await asyncio.wait_for(self._reader.read(_READ), _PATIENCE) == b"x"
        except (OSError, TimeoutError):
            return False

    async def until_cut(self, timeout: float) -> float | None:
        """Seconds until the other side ends the connection; None when it does not."""
        began = monotonic()
        try:
            async with asyncio.timeout(timeout):
                while await self._reader.read(_READ):
                    pass
        except TimeoutError:
            return None
        except OSError:
            pass
        return monotonic() - began

    def close(self) -> None:
        self._writer.transport.abort()


async def replay(port: int, authority: bytes, held: Held, *, source: str) -> str:
    """Record what a client sends in a good handshake, and send the same octets again on a new connection.

    That is all that somebody has who copied the certificate and listened to the line: the key signs every handshake
    anew (RFC 8446 section 4.4.3), so it must end in ``refused``.
    """
    recorded = await _recorded(port, authority, held, source)
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))
    try:
        for flight in recorded:
            writer.write(flight)
            if not await asyncio.wait_for(reader.read(_READ), _PATIENCE):
                return "refused"
        while await asyncio.wait_for(reader.read(_READ), _PATIENCE):
            pass
        return "refused"
    except OSError:
        return "refused"
    except TimeoutError:
        return "answered"  # a connection that the gateway took for good would stay open
    finally:
        writer.transport.abort()


async def _recorded(port: int, authority: bytes, held: Held, source: str) -> list[bytes]:
    """The flights of a client: what it sends until it has the answer to a request."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = client_context(authority, held.identity).wrap_bio(incoming, outgoing, server_hostname="localhost")
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))
    flights: list[bytes] = []

    async def exchange() -> None:
        if outgoing.pending:
            flights.append(outgoing.read())
            writer.write(flights[-1])
        incoming.write(await asyncio.wait_for(reader.read(_READ), _PATIENCE))

    try:
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                await exchange()
        tls.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        while True:
            await exchange()
            with contextlib.suppress(ssl.SSLWantReadError):
                if tls.read(_READ):
                    return flights
    finally:
        writer.transport.abort()


def _reason(error: Exception) -> str:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLError) and cause.reason:
            return str(cause.reason).lower().replace("_", " ")
        cause = cause.__cause__ or cause.__context__
    return str(error) or type(error).__name__
