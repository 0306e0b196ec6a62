"""Trust domains, identities and what is issued for them, as the other rooms see them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID


class Kind(StrEnum):
    """What an identity stands for."""

    USER = "user"
    DEVICE = "device"
    WORKLOAD = "workload"
    SERVICE = "service"
    PIPELINE = "pipeline"


class Channel(StrEnum):
    """The way a certificate was asked for. Every way but ``manual`` renews without a person at work."""

    PAGE = "page"
    RENEWAL = "renewal"
    AGENT = "agent"
    VAULT = "vault"
    ACME = "acme"
    PIPELINE = "pipeline"
    DRILL = "drill"
    MANUAL = "manual"


#: The kinds whose certificates live for hours, not days.
AUTOMATED = frozenset({Kind.WORKLOAD, Kind.SERVICE, Kind.PIPELINE})


@dataclass(frozen=True)
class TrustDomain:
    """Who trusts whom in one environment: the CAs whose certificates count there, and which of them issues.

    ``name`` is the SPIFFE trust domain (a DNS name in lower case); ``environment`` is dev, staging, prod or a name of
    one's own, and no two trust domains of different environments share a CA. ``issuing_ca`` is ``{organization}~{ca}``.
    ``state`` is draft, active, rotating (old and new CA both count) or retired. ``lifetimes`` and ``ceilings`` are by
    kind: what a certificate gets unless asked otherwise, and the most it may get.
    """

    id: UUID
    name: str
    environment: str
    organization: str
    organization_id: UUID
    title: str
    state: str
    issuing_ca: str
    cas: tuple[str, ...]
    bundle_version: int
    lifetimes: Mapping[Kind, timedelta]
    ceilings: Mapping[Kind, timedelta]
    pki_choice: str
    created_at: datetime


@dataclass(frozen=True)
class Identity:
    """A registered person, device, workload, service or pipeline.

    ``name`` is unique per trust domain and kind, and goes into certificates; it is made here, never by a requester.
    ``attributes`` (service, team, environment, roles, version) are what certificates of it say. ``state`` is active,
    suspended or retired. ``owner`` is the user who answers for it.
    """

    id: UUID
    domain: TrustDomain
    kind: Kind
    name: str
    display_name: str
    email: str
    team: str
    service: str
    roles: tuple[str, ...]
    version: str
    owner: str
    state: str
    dns_names: tuple[str, ...]
    created_at: datetime
    properties: Mapping[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> str:
        return self.domain.environment

    @property
    def uri(self) -> str:
        """The SPIFFE ID in its certificates: ``spiffe://{domain}/env/{env}/team/{team}/{svc|user|...}/{name}``."""
        short = "svc" if self.kind is Kind.SERVICE else self.kind.value
        team = f"/team/{self.team}" if self.team else ""
        return f"spiffe://{self.domain.name}/env/{self.environment}{team}/{short}/{self.name}"


@dataclass(frozen=True)
class IssuedIdentity:
    """A certificate issued for an identity, durable, with the id of its binding. ``chain`` is its issuers upwards."""

    identity: Identity
    binding_id: UUID
    certificate: bytes = field(repr=False)
    chain: tuple[bytes, ...] = field(repr=False)
    serial: bytes
    not_before: datetime
    not_after: datetime
    warnings: tuple[str, ...] = ()
