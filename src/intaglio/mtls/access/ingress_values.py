"""Ingresses as people configure them, and the checks of what they may say."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal
from uuid import UUID

from intaglio.core.errors import InvalidInput
from intaglio.mtls.access.values import Mode
from intaglio.mtls.identities.names import identity_name
from intaglio.x509.host_names import check_dns_name

TYPES: Final = (
    "gateway", "nginx", "haproxy", "apache", "caddy", "envoy", "traefik", "stunnel", "istio", "linkerd",
    "ingress-nginx", "aws-alb", "other",
)  # fmt: skip
FORWARDS: Final = ("client-cert", "xfcc", "identity")
REVOCATION_SOURCES: Final = ("live", "crl", "ocsp")
MODES: Final = ("off", "permissive", "enforce")
_MOST_NETWORKS, _MOST_HOSTS, _LONGEST_TEXT = 1000, 100, 500
_LISTENER = re.compile(r"(?:\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9.-]{1,253}|\*)?:([0-9]{1,5})")

RevocationSource = Literal["live", "crl", "ocsp"]
FailMode = Literal["closed", "open"]


@dataclass(frozen=True)
class NewIngress:
    """What an ingress shall be.

    ``ip_rule`` are the networks that are allowed, all others denied; None for no such rule, an empty one denies all.
    ``refresh_seconds`` is how often the enforcement point renews what it knows of revocations. ``forward`` are the
    headers that go upstream: client-cert (RFC 9440), xfcc (X-Forwarded-Client-Cert), identity (X-Intaglio-...).
    """

    name: str
    organization: str
    domain: str
    type: str = "nginx"
    description: str = ""
    listener: str = ""
    hosts: Sequence[str] = ()
    mode: Mode = "permissive"
    ip_rule: Sequence[str] | None = None
    policy: str | None = None
    revocation_source: RevocationSource = "live"
    refresh_seconds: int = 10
    forward: Sequence[str] = FORWARDS
    fail_mode: FailMode = "closed"
    permissive_days: int | None = None


#: Takes the IP rule away.
NO_RULE: Final = "none"


@dataclass(frozen=True)
class IngressChanges:
    """What can be changed of an ingress; None leaves it. ``ip_rule`` and ``policy`` also take ``"none"``."""

    description: str | None = None
    listener: str | None = None
    hosts: Sequence[str] | None = None
    ip_rule: Sequence[str] | Literal["none"] | None = None
    policy: str | None = None
    revocation_source: RevocationSource | None = None
    refresh_seconds: int | None = None
    forward: Sequence[str] | None = None
    fail_mode: FailMode | None = None


@dataclass(frozen=True)
class Ingress:
    """A registered ingress. ``policy`` is its name; ``request`` the id of a request that waits for approval."""

    id: UUID
    name: str
    organization: str
    domain: str
    environment: str
    type: str
    description: str
    listener: str
    hosts: tuple[str, ...]
    mode: Mode
    mode_since: datetime
    permissive_until: datetime | None
    ip_rule: tuple[str, ...] | None
    policy: str | None
    revocation_source: RevocationSource
    refresh_seconds: int
    forward: tuple[str, ...]
    fail_mode: FailMode
    token_made_at: datetime | None
    created_by: str
    created_at: datetime
    request: UUID | None = None
    rendered_at: datetime | None = None
    rendered_trust: tuple[str, ...] = field(default=(), repr=False)
    rendered_settings: str = field(default="", repr=False)
    organization_id: UUID = field(default=UUID(int=0), repr=False)
    domain_id: UUID = field(default=UUID(int=0), repr=False)
    policy_id: UUID | None = field(default=None, repr=False)

    @property
    def full_name(self) -> str:
        """``{organization}~{name}``."""
        return f"{self.organization}~{self.name}"


# ---- checks ----------------------------------------------------------------------------------------------------------


def checked(wanted: NewIngress) -> dict[str, Any]:
    """The columns of a new ingress. Raises InvalidInput naming what is wrong."""
    return {
        "name": identity_name(wanted.name),
        "type": one_of(wanted.type, TYPES, "type"),
        "mode": one_of(wanted.mode, MODES, "mode"),
        **changed(
            IngressChanges(
                description=wanted.description,
                listener=wanted.listener,
                hosts=wanted.hosts,
                ip_rule=NO_RULE if wanted.ip_rule is None else wanted.ip_rule,
                revocation_source=wanted.revocation_source,
                refresh_seconds=wanted.refresh_seconds,
                forward=wanted.forward,
                fail_mode=wanted.fail_mode,
            )
        ),
    }


def changed(wanted: IngressChanges) -> dict[str, Any]:
    """The columns that change, except the policy. Raises InvalidInput naming what is wrong."""
    values: dict[str, Any] = {}
    if wanted.description is not None:
        values["description"] = _text(wanted.description)
    if wanted.listener is not None:
        values["listener"] = _listener(wanted.listener)
    if wanted.hosts is not None:
        values["hosts"] = _hosts(wanted.hosts)
    if wanted.ip_rule is not None:
        values["ip_rule"] = None if wanted.ip_rule == NO_RULE else networks(wanted.ip_rule)
    if wanted.revocation_source is not None:
        values["revocation_source"] = one_of(wanted.revocation_source, REVOCATION_SOURCES, "revocation_source")
    if wanted.refresh_seconds is not None:
        values["refresh_seconds"] = _seconds(wanted.refresh_seconds)
    if wanted.forward is not None:
        values["forward"] = list(dict.fromkeys(one_of(each, FORWARDS, "forward") for each in wanted.forward))
    if wanted.fail_mode is not None:
        values["fail_mode"] = one_of(wanted.fail_mode, ("closed", "open"), "fail_mode")
    return values


def networks(texts: Iterable[str]) -> list[str]:
    """Networks in their normal spelling, each once. Raises InvalidInput (``network-invalid``)."""
    found: dict[str, None] = {}
    for text in texts:
        try:
            network = ipaddress.ip_network(text.strip())
        except ValueError as error:
            raise _bad_network(text, f"{error}") from None
        if isinstance(network, ipaddress.IPv6Network) and network.network_address.ipv4_mapped is not None:
            raise _bad_network(text, "addresses mapped into IPv6 are compared as IPv4")
        found[str(network)] = None
    if len(found) > _MOST_NETWORKS:
        raise InvalidInput(f"An IP rule has at most {_MOST_NETWORKS} networks.", target="ip_rule")
    return list(found)


def one_of(value: str, allowed: Sequence[str], target: str) -> str:
    """``value`` if it is allowed. Raises InvalidInput listing what is."""
    if value not in allowed:
        remedy = f"Use one of: {', '.join(allowed)}."
        raise InvalidInput(f'"{value[:40]}" is not possible.', remedy=remedy, target=target)
    return value


def _bad_network(text: str, why: str) -> InvalidInput:
    return InvalidInput(
        f'"{text[:60]}" is not a network: {why}.',
        code="network-invalid",
        remedy="Write 192.0.2.0/24, 192.0.2.7 or 2001:db8::/32, without host bits.",
        target="ip_rule",
    )


def _text(text: str) -> str:
    if len(text) > _LONGEST_TEXT or not text.isprintable():
        raise InvalidInput(f"A description has at most {_LONGEST_TEXT} printable characters.", target="description")
    return text


def _listener(text: str) -> str:
    if not text:
        return text
    matched = _LISTENER.fullmatch(text)
    if matched is None or not 0 < int(matched[1]) <= 65535:
        raise InvalidInput(
            f'"{text[:60]}" is not an address and port.', remedy="Write 0.0.0.0:443 or [::]:443.", target="listener"
        )
    return text


def _hosts(texts: Sequence[str]) -> list[str]:
    if len(texts) > _MOST_HOSTS:
        raise InvalidInput(f"An ingress has at most {_MOST_HOSTS} host names.", target="hosts")
    found: dict[str, None] = {}
    for text in texts:
        name = text.strip().lower()
        try:
            ipaddress.ip_address(name)
        except ValueError:
            try:
                check_dns_name(name)
            except InvalidInput as error:
                raise InvalidInput(error.detail, remedy=error.remedy, target="hosts") from None
        found[name] = None
    return list(found)


def _seconds(value: int) -> int:
    if not 1 <= value <= 86_400:
        raise InvalidInput("refresh_seconds is 1 to 86400.", target="refresh_seconds")
    return value
