"""What can be said about enrolment: endpoints, who asks there, what for, and what comes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING, Any, Final, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from intaglio.core.errors import Forbidden
from intaglio.core.principal import Principal
from intaglio.profiles.engine import RequestedValidity
from intaglio.x509.requests import CertificateRequest, RequestedExtension

if TYPE_CHECKING:
    from intaglio.authority.directory import CaView


class Protocol(StrEnum):
    """The protocols in which certificates are asked for; each is also the channel of its certificates."""

    ACME = "acme"
    EST = "est"
    SCEP = "scep"
    CMP = "cmp"


Approval = Literal["automatic", "manual"]
Method = Literal["account", "password", "certificate", "challenge", "mac", "none"]

#: What an endpoint of each protocol is called in a list, an audit record, a path.
PROTOCOL_TITLES: Final[Mapping[Protocol, str]] = {
    Protocol.ACME: "ACME",
    Protocol.EST: "EST",
    Protocol.SCEP: "SCEP",
    Protocol.CMP: "CMP",
}


class EndpointOptions(BaseModel):
    """Base of the options that an endpoint of one protocol has."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def require_fit(self, ca: CaView) -> None:
        """Raise NotFound, StateConflict or Refused when an endpoint of this CA cannot be so."""


@dataclass(frozen=True)
class Endpoint:
    """One named place at which certificates are asked for.

    ``name`` is unique within the protocol, and its label there (EST, CMP); ``ca`` is ``organization~ca``; without
    ``networks`` everybody may ask; ``hourly_limit`` is the number of certificates in an hour.
    """

    id: UUID
    name: str
    tenant: str
    protocol: Protocol
    ca: str
    ca_id: UUID
    organization_id: UUID
    profile: str
    enabled: bool
    approval: Approval
    networks: tuple[str, ...]
    hourly_limit: int | None
    options: Any = field(repr=False)
    version: int
    created_by: str
    created_at: datetime
    changed_at: datetime

    @property
    def address(self) -> str:
        """``protocol/name``: how the endpoint is called in commands and in the audit trail."""
        return f"{self.protocol}/{self.name}"

    @property
    def organization(self) -> str:
        return self.ca.partition("~")[0]

    def is_admitted(self, source: str) -> bool:
        """Whether requests may come from the address ``source``."""
        if not self.networks:
            return True
        try:
            address = plain_address(source)
        except ValueError:
            return False
        return any(address in ip_network(network) for network in self.networks)

    def require_admitted(self, source: str) -> None:
        """Raise Forbidden (``source-not-allowed``) unless requests may come from the address ``source``."""
        if not self.is_admitted(source):
            raise Forbidden(
                f"Certificates are not asked for from {source[:64] or 'an unknown address'} here.",
                code="source-not-allowed",
                remedy="Ask from a network that the endpoint lists, or have yours added.",
            )


Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


def plain_address(text: str) -> Address:
    """An address without zone; one of IPv4 that came mapped into IPv6 as what it is. Raises ValueError."""
    address = ip_address(text.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


@dataclass(frozen=True)
class Applicant:
    """Who asks: ``name`` as the endpoint knows him, ``method`` how he proved it, ``source`` his address."""

    name: str
    method: Method
    source: str

    @property
    def principal(self) -> Principal:
        return Principal("applicant", self.name, source=self.source)


@dataclass(frozen=True)
class Application:
    """What is asked for.

    Either ``csr`` (PKCS #10 in DER, whose signature proves possession) or ``spki``, of which the adapter has proven
    possession by other means or, with ``generated``, has made the key itself. ``subject`` (RFC 4514) and ``sans``
    (type, value) replace those of the request; ``name`` (a Name in DER) and ``extensions`` are the request's own beside
    a bare ``spki``. ``validity`` only ever shortens. ``key``: the same key at the same endpoint gives the same
    certificate, after a crash too; None commits fastest. ``previous`` is the certificate that is renewed. ``note`` is
    shown to whoever approves. ``request`` is ``csr`` where the adapter has read it, signature and all. ``profile`` is
    wanted instead of the endpoint's; the adapter has seen to it that it may.
    """

    endpoint: Endpoint
    applicant: Applicant
    csr: bytes | None = field(default=None, repr=False)
    spki: bytes | None = field(default=None, repr=False)
    name: bytes | None = field(default=None, repr=False)
    subject: str | None = None
    sans: tuple[tuple[str, str | bytes], ...] | None = None
    extensions: tuple[RequestedExtension, ...] = ()
    validity: RequestedValidity | None = None
    key: str | None = None
    previous: UUID | None = None
    note: str = ""
    generated: bool = False
    request: CertificateRequest | None = field(default=None, repr=False, compare=False)
    profile: str | None = None


@dataclass(frozen=True)
class Granted:
    """An issued certificate, durable. ``chain`` is its issuers upwards, root last; all DER."""

    id: UUID
    certificate: bytes = field(repr=False)
    chain: tuple[bytes, ...] = field(repr=False)
    serial: bytes
    subject: str
    not_before: datetime
    not_after: datetime
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Waiting:
    """Somebody has to approve first; ask again with the same key after ``retry_after`` seconds."""

    request_id: UUID
    retry_after: int
