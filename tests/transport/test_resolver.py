"""Lookups: with real BIND, and with servers that lie, cut, or say nothing."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple, cast

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
from tests.support.bind import Bind

from intaglio.core.clock import monotonic
from intaglio.core.errors import InvalidInput
from intaglio.transport.resolver import CaaRecord, LookupFailed, Resolver, nameservers_of


class _Servers(NamedTuple):
    zones: Bind
    validating: Bind


@pytest.fixture(scope="module")
def servers() -> Iterator[_Servers]:
    with TemporaryDirectory(prefix="intaglio-bind-test-") as folder:
        zones = Bind(
            Path(folder) / "zones",
            {
                "signed.test": "www IN A 127.0.0.1\nwww IN AAAA ::1\nalias IN CNAME www.plain.test.\n"
                '_acme-challenge IN TXT "hello" " world"\n@ IN CAA 128 ISSUE "ca.example; x=1"\n',
                "plain.test": "www IN A 127.0.0.2\nloop IN CNAME loop2\nloop2 IN CNAME loop\n"
                + "".join(f"many IN TXT {number:0100}\n" for number in range(100)),
            },
            signed=["signed.test"],
        )
        zones.start()
        anchor = zones.trust_anchor("signed.test")
        validating = Bind(
            Path(folder) / "validating",
            forwards={"signed.test": zones.port, "plain.test": zones.port},
            anchors=[anchor],
        )
        validating.start()
        try:
            yield _Servers(zones, validating)
        finally:
            validating.stop()
            zones.stop()


async def test_addresses_texts_and_caa_are_read(servers: _Servers) -> None:
    resolver = Resolver([servers.zones.address])
    assert await resolver.addresses("www.signed.test") == ["::1", "127.0.0.1"]
    assert await resolver.addresses("nobody.signed.test") == []
    assert await resolver.txt("_acme-challenge.signed.test") == [b"hello world"]
    assert await resolver.txt("www.signed.test") == []
    assert await resolver.caa("signed.test") == [CaaRecord(128, "issue", "ca.example; x=1")]


async def test_a_change_counts_at_once(servers: _Servers) -> None:
    resolver = Resolver([servers.zones.address])
    assert await resolver.txt("new.plain.test") == []
    servers.zones.update("plain.test", 'add new.plain.test. 60 TXT "one"')
    assert await resolver.txt("new.plain.test") == [b"one"]
    servers.zones.update("plain.test", "delete new.plain.test. TXT", 'add new.plain.test. 60 TXT "two"')
    assert await resolver.txt("new.plain.test") == [b"two"]


async def test_an_answer_counts_only_when_the_server_vouches_for_it(servers: _Servers) -> None:
    strict = Resolver([servers.validating.address], require_dnssec=True)
    assert await strict.addresses("www.signed.test") == ["::1", "127.0.0.1"]
    assert await strict.txt("nobody.signed.test") == []
    for name in ("www.plain.test", "alias.signed.test", "nobody.plain.test"):
        with pytest.raises(LookupFailed, match="does not vouch"):
            await strict.addresses(name)
    with pytest.raises(LookupFailed, match="does not vouch"):
        await Resolver([servers.zones.address], require_dnssec=True).addresses("www.signed.test")


async def test_a_zone_with_wrong_signatures_has_no_answers(servers: _Servers) -> None:
    anchor = servers.zones.trust_anchor("signed.test")
    key = anchor.split('"')[3]
    other = ("A" if key[0] != "A" else "B") + key[1:]
    with TemporaryDirectory(prefix="intaglio-bind-test-") as folder:
        forged = Bind(
            Path(folder) / "bind", forwards={"signed.test": servers.zones.port}, anchors=[anchor.replace(key, other)]
        )
        forged.start()
        try:
            with pytest.raises(LookupFailed, match="SERVFAIL"):
                await Resolver([forged.address]).addresses("www.signed.test")
        finally:
            forged.stop()


async def test_aliases_are_followed_to_their_end(servers: _Servers) -> None:
    resolver = Resolver([servers.zones.address])
    assert await resolver.addresses("alias.signed.test") == ["127.0.0.2"]
    with pytest.raises(LookupFailed):
        await resolver.addresses("loop.plain.test")


async def test_a_server_that_leaves_aliases_to_us_is_asked_again() -> None:
    def answer(query: dns.message.Message) -> dns.message.Message:
        response = dns.message.make_response(query)
        name = query.question[0].name.to_text()
        number = int(name.split(".")[0])
        if number < 5:
            response.answer.append(dns.rrset.from_text(name, 1, "IN", "CNAME", f"{number + 1}.test."))
        else:
            response.answer.append(dns.rrset.from_text(name, 1, "IN", "TXT", '"end"'))
        return response

    async with _lying(answer) as address:
        assert await Resolver([address]).txt("0.test") == [b"end"]

    def endless(query: dns.message.Message) -> dns.message.Message:
        response = dns.message.make_response(query)
        name = query.question[0].name.to_text()
        target = f"{int(name.split('.')[0]) + 1}.test."
        response.answer.append(dns.rrset.from_text(name, 1, "IN", "CNAME", target))
        return response

    async with _lying(endless) as address:
        with pytest.raises(LookupFailed, match="more than 10 aliases"):
            await Resolver([address]).txt("0.test")


async def test_large_answers_come_over_tcp(servers: _Servers) -> None:
    found = await Resolver([servers.zones.address]).txt("many.plain.test")
    assert sorted(map(int, found)) == list(range(100))


async def test_too_many_records_are_refused() -> None:
    def many(query: dns.message.Message) -> dns.message.Message:
        response = dns.message.make_response(query)
        records = [f'"{number}"' for number in range(101)]
        response.answer.append(dns.rrset.from_text("example.test.", 1, "IN", "TXT", *records))
        return response

    async with _lying(many) as address:
        with pytest.raises(LookupFailed, match="more than 100 TXT records"):
            await Resolver([address]).txt("example.test")


async def test_silence_ends_in_time() -> None:
    async with _lying(lambda query: None) as address:
        started = monotonic()
        with pytest.raises(LookupFailed, match="in time"):
            await Resolver([address], timeout=0.5).txt("example.test")
        assert monotonic() - started < 5


async def test_answers_to_other_questions_do_not_count() -> None:
    def other(query: dns.message.Message) -> dns.message.Message:
        asked = dns.message.make_query("other.test.", "TXT", id=query.id)
        response = dns.message.make_response(asked)
        response.answer.append(dns.rrset.from_text("example.test.", 1, "IN", "TXT", '"forged"'))
        return response

    async with _lying(other) as address:
        with pytest.raises(LookupFailed):
            await Resolver([address], timeout=0.5).txt("example.test")


@pytest.mark.parametrize("code", [dns.rcode.SERVFAIL, dns.rcode.REFUSED])
async def test_a_server_that_fails_is_no_answer(code: dns.rcode.Rcode) -> None:
    def failing(query: dns.message.Message) -> dns.message.Message:
        response = dns.message.make_response(query)
        response.set_rcode(code)
        return response

    async with _lying(failing) as address:
        with pytest.raises(LookupFailed, match=dns.rcode.to_text(code)):
            await Resolver([address], timeout=2).caa("example.test")


@pytest.mark.parametrize("name", ["", "a" * 64 + ".test", "a..test", "x." * 200])
async def test_what_is_no_name_is_refused_without_asking(name: str) -> None:
    with pytest.raises(LookupFailed):
        await Resolver(["127.0.0.1:9"], timeout=0.5).txt(name)


def test_servers_are_written_in_these_ways() -> None:
    good = ("192.0.2.53", "192.0.2.53:5353", "2001:db8::53", "[2001:db8::53]:5353", "tls://192.0.2.53#dns.example")
    assert nameservers_of([*good, good[0]]) == good


@pytest.mark.parametrize(
    "text",
    ["", "dns.example", "192.0.2.53:0", "192.0.2.53:70000", "192.0.2.53:x", "[2001:db8::53", "[2001:db8::53]5353",
     "192.0.2.53#name", "https://192.0.2.53", "tls://dns.example"],
)  # fmt: skip
def test_other_ways_are_refused(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        nameservers_of([text])
    assert caught.value.code == "nameserver-invalid"


def test_servers_have_a_number() -> None:
    with pytest.raises(InvalidInput):
        nameservers_of([f"192.0.2.{number}" for number in range(9)])


@contextlib.asynccontextmanager
async def _lying(answer: Callable[[dns.message.Message], dns.message.Message | None]) -> AsyncIterator[str]:
    """A server over UDP that answers as told, or not at all."""

    class Server(asyncio.DatagramProtocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self._transport = cast(asyncio.DatagramTransport, transport)

        def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
            response = answer(dns.message.from_wire(data))
            if response is not None:
                self._transport.sendto(response.to_wire(max_size=65535), address)

    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(Server, local_addr=("127.0.0.1", 0))
    try:
        yield f"127.0.0.1:{transport.get_extra_info('sockname')[1]}"
    finally:
        transport.close()
