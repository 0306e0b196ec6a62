"""Client credentials: PKCS#12 files and certificates with which clients come to the gateway.

A private key and its password are shown once and never stored. Whoever lost them gets a new credential.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

from pydantic import SecretStr
from sqlalchemy import insert, select, update
from sqlalchemy.dialects.postgresql import distinct_on

from intaglio.asn1.algorithms import KeyAlgorithm, PrivateKey, generate_private_key, spki
from intaglio.audit import record as audit
from intaglio.authority import internal_profiles, models
from intaglio.authority.access import require_organization
from intaglio.authority.certificates import RevocationReason, StoredCertificate
from intaglio.authority.client_ca import client_ca_of
from intaglio.authority.client_users import (
    ClientUser,
    find_or_add_user,
    require_user,
    set_right,
)
from intaglio.authority.configuration import ConfigurationChange, changing
from intaglio.authority.context import Authority
from intaglio.authority.directory import CaView, Snapshot
from intaglio.authority.issuance import Order, issue_in
from intaglio.authority.revocation import change_status_in, revocation
from intaglio.core.clock import rfc3339
from intaglio.core.errors import StateConflict
from intaglio.core.identifiers import new_id, new_secret, serial_hex
from intaglio.core.principal import Permission, Principal
from intaglio.db.engine import Transaction
from intaglio.profiles.engine import IssuanceInput, RequestedValidity
from intaglio.x509.pkcs12 import encode_pkcs12
from intaglio.x509.requests import parse_request


@dataclass(frozen=True)
class CredentialWish:
    """How a new credential is made.

    ``compatibility``: modern (AES-256, SHA-256) or legacy (3DES, SHA-1) PKCS#12 for old clients; ``key_algorithm`` of
    the generated key; ``not_after`` ends it before the usual year; ``csr`` (PEM or DER) asks for a certificate over the
    client's own key instead of a PKCS#12.
    """

    compatibility: Literal["modern", "legacy"] = "modern"
    key_algorithm: KeyAlgorithm = KeyAlgorithm.ECDSA_P256
    not_after: datetime | None = None
    csr: bytes | str | None = None


@dataclass(frozen=True)
class NewCredential:
    """A credential just made; ``pkcs12`` and ``password`` are shown this once (None when the client has the key)."""

    name: str
    serial: bytes
    not_after: datetime
    certificate: bytes = field(repr=False)
    chain: tuple[bytes, ...] = field(repr=False)
    pkcs12: bytes | None = field(default=None, repr=False)
    password: SecretStr | None = None


@dataclass(frozen=True)
class Credential:
    """A credential as listed. ``state`` is active, replaced, revoked or expired; ``rights`` by full CA id."""

    name: str
    serial: bytes
    subject: str
    state: str
    created_at: datetime
    not_after: datetime
    expires_soon: bool
    rights: Mapping[str, str]


#: From here on a credential is listed as expiring soon.
EXPIRY_WARNING = timedelta(days=30)


async def list_credentials(authority: Authority, principal: Principal, organization: str) -> list[Credential]:
    """The newest credential of every client of an organization, by name. Needs ``ca.view``."""
    snapshot = await authority.current()
    async with authority.database.read() as view:
        found = await require_organization(view, principal, organization, Permission.CA_VIEW)
        u, k, c = models.ca_user, models.client_credential, models.certificate
        query = (
            select(u.c.name, u.c.id.label("user_id"), k.c.state, k.c.created_at, c.c.serial, c.c.subject, c.c.not_after,
                   c.c.status)
            .ext(distinct_on(u.c.name))
            .join(k, k.c.ca_user_id == u.c.id)
            .join(c, c.c.id == k.c.certificate_id)
            .where(u.c.organization_id == found.id)
            .order_by(u.c.name, k.c.created_at.desc(), k.c.id.desc())
        )  # fmt: skip
        return [_credential(row, snapshot, view.now) for row in await view.all(query)]


async def reissue_credential(
    authority: Authority, principal: Principal, organization: str, name: str, wish: CredentialWish | None = None
) -> NewCredential:
    """Make a new credential for a known client; what he had is revoked at once (superseded).

    Needs ``ca.configure``. Raises NotFound, and what issuing raises.
    """
    async with changing(authority, principal, Permission.CA_CONFIGURE) as change:
        found = await require_organization(change.tx, principal, organization, Permission.CA_CONFIGURE)
        user = await require_user(change.tx, found.id, organization, name)
        client_ca = client_ca_of(await change.locked(), found.id)
        await _revoke_active(change.tx, principal, client_ca, user, "replaced", RevocationReason.SUPERSEDED)
        return await _issue(change, principal, client_ca, user, wish or CredentialWish())


async def revoke_credential(
    authority: Authority,
    principal: Principal,
    organization: str,
    name: str,
    *,
    reason: RevocationReason = RevocationReason.UNSPECIFIED,
) -> None:
    """Revoke what a client has; he is refused at once. His rights stay for a credential re-issued later.

    Needs ``ca.configure``. Raises NotFound, StateConflict (``credential-not-active``) when he has none.
    """
    async with changing(authority, principal, Permission.CA_CONFIGURE) as change:
        found = await require_organization(change.tx, principal, organization, Permission.CA_CONFIGURE)
        user = await require_user(change.tx, found.id, organization, name)
        client_ca = client_ca_of(await change.locked(), found.id)
        if not await _revoke_active(change.tx, principal, client_ca, user, "revoked", reason):
            raise StateConflict(
                f'Client "{user.name}" has no active credential.',
                code="credential-not-active",
                remedy="Re-issue a credential if he needs one.",
            )


async def assign(
    change: ConfigurationChange,
    snapshot: Snapshot,
    principal: Principal,
    ca: CaView,
    rights: Mapping[str, str],
    wish: CredentialWish,
) -> list[NewCredential]:
    """Give clients their rights on a CA. Returns a credential for everybody who has none that is good.

    Whoever has one keeps using it. ``snapshot`` is the locked one.
    """
    client_ca = client_ca_of(snapshot, ca.organization_id)
    made = []
    for name, right in rights.items():
        user = await find_or_add_user(change.tx, ca.organization_id, ca.organization, name)
        await set_right(change.tx, ca.id, user, right)
        if not await _active(change.tx, user):
            made.append(await _issue(change, principal, client_ca, user, wish))
    return made


async def _issue(
    change: ConfigurationChange, principal: Principal, client_ca: CaView, user: ClientUser, wish: CredentialWish
) -> NewCredential:
    private_key: PrivateKey | None = None
    if wish.csr is not None:
        request = parse_request(wish.csr)
        public_key, algorithm = request.spki, request.key_algorithm
    else:
        private_key = await asyncio.to_thread(generate_private_key, wish.key_algorithm)
        public_key, algorithm = spki(private_key.public_key()), wish.key_algorithm
    order = Order(
        ca=client_ca,
        profile=internal_profiles.client_credential(),
        input=IssuanceInput(
            subject=user.subject,
            spki=public_key,
            key_algorithm=algorithm,
            channel="platform",
            validity=RequestedValidity(not_after=wish.not_after) if wish.not_after else None,
        ),
    )
    issued = await issue_in(change.authority, change.tx, principal, order)
    await change.tx.execute(
        insert(models.client_credential).values(
            id=new_id(), ca_user_id=user.id, certificate_id=issued.id, state="active", created_at=change.tx.now
        )
    )
    audit.record(
        change.tx, principal, "credential.issue", "client", f"{client_ca.organization}/{user.name}",
        organization=client_ca.organization, serial=serial_hex(issued.serial), not_after=rfc3339(issued.not_after),
        key="client" if private_key is None else "generated",
    )  # fmt: skip
    credential = NewCredential(user.name, issued.serial, issued.not_after, issued.der, issued.chain)
    if private_key is None:
        return credential
    password = new_secret()
    container = encode_pkcs12(
        private_key, issued.der, issued.chain, password, friendly_name=user.name, compatibility=wish.compatibility
    )
    return NewCredential(
        user.name, issued.serial, issued.not_after, issued.der, issued.chain, container, SecretStr(password)
    )


async def _revoke_active(
    tx: Transaction, principal: Principal, client_ca: CaView, user: ClientUser, state: str, reason: RevocationReason
) -> bool:
    active = await _active(tx, user)
    for certificate in active:
        await change_status_in(tx, principal, client_ca, certificate.serial, revocation(reason))
    if active:
        k = models.client_credential.c
        ids = [certificate.id for certificate in active]
        await tx.execute(update(models.client_credential).where(k.certificate_id.in_(ids)).values(state=state))
        audit.record(
            tx, principal, "credential.revoke", "client", f"{client_ca.organization}/{user.name}",
            organization=client_ca.organization, reason=reason.text,
            serials=[certificate.serial_hex for certificate in active],
        )  # fmt: skip
    return bool(active)


async def _active(view: Transaction, user: ClientUser) -> list[StoredCertificate]:
    """The certificates of a client that are good now."""
    k, c = models.client_credential.c, models.certificate.c
    query = (
        select(models.certificate)
        .join(models.client_credential, k.certificate_id == c.id)
        .where(k.ca_user_id == user.id, k.state == "active", c.status == "valid", c.not_after > view.now)
    )
    return [StoredCertificate.of(row) for row in await view.all(query)]


def _credential(row: Mapping[Any, Any], snapshot: Snapshot, now: datetime) -> Credential:
    expired = row["not_after"] < now
    revoked = row["status"] != "valid" and row["state"] == "active"
    state = "revoked" if revoked else "expired" if expired and row["state"] == "active" else row["state"]
    grants = next((client.grants for client in snapshot.clients.values() if client.id == row["user_id"]), {})
    rights = {snapshot.cas[ca].full_id: grant.right for ca, grant in grants.items() if ca in snapshot.cas}
    return Credential(
        row["name"], row["serial"], row["subject"], state, row["created_at"], row["not_after"],
        state == "active" and row["not_after"] - now < EXPIRY_WARNING, rights,
    )  # fmt: skip
