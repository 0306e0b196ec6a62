"""Everything decisions are made from, as one value: ingresses, policies and trust at one epoch of the configuration."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property, lru_cache
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import select

from intaglio.authority import models as authority_models
from intaglio.authority.directory import Snapshot
from intaglio.core.errors import IntaglioError
from intaglio.core.logging import get_logger
from intaglio.db.engine import Row, Transaction
from intaglio.mtls.access import models
from intaglio.mtls.access.bounded import Bounded, remembered
from intaglio.mtls.access.cedar import CompiledPolicy, compile_policy
from intaglio.mtls.access.trust import KnownIssuer, Trust, trust_of
from intaglio.mtls.access.values import IngressId, Mode
from intaglio.mtls.identities import models as identities

log = get_logger(__name__)

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


MOST_ADDRESSES = 4096


@dataclass(frozen=True)
class IpRule:
    """Stage one: who is outside all ``networks`` is denied. What was found about an address is remembered."""

    networks: tuple[Network, ...]
    _known: Bounded[str, Literal["in", "out"]] = field(
        default_factory=lambda: Bounded(MOST_ADDRESSES), repr=False, compare=False
    )

    def allows(self, source: str) -> bool:
        """Whether the address is in one of the networks. What is not an address is in none."""
        known = self._known.get(source)
        if known is None:
            address = address_of(source)
            inside = address is not None and any(address in network for network in self.networks)
            known = self._known.put(source[:64], "in" if inside and len(source) <= 64 else "out")
        return known == "in"


@remembered(entries=8192, longest=64)
def address_of(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address in ``text``, an IPv4 address mapped into IPv6 as what it is (RFC 4291 section 2.5.5.2)."""
    try:
        found = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


@dataclass(frozen=True)
class IngressView:
    """An ingress as decisions see it. ``policy`` is None when it has none; ``denies`` when it has one that cannot be
    asked, because no version of it is active."""

    id: IngressId
    type: str
    mode: Mode
    permissive_until: datetime | None
    domain: str
    environment: str
    trust: Trust = field(repr=False)
    ip_rule: IpRule | None
    policy: CompiledPolicy | None = field(repr=False)
    denies: bool
    fail_open: bool
    forward: frozenset[str]
    hosts: tuple[str, ...]
    revocation_source: str
    refresh_seconds: int
    token_hash: bytes | None = field(repr=False)


@dataclass(frozen=True)
class AccessConfiguration:
    """Ingresses and trust at one configuration epoch."""

    epoch: int
    ingresses: Mapping[UUID, IngressView]
    trusts: Mapping[str, Trust] = field(repr=False)

    @cached_property
    def by_token(self) -> Mapping[bytes, IngressView]:
        """Ingresses by the hash of their token."""
        return {view.token_hash: view for view in self.ingresses.values() if view.token_hash is not None}


async def load_configuration(view: Transaction, snapshot: Snapshot, epoch: int) -> AccessConfiguration:
    """Read ingresses, policies and trust domains; CAs and keys come from the snapshot. Raises Unavailable."""
    d, m = identities.trust_domain.c, identities.domain_ca.c
    domains = {row["id"]: row for row in await view.all(select(identities.trust_domain).where(d.state != "retired"))}
    members = [
        (row["ca_id"], domains[row["domain_id"]]["name"])
        for row in await view.all(select(m.ca_id, m.domain_id))
        if row["domain_id"] in domains
    ]
    known = known_issuers(snapshot, members)
    trusts = {row["name"]: trust_of(row["name"], row["environment"], known) for row in domains.values()}
    i, o = models.ingress, authority_models.organization
    query = select(i, o.c.name.label("organization")).join(o, o.c.id == i.c.organization_id)
    rows = await view.all(query.where(i.c.retired_at.is_(None)))
    policies = await _load_policies(view, {row["policy_id"] for row in rows if row["policy_id"]})
    empty = trust_of("", "", known)
    ingresses = {}
    for row in rows:
        domain = domains.get(row["domain_id"])
        trust = trusts[domain["name"]] if domain else empty
        ingresses[row["id"]] = _ingress(row, trust, policies.get(row["policy_id"]))
    return AccessConfiguration(epoch, ingresses, trusts)


def known_issuers(snapshot: Snapshot, members: Iterable[tuple[UUID, str]]) -> list[KnownIssuer]:
    """The keys of all CAs; ``members`` says in which trust domains (by name) a CA counts."""
    domains: dict[UUID, set[str]] = {}
    for ca_id, name in members:
        domains.setdefault(ca_id, set()).add(name)
    return [
        KnownIssuer(
            ca_id=ca.id,
            ca=ca.full_id,
            generation=key.generation,
            certificate=key.certificate,
            domains=frozenset(domains.get(ca.id, ())) if ca.state != "deleted" else frozenset(),
            status=key.certificate_status,
            recorded=key.key_id is not None or ca.kind != "external-root",
        )
        for ca in snapshot.cas.values()
        for key in ca.keys.values()
        if key.certificate is not None
    ]


async def _load_policies(view: Transaction, ids: set[UUID]) -> dict[UUID, CompiledPolicy]:
    """The active versions, compiled. One that cannot be compiled is left out, which denies everything."""
    p, v = models.policy, models.policy_version
    query = select(p.c.id, p.c.name, v.c.version, v.c.cedar).join(
        v, (v.c.policy_id == p.c.id) & (v.c.version == p.c.active_version)
    )
    found = {}
    for row in await view.all(query.where(p.c.id.in_(ids))):
        try:
            found[row["id"]] = _compiled(row["name"], row["version"], row["cedar"])
        except IntaglioError as error:
            log.error("a policy cannot be used; its ingresses deny everything", policy=row["name"], reason=str(error))
    return found


@lru_cache(maxsize=256)
def _compiled(name: str, version: int, text: str) -> CompiledPolicy:
    return compile_policy(name, version, text)


def _ingress(row: Row, trust: Trust, policy: CompiledPolicy | None) -> IngressView:
    rule: Any = row["ip_rule"]
    return IngressView(
        id=IngressId(row["id"], f"{row['organization']}~{row['name']}", row["organization_id"]),
        type=row["type"],
        mode=row["mode"],
        permissive_until=row["permissive_until"],
        domain=trust.domain,
        environment=trust.environment,
        trust=trust,
        ip_rule=None if rule is None else IpRule(tuple(map(ipaddress.ip_network, rule))),
        policy=policy,
        denies=row["policy_id"] is not None and policy is None,
        fail_open=row["fail_mode"] == "open",
        forward=frozenset(row["forward"]),
        hosts=tuple(row["hosts"]),
        revocation_source=row["revocation_source"],
        refresh_seconds=row["refresh_seconds"],
        token_hash=row["token_hash"],
    )
