"""The operator's list of networks, and the HTTP client that keeps to it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio
from tests.support.authority import OPERATOR
from tests.support.outgoing import LOOPBACK_GUARD, list_networks

from intaglio.core.errors import InvalidInput, Refused
from intaglio.core.outgoing import Guard
from intaglio.db.engine import Database
from intaglio.platform import live_settings
from intaglio.platform.outgoing import guard_of, http_client


@pytest_asyncio.fixture
async def server() -> AsyncIterator[tuple[int, list[bytes]]]:
    """A plain HTTP server of this host that redirects to itself, and what it was asked."""
    asked: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 302 There\r\nlocation: http://127.0.0.1/secret\r\ncontent-length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    made = await asyncio.start_server(answer, "localhost", 0)
    async with made:
        yield made.sockets[0].getsockname()[1], asked


async def test_networks_are_listed_by_live_settings(database: Database) -> None:
    async with database.read() as view:
        assert await guard_of(view) == Guard()
    await list_networks(database, "10.20.0.0/16", "fd12::/64", "10.20.0.0/16")
    async with database.read() as view:
        assert await guard_of(view) == Guard.of(["10.20.0.0/16", "fd12::/64"])
    async with database.transaction() as tx:
        for wrong in ("10.20.0.1/16", "everything", "10.0.0.0/33"):
            with pytest.raises(InvalidInput) as refusal:
                await live_settings.change(tx, OPERATOR, "outgoing", {"networks": [wrong]})
            assert refusal.value.code == "setting-invalid"


async def test_requests_go_under_their_own_name_and_redirects_are_not_followed(
    server: tuple[int, list[bytes]],
) -> None:
    port, asked = server
    async with http_client(LOOPBACK_GUARD, ssl.create_default_context(), timeout=10) as http:
        answer = await http.get(f"http://localhost:{port}/here?a=%2F")
    assert (answer.status_code, len(asked)) == (302, 1)
    assert asked[0].startswith(b"GET /here?a=%2F HTTP/1.1\r\nHost: localhost:")


async def test_requests_to_this_host_are_refused_unless_it_is_listed(server: tuple[int, list[bytes]]) -> None:
    port, asked = server
    async with http_client(Guard(), ssl.create_default_context(), timeout=10) as http:
        for host in ("localhost", "127.0.0.1", "[::1]", "[::ffff:127.0.0.1]"):
            with pytest.raises(Refused) as refusal:
                await http.get(f"http://{host}:{port}/")
            assert refusal.value.code == "address-not-allowed"
    assert asked == []


async def test_a_name_without_an_address_is_an_error_of_the_connection() -> None:
    async with http_client(Guard(), ssl.create_default_context(), timeout=10) as http:
        with pytest.raises(httpx.ConnectError):
            await http.get("https://nowhere.invalid/")
