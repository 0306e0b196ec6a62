"""Trust domains, identities and what is issued for them, as the other rooms see them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from intaglio.core.principal import Principal


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


#: The word that stands before the name of an identity in its SPIFFE ID.
SEGMENT_OF: Mapping[Kind, str] = {kind: "svc" if kind is Kind.SERVICE else kind.value for kind in Kind}

#: The kinds whose certificates live for hours, not days.
AUTOMATED = frozenset({Kind.WORKLOAD, Kind.SERVICE, Kind.PIPELINE})


def spiffe_id(domain: str, environment: str, team: str, kind: Kind, name: str) -> str:
    """The URI of an identity. Source: SPIFFE-ID section 2."""
    within = f"/team/{team}" if team else ""
    return f"spiffe://{domain}/env/{environment}{within}/{SEGMENT_OF[kind]}/{name}"


@dataclass(frozen=True)
class TrustDomain:
    """Who trusts whom in one environment: the CAs whose certificates count there, and which of them issues.

    ``name`` is the SPIFFE trust domain (a DNS name in lower case); ``environment`` is dev, staging, prod or a name of
    one's own, and no two trust domains of different environments share a CA. ``issuing_ca`` is ``{organization}~{ca}``;
    what counts are the ids, since a deleted CA may leave its name to another one.
    ``state`` is draft, active, rotating (old and new CA both count) or retired. ``lifetimes`` and ``ceilings`` are by
    kind: what a certificate gets unless asked otherwise, and the most it may get. ``anchor`` says what relying parties
    trust: the ``root`` above the CAs, or the ``issuing`` CAs themselves, where another environment is below the same
    root. Services and workloads must have the ``required_attributes``, and DNS names below ``dns_suffixes`` only;
    e-mail addresses are of ``email_domains`` (none: any).
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
    anchor: str = "root"
    required_attributes: tuple[str, ...] = ("team", "service")
    dns_suffixes: tuple[str, ...] = ()
    email_domains: tuple[str, ...] = ()
    created_by: str = ""
    issuing_ca_id: UUID | None = None
    ca_ids: tuple[UUID, ...] = ()


@dataclass(frozen=True)
class Identity:
    """A registered person, device, workload, service or pipeline.

    ``name`` is unique per trust domain and kind, and goes into certificates; it is made here, never by a requester.
    ``attributes`` (service, team, environment, roles, version) are what certificates of it say. ``state`` is active,
    suspended or retired. ``owner`` is the user who answers for it; only where ``owner_confirmed`` there is an account
    behind that name that was meant.
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
    owner_confirmed: bool = False

    @property
    def environment(self) -> str:
        return self.domain.environment

    @property
    def uri(self) -> str:
        """The SPIFFE ID in its certificates: ``spiffe://{domain}/env/{env}/team/{team}/{svc|user|...}/{name}``."""
        return spiffe_id(self.domain.name, self.environment, self.team, self.kind, self.name)

    def principal(self, source: str = "") -> Principal:
        """This identity as the one who asks, for whoever has proved to be it. It may do nothing but act for itself."""
        return Principal("identity", self.uri, source=source)


@dataclass(frozen=True)
class CertifiedIdentity:
    """Who a certificate says its holder is; nothing of it was looked up. ``domain`` is the trust domain."""

    kind: Kind
    name: str
    domain: str
    environment: str
    team: str
    service: str
    roles: tuple[str, ...]
    version: str
    uri: str
    email: str = ""
    dns_names: tuple[str, ...] = ()


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
    repeated: bool = False
