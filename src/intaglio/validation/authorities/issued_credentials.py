"""Client credentials for gateways that one of our CAs certifies, and renews after two thirds of their life.

A successor has a new key and the same subject, which is what gateways know their clients by. Whoever uses the
credential by its id goes on with its successor; the key of the one before is destroyed when its certificate has ended.
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import select

from intaglio.asn1.algorithms import KeyAlgorithm
from intaglio.authority import internal_profiles, issuance, locks
from intaglio.authority.access import require_ca
from intaglio.authority.directory import CaView
from intaglio.core.logging import get_logger
from intaglio.core.principal import SYSTEM, Permission, Principal
from intaglio.db.engine import Transaction
from intaglio.profiles.engine import IssuanceInput
from intaglio.validation import models
from intaglio.validation.authorities import credentials
from intaglio.validation.authorities.credentials import Credential
from intaglio.validation.context import Validation
from intaglio.x509.certificates import read_certificate
from intaglio.x509.names import Name

log = get_logger(__name__)

_C = models.status_credential
_ALGORITHM = KeyAlgorithm.ECDSA_P256


async def issue(validation: Validation, principal: Principal, ca: str, subject: str) -> Credential:
    """Make a key, and have one of our CAs (ORGANIZATION~ID) certify it for a TLS client with this subject.

    Needs ``validation.manage`` and ``ca.operate``. Raises NotFound, InvalidInput, StateConflict (``ca-not-active``).
    """
    principal.require(Permission.VALIDATION_MANAGE)
    snapshot = await validation.authority.current()
    async with validation.database.transaction() as tx:
        found = await require_ca(tx, snapshot, principal, ca, Permission.CA_OPERATE)
        return await _issue(validation, tx, principal, found, Name.parse(subject), replaces=None)


def renew_at(credential: Credential) -> datetime:
    """When two thirds of the life of a credential are over."""
    return credential.not_before + (credential.not_after - credential.not_before) * 2 / 3


async def renew_one(validation: Validation, credential: Credential) -> bool:
    """Renew a credential that is due, unless another process has."""
    snapshot = await validation.authority.current()
    async with validation.database.transaction() as tx:
        if not await locks.try_lock(tx, "status-credential", credential.id):
            return False
        if await tx.scalar(select(_C.c.id).where(_C.c.replaces == credential.id, _C.c.deleted_at.is_(None))):
            return False  # another process was quicker
        found = await credentials.load_one(tx, credential.id)
        ca = snapshot.cas[found.issuing_ca_id] if found.issuing_ca_id else None
        if ca is None:
            return False
        subject = read_certificate(found.certificate).subject
        made = await _issue(validation, tx, SYSTEM, ca, subject, replaces=found.id)
        log.info("a client credential was renewed", subject=made.subject, not_after=made.not_after.isoformat())
        return True


async def _issue(
    validation: Validation, tx: Transaction, principal: Principal, ca: CaView, subject: Name, *, replaces: UUID | None
) -> Credential:
    ca.require_active()
    label = f"status-credential:{subject.rfc4514}"[:200]
    key = await validation.keystore.generate(tx, _ALGORITHM, label, principal=principal)
    request = IssuanceInput(
        subject=subject, spki=key.spki, key_algorithm=_ALGORITHM, channel="platform", clamp_validity=True
    )
    order = issuance.Order(ca, internal_profiles.client_credential(), request)
    issued = await issuance.issue_in(validation.authority, tx, principal, order)
    chain = [der for der in ca.chain if not read_certificate(der).is_self_issued]
    return await credentials.store(
        tx,
        principal,
        key.key_id,
        read_certificate(issued.der),
        chain,
        origin="issued",
        issuing_ca_id=ca.id,
        replaces=replaces,
    )
