"""Trust bundles: the CAs that count in a trust domain, or in all of one environment.

A bundle never mixes environments: whoever trusts it would take certificates of one for those of another.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from intaglio.authority.crls.stored import latest_crl
from intaglio.authority.directory import CaView, Snapshot
from intaglio.core.errors import InvalidInput, NotFound, StateConflict
from intaglio.core.principal import Principal
from intaglio.mtls.context import Mtls
from intaglio.mtls.identities.authorities import cas_of
from intaglio.mtls.identities.domains import list_domains
from intaglio.mtls.identities.environments import anchor_of
from intaglio.mtls.identities.values import TrustDomain
from intaglio.x509.certificates import CertificateInfo

_MOST_DOMAINS = 50


@dataclass(frozen=True)
class BundleCrl:
    """The newest CRL of a CA of a bundle, DER."""

    ca: str
    der: bytes = field(repr=False)


@dataclass(frozen=True)
class Bundle:
    """The trust anchors of one environment, and the issuing CAs below them.

    ``name`` is that of the trust domain, or of the environment; ``anchors`` are what relying parties trust (with the
    anchor ``issuing`` these are no roots: OpenSSL needs ``-partial_chain`` then); ``issuers`` are the CAs between,
    for relying parties whose clients send no chain. ``version`` rises whenever the configuration changes.
    """

    name: str
    environment: str
    domains: tuple[str, ...]
    version: int
    anchors: tuple[CertificateInfo, ...] = field(repr=False)
    issuers: tuple[CertificateInfo, ...] = field(repr=False)
    crls: tuple[BundleCrl, ...] = field(default=(), repr=False)

    @property
    def certificates(self) -> tuple[CertificateInfo, ...]:
        """Anchors first, then the CAs below them."""
        return self.anchors + self.issuers

    @property
    def digest(self) -> str:
        """Changes exactly when other certificates count."""
        digest = hashlib.sha256()
        for fingerprint in sorted(certificate.fingerprint for certificate in self.certificates):
            digest.update(fingerprint)
        return digest.hexdigest()


async def export_bundle(mtls: Mtls, principal: Principal, name: str, *, also: Sequence[str] = ()) -> Bundle:
    """The bundle of a trust domain, or of all trust domains of an environment, with their newest CRLs.

    ``also`` are further trust domains of the same environment. Needs ``mtls.view`` or ``mtls.own``. Raises NotFound
    (no such trust domain or environment, or none with a CA), StateConflict (``foreign-environment``).
    """
    visible = await list_domains(mtls, principal)
    chosen = _chosen(visible, name, also)
    snapshot = await mtls.authority.current()
    bundle = bundle_of(snapshot, name, chosen)
    crls = []
    async with mtls.database.read() as view:
        for ca in _publishing(snapshot, chosen):
            for generation in sorted(ca.keys):
                if (crl := await latest_crl(view, ca, generation)) is not None:
                    crls.append(BundleCrl(f"{ca.name}-{generation}", crl.der))
    return Bundle(
        bundle.name, bundle.environment, bundle.domains, bundle.version, bundle.anchors, bundle.issuers, tuple(crls)
    )


def bundle_of(snapshot: Snapshot, name: str, domains: Sequence[TrustDomain]) -> Bundle:
    """The bundle of trust domains without CRLs. Raises NotFound when no CA counts, StateConflict
    (``foreign-environment``) when they are of several environments."""
    environments = sorted({domain.environment for domain in domains})
    if len(environments) > 1:
        raise StateConflict(
            f"A bundle cannot hold the CAs of several environments: {', '.join(environments)}.",
            code="foreign-environment",
            remedy="Export a bundle for each.",
            target="also",
        )
    anchors: dict[bytes, CertificateInfo] = {}
    issuers: dict[bytes, CertificateInfo] = {}
    for domain in domains:
        for ca in cas_of(snapshot, domain):
            anchor = anchor_of(snapshot, ca, domain.anchor)
            anchors |= _certificates(snapshot, anchor)
            issuers |= _certificates(snapshot, ca)
    if not anchors:
        raise NotFound(
            f'No CA counts in "{name[:80]}".', code="bundle-empty", remedy="Give the trust domain its CA first."
        )
    between = tuple(issuer for fingerprint, issuer in issuers.items() if fingerprint not in anchors)
    names = tuple(sorted(domain.name for domain in domains))
    return Bundle(name, environments[0], names, snapshot.epoch, tuple(anchors.values()), between)


def _chosen(visible: Iterable[TrustDomain], name: str, also: Sequence[str]) -> list[TrustDomain]:
    known = [domain for domain in visible if domain.state != "retired"]
    if len(also) > _MOST_DOMAINS:
        raise InvalidInput(f"At most {_MOST_DOMAINS} further trust domains.", target="also")
    chosen = [domain for domain in known if domain.name == name] or [d for d in known if d.environment == name]
    for further in also:
        found = [domain for domain in known if domain.name == further]
        if not found:
            raise _unknown(further)
        chosen += [domain for domain in found if domain not in chosen]
    if not chosen:
        raise _unknown(name)
    return chosen


def _publishing(snapshot: Snapshot, domains: Sequence[TrustDomain]) -> list[CaView]:
    """The CAs of a bundle whose CRLs relying parties look at: what an anchor signs are the CAs below it."""
    found: dict[UUID, CaView] = {}
    for domain in domains:
        for ca in cas_of(snapshot, domain):
            found |= {each.id: each for each in (anchor_of(snapshot, ca, domain.anchor), ca)}
    return list(found.values())


def _certificates(snapshot: Snapshot, ca: CaView) -> dict[bytes, CertificateInfo]:
    """The certificates of all keys of a CA that still count: what an earlier key issued may be in use."""
    found = (key.certificate for key in ca.keys.values() if key.certificate_status == "valid")
    return {c.fingerprint: c for c in found if c is not None and c.not_after > snapshot.read_at}


def _unknown(name: str) -> NotFound:
    return NotFound(
        f'There is no trust domain or environment "{name[:80]}".',
        code="domain-unknown",
        remedy="`intaglio mtls domain list` shows both.",
        target="domain",
    )
