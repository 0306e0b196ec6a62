"""What certificates are ordered for: DNS names (RFC 8555 section 9.7.7) and IP addresses (RFC 8738), and who may."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from intaglio.core.errors import InvalidInput
from intaglio.enrollment.acme.errors import (
    AcmeProblem,
    Malformed,
    RejectedIdentifier,
    UnsupportedIdentifier,
    subproblem,
)
from intaglio.enrollment.acme.options import AcmeOptions
from intaglio.x509.host_names import check_dns_name

Kind = Literal["dns", "ip"]
_LABEL: Final = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_HOST_NAME: Final = re.compile(rf"(?:\*\.)?{_LABEL}(?:\.{_LABEL})*")
#: What a last label looks like that makes a name an IPv4 address in another spelling (inet_aton, WHATWG URL 3.5).
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
_LONGEST: Final = 255


@dataclass(frozen=True, order=True)
class Identifier:
    """One name: ``value`` in lower case, of an IP address its canonical text; a wildcard begins with ``*.``."""

    kind: Kind
    value: str

    @property
    def is_wildcard(self) -> bool:
        return self.value.startswith("*.")

    @property
    def base(self) -> str:
        """What is validated: the name without ``*.``."""
        return self.value.removeprefix("*.")

    @property
    def text(self) -> str:
        """``dns:www.example``: how it is stored."""
        return f"{self.kind}:{self.value}"

    @property
    def document(self) -> dict[str, str]:
        return {"type": self.kind, "value": self.value}

    @property
    def registered_domain(self) -> str:
        """What names are counted by: the last two labels, or the address."""
        return self.base if self.kind == "ip" else ".".join(self.base.split(".")[-2:])

    @classmethod
    def of(cls, text: str) -> Identifier:
        """From :attr:`text`."""
        kind, _, value = text.partition(":")
        return cls("ip" if kind == "ip" else "dns", value)


def read_identifiers(value: Any, most: int) -> tuple[Identifier, ...]:
    """The identifiers of an order, each once, in the order in which they came.

    Raises Malformed, UnsupportedIdentifier, RejectedIdentifier; with subproblems when several names are in one order.
    """
    if not isinstance(value, list) or not value:
        raise Malformed('An order has a list "identifiers" that is not empty.')
    if len(value) > most:
        raise RejectedIdentifier(f"An order has at most {most} identifiers here.")
    found: dict[Identifier, None] = {}
    problems: list[tuple[AcmeProblem, str, str]] = []
    for each in value:
        kind, text = _parts(each)
        try:
            found[read_identifier(kind, text)] = None
        except AcmeProblem as error:
            problems.append((error, kind, text))
    raise_for(problems, len(value))
    return tuple(found)


def read_identifier(kind: str, text: str) -> Identifier:
    """One identifier. Raises UnsupportedIdentifier, Malformed."""
    if kind == "dns":
        return Identifier("dns", _dns(text))
    if kind == "ip":
        return Identifier("ip", _ip(text))
    raise UnsupportedIdentifier(f'Identifiers of the type "{kind[:40]}" are not certified here; dns and ip are.')


def check_policy(identifiers: Sequence[Identifier], options: AcmeOptions, bound: Mapping[str, Any]) -> None:
    """Raise RejectedIdentifier, with subproblems, for what endpoint or account may not have certified.

    ``bound`` comes with the external credential of the account: its ``sans``, if there are any, are all that the
    account may ask for; ``*.example.com`` among them stands for every name below that domain.
    """
    problems: list[tuple[AcmeProblem, str, str]] = []
    for each in identifiers:
        reason = _objection(each, options, bound)
        if reason is not None:
            problems.append((RejectedIdentifier(reason), each.kind, each.value))
    raise_for(problems, len(identifiers))


def challenges_for(identifier: Identifier, options: AcmeOptions) -> list[str]:
    """The challenges that can prove control over the identifier. Raises RejectedIdentifier when none is offered."""
    if identifier.is_wildcard:
        possible: tuple[str, ...] = ("dns-01",)  # RFC 8555 section 7.1.3
    elif identifier.kind == "ip":
        possible = ("http-01", "tls-alpn-01")  # RFC 8738 section 4
    else:
        possible = ("http-01", "dns-01", "tls-alpn-01")
    offered: list[str] = [method for method in options.challenges if method in possible]
    if not offered:
        raise RejectedIdentifier(
            f"{identifier.value} is proven by {' or '.join(possible)}, which is not offered here.",
            remedy="Have the endpoint offer it, or order another name.",
        )
    return offered


def raise_for(problems: Sequence[tuple[AcmeProblem, str, str]], count: int) -> None:
    """Raise the first problem; with more than one identifier, with a subproblem for each."""
    if not problems:
        return
    first = problems[0][0]
    if count > 1:
        first.subproblems = tuple(subproblem(error, kind, value) for error, kind, value in problems)
    raise first


def _parts(value: Any) -> tuple[str, str]:
    kind, text = (value.get("type"), value.get("value")) if isinstance(value, dict) else (None, None)
    if not isinstance(kind, str) or not isinstance(text, str):
        raise Malformed('An identifier is an object with the strings "type" and "value".')
    return kind, text[: _LONGEST + 1]


def _dns(text: str) -> str:
    name = text.lower()
    if not name.isascii():
        raise Malformed(f'"{text[:80]}" is not in A-labels (xn--...), as identifiers are (RFC 8555 section 7.1.4).')
    try:
        well_formed = check_dns_name(name) == name and _HOST_NAME.fullmatch(name) is not None
    except InvalidInput as error:
        raise Malformed(error.detail, remedy=error.remedy) from None
    if not well_formed or _NUMBER.fullmatch(name.rpartition(".")[2]):
        raise Malformed(f'"{text[:80]}" is not a host name.')
    return name


def _ip(text: str) -> str:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise Malformed(f'"{text[:80]}" is not an IP address.') from None
    if isinstance(address, ipaddress.IPv6Address) and (address.scope_id or address.ipv4_mapped):
        raise Malformed(f'"{text[:80]}" is not an address of its own; leave the zone or the mapping out.')
    if str(address) != text.lower():  # RFC 8738 section 3: the text of RFC 5952
        raise Malformed(f'"{text[:80]}" is written {address} (RFC 5952).')
    return str(address)


def _objection(identifier: Identifier, options: AcmeOptions, bound: Mapping[str, Any]) -> str | None:
    own = bound.get("sans") or ()
    if own and not any(_covers(str(kind), str(value), identifier) for kind, value in own):
        return f"{identifier.value} is not among the names that this account may have certified."
    if identifier.is_wildcard and not options.wildcards:
        return "Wildcards are not certified here."
    if identifier.kind == "ip":
        return _objection_to_address(identifier.value, options)
    if _is_below(identifier.base, options.denied_domains):
        return f"{identifier.value} is not certified here."
    if options.allowed_domains and not _is_below(identifier.base, options.allowed_domains):
        return f"{identifier.value} is in no domain that is certified here."
    return None


def _objection_to_address(value: str, options: AcmeOptions) -> str | None:
    if not options.ip_addresses:
        return "IP addresses are not certified here."
    if _is_in(value, options.denied_networks):
        return f"{value} is not certified here."
    if options.allowed_networks and not _is_in(value, options.allowed_networks):
        return f"{value} is in no network that is certified here."
    return None


def _covers(kind: str, value: str, identifier: Identifier) -> bool:
    if identifier.kind == "ip":
        return kind.lower().startswith("ip") and value == identifier.value
    name = value.lower()
    below = name.startswith("*.") and identifier.base.endswith(name[1:])
    return kind.lower().startswith("dns") and (below or identifier.value == name)


def _is_below(name: str, domains: Iterable[str]) -> bool:
    """``example.com`` covers itself and all below it, ``*.example.com`` what is below it."""
    return any(
        name.endswith(domain[1:]) if domain.startswith("*.") else name == domain or name.endswith(f".{domain}")
        for domain in domains
    )


def _is_in(value: str, networks: Iterable[str]) -> bool:
    address = ipaddress.ip_address(value)
    return any(address in ipaddress.ip_network(network) for network in networks)
