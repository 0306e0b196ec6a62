"""The CAs of a trust domain: made for it, or given ones that can issue for identities."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from intaglio.asn1.algorithms import KeyAlgorithm
from intaglio.authority.cas.create import create_issuing, create_root
from intaglio.authority.cas.edit import edit_ca
from intaglio.authority.cas.values import CaChanges, NewIssuing, NewRoot
from intaglio.authority.directory import CaView, Snapshot
from intaglio.authority.options import CaConstraints, CaOptions
from intaglio.core.errors import Refused, StateConflict
from intaglio.core.principal import Permission, Principal
from intaglio.mtls.context import Mtls
from intaglio.mtls.identities.lifetimes import profile_of
from intaglio.mtls.identities.names import within_email_domains
from intaglio.mtls.identities.values import Kind, TrustDomain

#: The profiles a CA must offer to issue for identities.
PROFILES = tuple(profile_of(kind).id for kind in Kind)
#: DNS names that are nobody's on the Internet, for identities without a domain of their own there.
PRIVATE_SUFFIXES = ("internal", "local", "localhost", "svc", "test")
#: Whoever looks at CRLs or OCSP answers only, without asking us about every connection, hears of a revocation soon.
_PURPOSES = ("clientAuth", "serverAuth", "OCSPSigning")
_PROMPT = CaOptions(crl_on_revoke=True, crl_interval_hours=1, crl_validity_hours=24, ocsp_validity_minutes=1)


@dataclass(frozen=True)
class NewCaWish:
    """A root and an issuing CA to be made for a trust domain; ``ca_id`` is the id of the issuing one (``{ca_id}-root``
    that of the root), made from the environment where it is empty."""

    key_algorithm: KeyAlgorithm = KeyAlgorithm.ECDSA_P256
    ca_id: str = ""


async def make_cas(
    mtls: Mtls,
    principal: Principal,
    organization: str,
    environment: str,
    domain: str,
    dns_suffixes: Sequence[str],
    email_domains: Sequence[str],
    wish: NewCaWish,
) -> str:
    """A root of the trust domain's own and an issuing CA below it; the full id of the latter.

    Both are limited to the SPIFFE IDs of the trust domain, to DNS names below ``dns_suffixes`` and to e-mail addresses
    of ``email_domains`` (none: any), so that a device may trust them without risk to everything else it talks to. Needs
    ``ca.configure``. Raises what making CAs raises.
    """
    ca_id = wish.ca_id or await _free_ca_id(mtls, organization, environment)
    title = f"{organization} {environment} {ca_id}"
    limits = CaConstraints(
        permitted_dns=tuple(dns_suffixes), permitted_uri_hosts=(domain,), permitted_email=tuple(email_domains)
    )
    root = NewRoot(
        name=f"{ca_id}-root",
        key_algorithm=wish.key_algorithm,
        subject=f"CN={title} root,O={organization}",
        profiles=list(PROFILES),
        administrators=[],
        label=f"Root of {domain}",
        options=_PROMPT.model_copy(update={"constraints": limits}),
    )
    issuing = NewIssuing(
        name=ca_id,
        key_algorithm=wish.key_algorithm,
        subject=f"CN={title} identities,O={organization}",
        profiles=list(PROFILES),
        administrators=[],
        label=f"Identities of {domain}",
        issuer=root.name,
        options=_PROMPT.model_copy(update={"constraints": limits.model_copy(update={"purposes": _PURPOSES})}),
    )
    await create_root(mtls.authority, principal, organization, root, without_clients=True)
    await create_issuing(mtls.authority, principal, organization, issuing, without_clients=True)
    return f"{organization}~{ca_id}"


async def offer_profiles(mtls: Mtls, principal: Principal, full_id: str) -> None:
    """Let a CA issue for identities, as far as the principal may configure it."""
    ca = (await mtls.authority.current()).ca(full_id)
    missing = [profile for profile in PROFILES if profile not in ca.profile_ids]
    if missing and principal.may(Permission.CA_CONFIGURE) and ca.kind in ("root", "issuing"):
        await edit_ca(mtls.authority, principal, full_id, CaChanges(profiles=[*ca.profile_ids, *missing]))


def usable_ca(snapshot: Snapshot, full_id: str, organization_id: UUID) -> CaView:
    """A CA that can issue for identities. Raises NotFound, Refused (``ca-not-suitable``), StateConflict."""
    ca = snapshot.ca(full_id)
    if ca.organization_id != organization_id or ca.kind not in ("root", "issuing"):
        raise Refused(
            f'"{full_id}" is no CA of this organization that issues certificates.',
            code="ca-not-suitable",
            remedy="Use a root or issuing CA of the same organization, or have one made.",
            target="issuing_ca",
        )
    ca.require_active()
    if missing := sorted(set(PROFILES) - set(ca.profile_ids)):
        raise Refused(
            f'"{full_id}" does not offer the profiles of identities: {", ".join(missing)}.',
            code="ca-not-suitable",
            remedy="Have somebody with ca.configure add them: intaglio ca edit.",
            target="issuing_ca",
        )
    return ca


def cas_of(snapshot: Snapshot, domain: TrustDomain) -> list[CaView]:
    """The CAs that count in a trust domain and have not been deleted, by name."""
    found = (snapshot.cas.get(ca_id) for ca_id in domain.ca_ids)
    return sorted((ca for ca in found if ca is not None and ca.state != "deleted"), key=lambda ca: ca.full_id)


def issuing_ca_of(snapshot: Snapshot, domain: TrustDomain) -> CaView:
    """The CA that a trust domain issues with. Raises StateConflict (``domain-not-active``) when there is none."""
    for ca in cas_of(snapshot, domain):
        if ca.id == domain.issuing_ca_id:
            return ca
    raise StateConflict(
        f'The trust domain "{domain.name}" has no issuing CA.',
        code="domain-not-active",
        remedy="Give it one: intaglio mtls ca create.",
    )


def require_within_limits(snapshot: Snapshot, domain: TrustDomain, suffixes: Sequence[str]) -> None:
    """Raise Refused (``dns-suffix-outside-ca``) for DNS names that the issuing CA of a trust domain cannot certify."""
    limits = [ca.options.constraints for ca in cas_of(snapshot, domain) if ca.id == domain.issuing_ca_id]
    if not limits or limits[0] is None:
        return
    permitted = limits[0].permitted_dns
    outside = [s for s in suffixes if not any(s == known or s.endswith(f".{known}") for known in permitted)]
    if outside or not suffixes:
        raise Refused(
            f'"{domain.issuing_ca}" is limited to DNS names below: {", ".join(permitted)}.',
            code="dns-suffix-outside-ca",
            remedy="Keep to those, or make a trust domain with the names it shall have.",
            target="dns_suffixes",
        )


def require_email_within_limits(snapshot: Snapshot, domain: TrustDomain, email_domains: Sequence[str]) -> None:
    """Raise Refused (``email-domain-outside-ca``) for addresses that its issuing CA cannot certify."""
    limits = [ca.options.constraints for ca in cas_of(snapshot, domain) if ca.id == domain.issuing_ca_id]
    permitted = limits[0].permitted_email if limits and limits[0] is not None else ()
    if not permitted:
        return
    if not email_domains or any(not within_email_domains(each, permitted) for each in email_domains):
        raise Refused(
            f'"{domain.issuing_ca}" is limited to e-mail addresses of: {", ".join(permitted)}.',
            code="email-domain-outside-ca",
            remedy="Keep to those, or make a trust domain with the addresses it shall have.",
            target="email_domains",
        )


async def _free_ca_id(mtls: Mtls, organization: str, environment: str) -> str:
    """``id-{environment}``, with a number where that is taken; with ``-root`` it still is a CA id."""
    stem = f"id-{re.sub('[^a-z0-9]', '', environment)[:7]}"
    snapshot = await mtls.authority.current()
    # Those of deleted CAs stay reserved for a while.
    taken = {ca.name for ca in snapshot.cas.values() if ca.organization == organization}
    candidates = (stem if number == 1 else f"{stem}-{number}" for number in range(1, 10_000))
    return next(name for name in candidates if name not in taken and f"{name}-root" not in taken)
