"""CAs below a trust domain whose key is elsewhere: cert-manager's CA issuer, an upstream for SPIRE.

Their key was made outside and never comes here; what they issue is recorded nowhere here. So they are limited to the
names of the trust domain and live shortly, and every one of them is audited with its purpose. Only relying parties that
look at chains alone take their certificates: there is no status for them here, and no registered identity.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from intaglio.authority import internal_profiles
from intaglio.authority.access import require_ca
from intaglio.authority.cas.keys import limits
from intaglio.authority.configuration import changing
from intaglio.authority.directory import CaView, Snapshot
from intaglio.authority.issuance import Order, issue_in
from intaglio.authority.options import CaConstraints
from intaglio.core.clock import rfc3339
from intaglio.core.errors import InvalidInput, Refused
from intaglio.core.identifiers import serial_hex
from intaglio.core.principal import Permission, Principal
from intaglio.mtls.context import Mtls
from intaglio.mtls.identities.authorities import PRIVATE_SUFFIXES, issuing_ca_of
from intaglio.mtls.identities.domains import locked_domain, note, own_email_domains
from intaglio.mtls.identities.names import plain_text
from intaglio.mtls.identities.values import TrustDomain
from intaglio.profiles.engine import IssuanceInput, RequestedValidity
from intaglio.x509.names import Name
from intaglio.x509.requests import parse_request

USUAL_LIFETIME = timedelta(days=90)
LONGEST_LIFETIME = timedelta(days=366)
_PURPOSES = ("clientAuth", "serverAuth")
WARNING = (
    "Certificates of this CA are issued elsewhere and recorded nowhere here: they count wherever its chain is trusted, "
    "and revoking one is up to whoever runs it. Revoke the CA itself to end them all."
)


@dataclass(frozen=True)
class SubordinateCa:
    """The certificate of a CA whose key is elsewhere; ``chain`` is its issuers upwards."""

    ca: str
    subject: str
    serial: str
    not_after: datetime
    certificate: bytes = field(repr=False)
    chain: tuple[bytes, ...] = field(repr=False)
    warning: str = WARNING


async def certify_subordinate(
    mtls: Mtls,
    principal: Principal,
    domain: str,
    csr: bytes | str,
    *,
    purpose: str,
    lifetime: timedelta = USUAL_LIFETIME,
) -> SubordinateCa:
    """Certify a CA below the root of a trust domain over the key of a certificate request.

    ``purpose`` says what it is for: it goes into the audit trail and, with the trust domain, into the subject. Needs
    ``ca.configure``. Raises NotFound, InvalidInput (request, purpose, lifetime), Refused (the trust domain's root is
    not here, has no room below it, or is shared with another environment).
    """
    principal.require(Permission.CA_CONFIGURE)
    request = parse_request(csr)
    told = plain_text(purpose, target="purpose")
    if not told:
        raise InvalidInput("Say what the CA is for.", code="purpose-required", target="purpose")
    if not timedelta(hours=1) <= lifetime <= LONGEST_LIFETIME:
        raise InvalidInput(
            f"A CA whose key is elsewhere lives for an hour to {LONGEST_LIFETIME.days} days.",
            code="lifetime-invalid",
            target="lifetime",
        )
    async with changing(mtls.authority, principal, Permission.CA_CONFIGURE) as change:
        tx, snapshot = change.tx, await change.locked()
        found = await locked_domain(tx, principal, domain)
        root = _root(snapshot, found)
        await require_ca(tx, snapshot, principal, root.full_id, Permission.CA_CONFIGURE)
        subject = Name.build([("O", found.organization), ("CN", f"{found.environment} {told}"[:64])])
        suffixes = found.dns_suffixes or (found.name, *PRIVATE_SUFFIXES)
        constraints = CaConstraints(
            permitted_dns=tuple(suffixes),
            permitted_uri_hosts=(found.name,),
            permitted_email=tuple(found.email_domains or own_email_domains(found.name)),
            purposes=_PURPOSES,
        )
        order = Order(
            ca=root,
            profile=internal_profiles.ca_subordinate(0),
            input=IssuanceInput(
                subject=subject,
                spki=request.spki,
                key_algorithm=request.key_algorithm,
                channel="platform",
                validity=RequestedValidity(not_after=min(tx.now + lifetime, root.certificate.not_after)),
                stated=limits(constraints),
            ),
        )
        issued = await issue_in(mtls.authority, tx, principal, order)
        note(
            tx, principal, "certify-subordinate", found, subject=subject.rfc4514, purpose=told,
            serial=serial_hex(issued.serial), not_after=rfc3339(issued.not_after),
        )  # fmt: skip
    return SubordinateCa(
        root.full_id, subject.rfc4514, serial_hex(issued.serial), issued.not_after, issued.der, issued.chain
    )


def _root(snapshot: Snapshot, domain: TrustDomain) -> CaView:
    """The root of the trust domain's own."""
    ca = issuing_ca_of(snapshot, domain)
    root = snapshot.cas[ca.issuer_id] if ca.issuer_id else ca
    if domain.anchor != "root" or root.kind != "root":
        raise Refused(
            f'The root of "{domain.name}" is not here, or others are below it too.',
            code="ca-not-suitable",
            remedy="Use a trust domain with CAs of its own.",
            target="domain",
        )
    return root


