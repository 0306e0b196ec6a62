"""Which addresses may be connected to, and that the address connected to is the one that was judged."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intaglio.core.errors import InvalidInput, Refused
from intaglio.core.outgoing import Guard, networks_of

PUBLIC = ("9.9.9.9", "2620:fe::fe", "64:ff9b::909:909", "::ffff:9.9.9.9", "2002:909:909::1")
INSIDE = (
    "127.0.0.1", "127.8.8.8", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.0.1", "169.254.169.254",
    "100.64.0.1", "100.100.100.200", "168.63.129.16", "192.0.0.192", "198.18.0.1", "224.0.0.1", "239.1.1.1",
    "255.255.255.255", "240.0.0.1", "192.0.2.1", "::", "::1", "fe80::1", "fec0::1", "fd00:ec2::254", "fc00::1",
    "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::1", "2002:7f00:1::1", "2002:a00:1::", "2001:0:7f00:1::", "2001:db8::1", "100::1",
)  # fmt: skip


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_may_be_connected_to(address: str) -> None:
    assert Guard().admits(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", INSIDE)
def test_addresses_that_only_we_can_reach_may_not(address: str) -> None:
    assert not Guard().admits(ipaddress.ip_address(address))


def test_listed_networks_may_be_connected_to_however_the_address_is_written() -> None:
    guard = Guard.of(["10.1.0.0/16", "::1"])
    for address in ("10.1.2.3", "::ffff:10.1.2.3", "64:ff9b::a01:203", "::1"):
        # What is written as IPv6 leads to the same host, but its own notation is public or not on its own account.
        assert guard.admits(ipaddress.ip_address(address)), address
    for address in ("10.2.0.1", "::ffff:10.2.0.1", "127.0.0.1", "::2"):
        assert not guard.admits(ipaddress.ip_address(address)), address


@pytest.mark.parametrize("address", ["169.254.169.254", "168.63.129.16", "fd00:ec2::254"])
def test_metadata_services_must_be_listed_alone(address: str) -> None:
    everything = Guard.of(["0.0.0.0/0", "::/0"])
    assert everything.admits(ipaddress.ip_address("127.0.0.1"))
    assert not everything.admits(ipaddress.ip_address(address))
    assert Guard.of([address]).admits(ipaddress.ip_address(address))


@given(st.ip_addresses(v=4))
def test_an_address_inside_ipv6_counts_like_itself(address: ipaddress.IPv4Address) -> None:
    number, guard = int(address), Guard()
    for prefix in (0xFFFF << 32, 0x64FF9B << 96):
        assert guard.admits(ipaddress.IPv6Address(prefix | number)) == guard.admits(address)


@given(st.ip_addresses())
def test_every_address_is_judged(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    assert Guard.of(["0.0.0.0/0", "::/0"]).admits(address) or not Guard().admits(address)


@given(st.text(max_size=40))
def test_what_is_no_network_is_refused_and_nothing_else_happens(text: str) -> None:
    try:
        (found,) = networks_of([text])
    except InvalidInput:
        return
    assert str(ipaddress.ip_network(found)) == found


def _answers(monkeypatch: pytest.MonkeyPatch, *answers: Sequence[str]) -> list[str]:
    """Let the resolver answer these addresses, one after the other; returns the names that were asked for."""
    asked: list[str] = []

    async def getaddrinfo(host: str, port: int, **_: Any) -> list[Any]:
        asked.append(host)
        found = answers[min(len(asked), len(answers)) - 1]
        family = {4: socket.AF_INET, 6: socket.AF_INET6}
        return [
            (family[ipaddress.ip_address(each.partition("%")[0]).version], socket.SOCK_STREAM, 6, "", (each, port))
            for each in found
        ]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    return asked


async def test_a_name_that_leads_inside_is_refused_without_saying_where(monkeypatch: pytest.MonkeyPatch) -> None:
    _answers(monkeypatch, ["10.7.7.7", "fe80::1%eth0"])
    with pytest.raises(Refused) as refusal:
        await Guard().connect("partner.example", 443)
    assert refusal.value.code == "address-not-allowed"
    assert "10.7" not in str(refusal.value)


async def test_of_a_name_with_both_only_public_addresses_count(monkeypatch: pytest.MonkeyPatch) -> None:
    _answers(monkeypatch, ["10.7.7.7", "9.9.9.9", "9.9.9.9"])
    assert await Guard().resolve("partner.example", 443) == ["9.9.9.9"]


@pytest.mark.parametrize("host", ["127.1", "0x7f.0.0.1", "2130706433", "017700000001", "localhost", "[::1]", "::1"])
async def test_no_spelling_of_this_host_gets_through(host: str) -> None:
    with pytest.raises((Refused, OSError)):
        await Guard().connect(host, 443)


async def test_a_host_that_can_be_no_name_is_an_error_of_the_connection() -> None:
    with pytest.raises(OSError, match="no name of a host"):
        await Guard().resolve("a" * 70 + ".example", 443)


async def test_the_address_that_was_judged_is_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that leads elsewhere at the second question (DNS rebinding) is asked for once."""
    met: list[str] = []

    async def meet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        met.append(writer.get_extra_info("sockname")[0])
        writer.close()

    server = await asyncio.start_server(meet, "127.0.0.2", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        asked = _answers(monkeypatch, ["127.0.0.2"], ["127.0.0.1"])
        reader, writer = await Guard.of(["127.0.0.2"]).connect("partner.example", port)
        assert await reader.read() == b""
        writer.close()
    assert (met, asked) == (["127.0.0.2"], ["partner.example"])


async def test_the_next_address_is_tried_where_one_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    async def meet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(meet, "127.0.0.2", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        _answers(monkeypatch, ["127.0.0.3", "127.0.0.2"])
        _, writer = await Guard.of(["127.0.0.0/8"]).connect("partner.example", port)
        assert writer.get_extra_info("peername")[0] == "127.0.0.2"
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
