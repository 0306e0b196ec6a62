"""Connections to addresses that somebody named: judged first, then made to exactly the address that was judged.

Whoever may have us connect somewhere must not reach what only we can reach: this host, its neighbours, the metadata
service of its cloud. So a name is resolved once; of its addresses those count that everybody on the Internet could
reach, and those of networks that the operator lists; the connection goes to the address that was judged, so a name that
resolves otherwise a moment later (DNS rebinding) changes nothing.

Source: OWASP Server-Side Request Forgery; IANA special-purpose address registries (RFC 6890).
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final

from intaglio.core.errors import InvalidInput, Refused

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_MOST_ADDRESSES = 8
_MOST_NETWORKS = 100
_ONE_ADDRESS = 5.0  # seconds for one of several addresses
_UNICAST = IPv6Network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")
_COMPATIBLE = IPv6Network("::/96")
#: Metadata services, which hand out credentials of the machine. They count only when listed alone: nobody who lists a
#: network means them. 168.63.129.16 is Azure's, an address like any other.
_METADATA = frozenset(
    map(
        ipaddress.ip_address,
        ("169.254.169.254", "169.254.170.2", "168.63.129.16", "100.100.100.200", "192.0.0.192", "fd00:ec2::254"),
    )
)


@dataclass(frozen=True)
class Guard:
    """Which addresses may be connected to: public ones, and those of the ``listed`` networks."""

    listed: tuple[Network, ...] = ()

    @classmethod
    def of(cls, networks: Iterable[str]) -> Guard:
        """From networks as they are written. Raises InvalidInput (``network-invalid``)."""
        return cls(tuple(map(network_of, networks)))

    def admits(self, address: Address) -> bool:
        """Whether this address may be connected to."""
        for meant in {address, _embedded(address)}:
            if meant in _METADATA and not any(net.num_addresses == 1 and meant in net for net in self.listed):
                return False
            if not _is_public(meant) and not any(meant in net for net in self.listed):
                return False
        return True

    async def resolve(self, host: str, port: int) -> list[str]:
        """The addresses of a host that may be connected to, at most eight; never none.

        Raises Refused (``address-not-allowed``), OSError when the name has no address.
        """
        try:
            loop = asyncio.get_running_loop()
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except UnicodeError:  # what the IDNA codec cannot make a name of
            raise OSError(f"{host[:80]!r} is no name of a host") from None
        texts = dict.fromkeys(str(where[0]) for _, _, _, _, where in found)
        good = [text for text in texts if self.admits(ipaddress.ip_address(text.partition("%")[0]))]
        if not good:
            raise not_allowed(host)
        return good[:_MOST_ADDRESSES]

    async def connect(
        self, host: str, port: int, *, tls: ssl.SSLContext | None = None, server_hostname: str | None = None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to a host, over TLS with ``tls``; ``server_hostname`` is then the name to ask for and verify, if
        it is not ``host``.

        Raises Refused (``address-not-allowed``), OSError (ssl.SSLError, TimeoutError). Time is the caller's to limit.
        """
        name = None if tls is None else server_hostname or host
        return await connect_to(await self.resolve(host, port), port, tls=tls, server_hostname=name)


async def connect_to(
    addresses: Sequence[str], port: int, *, tls: ssl.SSLContext | None = None, server_hostname: str | None = None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection to the first of the addresses, all judged before, that answers.

    Raises OSError (ssl.SSLError, TimeoutError). Time is the caller's to limit.
    """
    for address in addresses[:-1]:
        try:
            async with asyncio.timeout(_ONE_ADDRESS):
                return await asyncio.open_connection(address, port, ssl=tls, server_hostname=server_hostname)
        except ssl.SSLError:
            raise  # somebody answered
        except OSError:
            continue
    return await asyncio.open_connection(addresses[-1], port, ssl=tls, server_hostname=server_hostname)


#: The guard where no network is listed.
PUBLIC_ONLY: Final = Guard()


def network_of(text: str) -> Network:
    """A network in CIDR notation, or one address. Raises InvalidInput (``network-invalid``)."""
    try:
        return ipaddress.ip_network(text.strip())
    except ValueError:
        raise InvalidInput(
            f'"{text[:80]}" is no network.', code="network-invalid", remedy="Write it like 10.20.0.0/16 or fd12::/64."
        ) from None


def networks_of(texts: Iterable[str]) -> list[str]:
    """Networks in their canonical form, each once. Raises InvalidInput (``network-invalid``)."""
    found = list(dict.fromkeys(str(network_of(text)) for text in texts))
    if len(found) > _MOST_NETWORKS:
        raise InvalidInput(f"At most {_MOST_NETWORKS} networks.", code="network-invalid")
    return found


def joined(parts: Iterable[bytes], limit: int) -> bytes | None:
    """The parts of an answer of somebody else, None when they have more than ``limit`` octets together."""
    body = bytearray()
    for part in parts:
        body += part
        if len(body) > limit:
            return None
    return bytes(body)


def not_allowed(host: str) -> Refused:
    """The refusal of a host; what its addresses are is not told."""
    return Refused(
        f'"{host[:200]}" is not at a public address, and its network is not listed.',
        code="address-not-allowed",
        remedy="Have an administrator of the platform list the network: "
        "intaglio settings set 'outgoing.networks=[10.20.0.0/16]'",
        target="host",
    )


def _embedded(address: Address) -> Address:
    """The IPv4 address that an IPv6 address leads to by a gateway or by notation; itself where there is none."""
    if isinstance(address, IPv4Address):
        return address
    if address in _NAT64 or (address in _COMPATIBLE and int(address) > 1):
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address


def _is_public(address: Address) -> bool:
    """Whether everybody on the Internet could reach this address."""
    if isinstance(address, IPv4Address):
        return address.is_global and not address.is_multicast and not address.is_reserved
    if _embedded(address) != address:
        return True  # what it leads to is judged by itself
    return address in _UNICAST and address.is_global and address.teredo is None
