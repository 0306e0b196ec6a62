"""Lookups in the DNS whose answers decide something: which addresses a name has, what its TXT and CAA records say.

Nothing is remembered between two lookups, names are absolute, and chains of aliases are followed to their end also
where a server that is only authoritative leaves that to its client (RFC 1034 section 3.6.2). Servers are asked over
UDP, over TCP when an answer was cut, or over TLS (RFC 7858). Whether signatures of a zone (DNSSEC) are good is for the
validating server to say: what it calls bogus is no answer, and with ``require_dnssec`` an answer counts only when that
server vouches for it (AD, RFC 6840 section 5.7). Such a server is asked over a path that nobody else can write on.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import NamedTuple

import dns.asyncresolver
import dns.exception
import dns.flags
import dns.name
import dns.nameserver
import dns.rdatatype
import dns.resolver
import dns.rrset

from intaglio.core.errors import InvalidInput

DNS_PORT, TLS_PORT = 53, 853
_MOST_ALIASES = 10
_MOST_RECORDS = 100
_MOST_NAMESERVERS = 8
_PAYLOAD = 1232  # octets of an answer over UDP that no network on the way cuts up (DNS Flag Day 2020)


class LookupFailed(Exception):
    """There is no answer that could be relied on; the message says why, without addresses of our servers."""


class CaaRecord(NamedTuple):
    """A CAA record: flags, tag in lower case, value (RFC 8659 section 4.1)."""

    flags: int
    tag: str
    value: str


class Resolver:
    """Asks the given servers, or those of this host when none is given.

    Arguments: ``nameservers`` like ``192.0.2.53``, ``192.0.2.53:5353``, ``[2001:db8::53]:53`` or
    ``tls://192.0.2.53#dns.example`` (the name its certificate must have); ``timeout`` in seconds for a whole lookup.
    Raises InvalidInput (``nameserver-invalid``).
    """

    def __init__(self, nameservers: Sequence[str] = (), *, timeout: float = 10.0, require_dnssec: bool = False) -> None:
        self._servers = [nameserver_of(text) for text in nameservers]
        self._timeout = timeout
        self._require_dnssec = require_dnssec

    async def addresses(self, host: str) -> list[str]:
        """The addresses of a name, IPv6 first; empty when it has none. Raises LookupFailed."""
        found: list[str] = []
        for kind in ("AAAA", "A"):
            records = await self._records(_name(host), kind)
            found += [str(record.address) for record in records or ()]
        return found

    async def txt(self, name: str) -> list[bytes]:
        """The TXT records of a name, the strings of each put together. Raises LookupFailed."""
        return [b"".join(record.strings) for record in await self._records(_name(name), "TXT") or ()]

    async def caa(self, name: str) -> list[CaaRecord]:
        """The CAA records of exactly this name or of what it is an alias of. Raises LookupFailed."""
        records = await self._records(_name(name), "CAA")
        return [CaaRecord(each.flags, _text(each.tag).lower(), _text(each.value)) for each in records or ()]

    async def _records(self, name: dns.name.Name, kind: str) -> dns.rrset.RRset | None:
        resolver = self._resolver()
        for _ in range(_MOST_ALIASES):
            try:
                answer = await resolver.resolve(name, kind, search=False, raise_on_no_answer=False)
            except dns.resolver.NXDOMAIN as error:
                for response in error.kwargs["responses"].values():
                    self._require_vouched(response.flags, name)
                return None
            except (dns.exception.DNSException, OSError) as error:
                raise LookupFailed(f"looking up {kind} of {_shown(name)}: {_reason(error)}") from error
            self._require_vouched(answer.response.flags, name)
            if answer.rrset is not None:
                if len(answer.rrset) > _MOST_RECORDS:
                    raise LookupFailed(f"{_shown(name)} has more than {_MOST_RECORDS} {kind} records")
                return answer.rrset
            if answer.canonical_name == name:
                return None
            name = answer.canonical_name
        raise LookupFailed(f"{_shown(name)} is behind more than {_MOST_ALIASES} aliases")

    def _resolver(self) -> dns.asyncresolver.Resolver:
        try:
            resolver = dns.asyncresolver.Resolver(configure=not self._servers)
        except dns.resolver.NoResolverConfiguration as error:
            raise LookupFailed("this host has no DNS servers configured") from error
        if self._servers:
            resolver.nameservers = list(self._servers)
        resolver.cache = None
        resolver.lifetime = self._timeout
        resolver.timeout = max(0.5, self._timeout / (2 * max(1, len(resolver.nameservers))))
        resolver.use_edns(0, int(dns.flags.DO), _PAYLOAD)
        resolver.flags = int(dns.flags.RD | dns.flags.AD)
        return resolver

    def _require_vouched(self, flags: int, name: dns.name.Name) -> None:
        if self._require_dnssec and not flags & dns.flags.AD:
            raise LookupFailed(f"the DNS server does not vouch for {_shown(name)} (DNSSEC)")


def nameserver_of(text: str) -> dns.nameserver.Nameserver:
    """A DNS server as it is written in settings. Raises InvalidInput (``nameserver-invalid``)."""
    try:
        over_tls = text.startswith("tls://")
        where, _, name = text.removeprefix("tls://").partition("#")
        host, port = _host_and_port(where, TLS_PORT if over_tls else DNS_PORT)
        if over_tls:
            return dns.nameserver.DoTNameserver(host, port, hostname=name or host, verify=True)
        if name:
            raise ValueError
        return dns.nameserver.Do53Nameserver(host, port)
    except ValueError:
        raise InvalidInput(
            f'"{text[:80]}" is no DNS server.',
            code="nameserver-invalid",
            remedy="Write it like 192.0.2.53, 192.0.2.53:5353, [2001:db8::53]:53 or tls://192.0.2.53#dns.example.",
        ) from None


def nameservers_of(texts: Sequence[str]) -> tuple[str, ...]:
    """The same servers, each once, when all can be read. Raises InvalidInput (``nameserver-invalid``)."""
    found = tuple(dict.fromkeys(text.strip() for text in texts))
    if len(found) > _MOST_NAMESERVERS:
        raise InvalidInput(f"At most {_MOST_NAMESERVERS} DNS servers.", code="nameserver-invalid")
    for text in found:
        nameserver_of(text)
    return found


def _host_and_port(text: str, default: int) -> tuple[str, int]:
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError
        port = rest[1:]
    elif text.count(":") > 1:
        host, port = text, ""
    else:
        host, _, port = text.partition(":")
    number = int(port) if port else default
    if not 0 < number < 65536:
        raise ValueError
    return str(ipaddress.ip_address(host)), number


def _name(text: str) -> dns.name.Name:
    try:
        return dns.name.from_text(text)
    except (dns.exception.DNSException, UnicodeError) as error:
        raise LookupFailed(f"{text[:253]!r} is no name in the DNS") from error


def _text(octets: bytes) -> str:
    return octets.decode("utf-8", "replace")


def _shown(name: dns.name.Name) -> str:
    return name.to_text(omit_final_dot=True)[:253]


def _reason(error: Exception) -> str:
    if isinstance(error, dns.exception.Timeout):
        return "no server answered in time"
    if isinstance(error, dns.resolver.NoNameservers):
        codes = {str(each[3]) for each in error.kwargs.get("errors", ()) if isinstance(each[3], str)}
        return f"the servers answered {', '.join(sorted(codes))}" if codes else "no server gave an answer"
    if isinstance(error, dns.resolver.YXDOMAIN):
        return "an alias leads to a name that is too long"
    return "the answer cannot be read" if isinstance(error, dns.exception.DNSException) else "no server can be reached"
