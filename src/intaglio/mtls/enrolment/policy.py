"""What the enrolment page shows before anybody entered anything, and the addresses of page and mTLS host."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import urlsplit

from intaglio.authority.directory import CaView, Snapshot
from intaglio.core.errors import NotFound, StateConflict
from intaglio.core.principal import SYSTEM
from intaglio.core.settings import Settings
from intaglio.db.engine import Transaction
from intaglio.mtls.context import Mtls
from intaglio.mtls.enrolment.settings import EnrolmentSettings
from intaglio.mtls.enrolment.trust_files import TrustFiles, fingerprint
from intaglio.mtls.identities import domains
from intaglio.mtls.identities.authorities import cas_of, issuing_ca_of
from intaglio.mtls.identities.environments import anchor_of
from intaglio.mtls.identities.values import Kind, TrustDomain
from intaglio.platform import live_settings, server_identities
from intaglio.x509.certificates import read_certificate

P12_VARIANTS = ("modern", "compatible")
_ISSUING = frozenset({"active", "rotating"})
_HOST = re.compile(r"(?:[a-z0-9](?:[a-z0-9.-]{0,252}[a-z0-9])?|\[[0-9a-f:.]{2,45}\])", re.IGNORECASE)


@dataclass(frozen=True)
class CaFacts:
    """A CA as a person compares it: subject and SHA-256 fingerprint."""

    subject: str
    sha256: str

    @classmethod
    def of(cls, der: bytes) -> CaFacts:
        return cls(read_certificate(der).subject.rfc4514, fingerprint(der))


@dataclass(frozen=True)
class PublicPolicy:
    """What holds for who enrols in a domain now. ``validity_days`` is a whole number where it is one."""

    domain: str
    organization: str
    title: str
    ca: CaFacts
    server_ca: CaFacts | None
    key_algorithm: str
    key_algorithms: tuple[str, ...]
    validity_days: float
    p12_variants: tuple[str, ...]
    test_url: str
    renew_url: str


async def public_policy(mtls: Mtls, domain: str | None, host: str = "") -> PublicPolicy:
    """The policy of a trust domain (None: the default one). ``host`` is the name by which the page was reached.

    Raises NotFound (``domain-unknown``), StateConflict (``domain-unset``, ``domain-not-active``).
    """
    snapshot = await mtls.authority.snapshot()
    async with mtls.database.read() as view:
        settings = await live_settings.current(view, EnrolmentSettings)
        found = await open_domain(view, domain, settings)
        server = await _server_anchors(view, mtls, snapshot)
    anchors = _anchors(snapshot, found)
    days = lifetime_of(found, Kind.USER, settings).total_seconds() / 86400
    origin = access_origin(mtls.settings, settings, host)
    return PublicPolicy(
        domain=found.name,
        organization=found.organization,
        title=settings.title or found.title or found.name,
        ca=CaFacts.of(anchors[0]),
        server_ca=CaFacts.of(server[0]) if server else None,
        key_algorithm=settings.key_algorithms[0],
        key_algorithms=tuple(settings.key_algorithms),
        validity_days=int(days) if days == int(days) else round(days, 2),
        p12_variants=P12_VARIANTS,
        test_url=f"{origin}/whoami",
        renew_url=f"{origin}/enrol/v1/renew",
    )


async def trust_files(mtls: Mtls, domain: str | None) -> TrustFiles:
    """The CA certificates that users of a trust domain install. Raises like :func:`public_policy`."""
    snapshot = await mtls.authority.snapshot()
    async with mtls.database.read() as view:
        settings = await live_settings.current(view, EnrolmentSettings)
        found = await open_domain(view, domain, settings)
        server = await _server_anchors(view, mtls, snapshot)
    title = settings.title or found.title or found.name
    return TrustFiles(found.name, title, _anchors(snapshot, found), server)


async def open_domain(view: Transaction, name: str | None, settings: EnrolmentSettings) -> TrustDomain:
    """The trust domain of this name that issues at present; None is the default one. Raises NotFound, StateConflict."""
    if name or settings.default_domain:
        found = await domains.load_by_name(view, name or settings.default_domain)
        if found.state not in _ISSUING:
            raise StateConflict(
                f'The trust domain "{found.name}" is {found.state}; nobody can enrol in it.', code="domain-not-active"
            )
        return found
    issuing = [each for each in await domains.load_all(view) if each.state in _ISSUING]
    if len(issuing) == 1:
        return issuing[0]
    if not issuing:
        raise NotFound(
            "There is no trust domain to enrol in.",
            code="domain-unknown",
            remedy="Make one: intaglio mtls domain create.",
            target="domain",
        )
    raise StateConflict(
        f"There are {len(issuing)} trust domains, and none of them is the default.",
        code="domain-unset",
        remedy="Name the trust domain, or set the default: intaglio settings set enrolment.default_domain=NAME.",
        target="domain",
    )


def lifetime_of(domain: TrustDomain, kind: Kind, settings: EnrolmentSettings, days: int | None = None) -> timedelta:
    """How long a certificate lives: what its code says, else the settings within the ceiling, else the domain."""
    if days is not None:
        return timedelta(days=days)
    if settings.validity_days is not None and kind is Kind.USER:
        return min(timedelta(days=settings.validity_days), domain.ceilings[kind])
    return domain.lifetimes[kind]


def page_url(boot: Settings, settings: EnrolmentSettings) -> str:
    """The address of the enrolment page, for mails."""
    return settings.page_url or f"{_origin(boot.hostname, boot.console.port)}/enroll/"


def access_origin(boot: Settings, settings: EnrolmentSettings, host: str = "") -> str:
    """The origin of the mTLS host: as set, else the enrolment listener under the name that was used to get here."""
    if settings.access_url:
        return settings.access_url.rstrip("/")
    return _origin(host_name(host) or boot.hostname, boot.enroll.port)


def page_origins(boot: Settings, settings: EnrolmentSettings, host: str) -> frozenset[str]:
    """The origins whose pages may use the certificate of their visitor at the mTLS host reached as ``host``.

    That is the console of the same host: whoever serves a page under this name has the certificate of this server.
    """
    found = {_origin(name, boot.console.port) for name in (boot.hostname, host_name(host)) if name}
    if settings.page_url:
        parts = urlsplit(settings.page_url)
        found.add(_origin(parts.hostname or "", parts.port or 443))
    return frozenset(found)


def host_name(header: str) -> str:
    """The host in a Host header without its port, lower case; empty when it is none."""
    match = _HOST.match(header.strip())
    rest = header.strip()[match.end() :] if match else ""
    if match is None or (rest and not re.fullmatch(r":\d{1,5}", rest)):
        return ""
    return match[0].lower()


def anchors_of(snapshot: Snapshot, found: Sequence[TrustDomain]) -> list[bytes]:
    """The certificates of every key of the CAs that count in trust domains, and of those above them (DER)."""
    views = [ca for domain in found for ca in cas_of(snapshot, domain)]
    views += [anchor_of(snapshot, ca, "root") for ca in views]
    return list(dict.fromkeys(der for ca in views for der in _certificates(ca)))


def _certificates(ca: CaView) -> list[bytes]:
    return [key.certificate.der for key in ca.keys.values() if key.certificate is not None]


def _anchors(snapshot: Snapshot, domain: TrustDomain) -> list[bytes]:
    """What users trust in order to trust the certificates of a domain; that of the issuing CA first.

    Raises StateConflict (``domain-not-active``).
    """
    trusted = [issuing_ca_of(snapshot, domain), *cas_of(snapshot, domain)]
    views = [anchor_of(snapshot, ca, domain.anchor) for ca in trusted]
    return list(dict.fromkeys(ca.certificate.der for ca in views))


async def _server_anchors(view: Transaction, mtls: Mtls, snapshot: Snapshot) -> list[bytes]:
    """The root of the platform's own CA, where the listeners present a certificate of it."""
    if mtls.settings.tls_certificate is not None:
        return []
    identities = await server_identities.list_identities(view, SYSTEM)
    if not any(each.origin == "platform" for each in identities):
        return []
    return [ca.certificate.der for ca in snapshot.cas.values() if ca.kind == "platform" and ca.state == "active"][:1]


def _origin(host: str, port: int) -> str:
    named = f"[{host}]" if ":" in host and not host.startswith("[") else host
    return f"https://{named}" if port == 443 else f"https://{named}:{port}"
