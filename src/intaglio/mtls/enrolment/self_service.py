"""What people do about their own certificates: revoke them when a device is lost, by certificate or by a fresh code."""

from __future__ import annotations

from uuid import UUID

from intaglio.authority.certificates import RevocationReason
from intaglio.core.errors import IntaglioError
from intaglio.core.logging import get_logger
from intaglio.mtls.context import Mtls
from intaglio.mtls.enrolment import limits, mail, messages
from intaglio.mtls.enrolment.sessions import Denied, Visitor, examine_code, note_denied
from intaglio.mtls.enrolment.settings import EnrolmentSettings
from intaglio.mtls.identities import registry, revoking
from intaglio.mtls.identities.values import Identity
from intaglio.platform import live_settings

log = get_logger(__name__)

_LOST = RevocationReason.KEY_COMPROMISE


async def revoke_by_code(mtls: Mtls, code: str, email: str, visitor: Visitor) -> int:
    """Revoke every live certificate of the identity that a code is for; returns how many. The code is not spent.

    Raises like ``begin_session``.
    """
    async with mtls.database.read() as view:
        settings = await live_settings.current(view, EnrolmentSettings)
    await limits.count_request(mtls.database, visitor.source, settings.requests_per_minute)
    async with mtls.database.transaction() as tx:
        found = await examine_code(tx, mtls, code, email, settings)
        identity = None if isinstance(found, Denied) else await registry.load_identity(tx, found["identity_id"])
    if isinstance(found, Denied):
        note_denied(mtls, visitor, found)
        raise found.refusal
    assert identity is not None
    return await _revoke_all(mtls, identity, visitor)


async def revoke_by_certificate(
    mtls: Mtls, identity: Identity, binding_id: UUID, visitor: Visitor, *, every: bool
) -> int:
    """Revoke the certificate one came with, or with ``every`` all that one has. Returns how many."""
    if every:
        return await _revoke_all(mtls, identity, visitor)
    await revoking.revoke_binding(mtls, identity.principal(visitor.source), binding_id, _LOST)
    await _tell(mtls, identity, 1)
    return 1


async def _revoke_all(mtls: Mtls, identity: Identity, visitor: Visitor) -> int:
    revoked = await revoking.revoke_identity(mtls, identity.principal(visitor.source), identity.id, _LOST)
    await _tell(mtls, identity, len(revoked))
    return len(revoked)


async def _tell(mtls: Mtls, identity: Identity, count: int) -> None:
    """Mail to the owner, who may not be the one who asked. Revoked is revoked, whether or not mail works."""
    async with mtls.database.read() as view:
        configured = await mail.is_configured(view)
    if not (count and identity.email and configured):
        return
    try:
        await mail.send(mtls, messages.revoked_by_owner(identity.name, identity.domain.name, identity.email, count))
    except IntaglioError as error:
        log.warning("a mail about a revocation could not be sent", reason=error.detail)
