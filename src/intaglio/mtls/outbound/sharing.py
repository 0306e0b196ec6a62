"""Who outside holds our certificates: shared with somebody, confirmed by him."""

from __future__ import annotations

import hashlib
from typing import Any
from uuid import UUID

from sqlalchemy import insert, update

from intaglio.audit.record import record
from intaglio.core.errors import InvalidInput, NotFound, StateConflict
from intaglio.core.identifiers import new_id
from intaglio.core.principal import Principal
from intaglio.mtls.context import Mtls
from intaglio.mtls.identities.names import plain_text
from intaglio.mtls.outbound import models
from intaglio.mtls.outbound.service import load, owned
from intaglio.mtls.outbound.values import Credential, Outbound
from intaglio.mtls.toolkit.sharing import Shared
from intaglio.mtls.toolkit.sharing import share as public_parts

_T = models.outbound_trust
_MOST_HOLDERS = 100


async def share(
    mtls: Mtls, principal: Principal, organization: str, name: str, *, api: str, contact: str = ""
) -> tuple[Outbound, Shared]:
    """Record that the newest certificate is given to the manager of ``api``, and return what to give him.

    Raises NotFound, InvalidInput (``api-missing``), StateConflict (``no-certificate-yet``, ``already-shared``).
    """
    api, contact = plain_text(api, target="api"), plain_text(contact, target="contact")
    if not api:
        raise InvalidInput("Who gets the certificate? Name the API, in at most 200 characters.", code="api-missing")
    async with mtls.database.transaction() as tx:
        found = await owned(tx, principal, organization, name)
        credential = newest(found)
        if any(each.api == api for each in credential.trusts) or len(credential.trusts) >= _MOST_HOLDERS:
            raise StateConflict(f'"{api}" has this certificate already.', code="already-shared")
        certificate = credential.certificate or b""
        await tx.execute(
            insert(_T).values(
                id=new_id(),
                credential_id=credential.id,
                api=api,
                contact=contact,
                sha256=hashlib.sha256(certificate).digest(),
                shared_by=principal.name,
                shared_at=tx.now,
            )
        )
        what: dict[str, Any] = {"api": api, "sha256": hashlib.sha256(certificate).hexdigest()}
        record(
            tx, principal, "outbound.share", "outbound", f"{organization}/{name}", organization=organization, **what
        )
        return await load(tx, organization, name), public_parts(certificate)


async def confirm(mtls: Mtls, principal: Principal, organization: str, name: str, trust_id: UUID) -> Outbound:
    """Record that the other side installed the certificate. Idempotent. Raises NotFound (``trust-unknown``)."""
    async with mtls.database.transaction() as tx:
        found = await owned(tx, principal, organization, name)
        trusts = [each for credential in found.credentials for each in credential.trusts]
        trust = next((each for each in trusts if each.id == trust_id), None)
        if trust is None:
            raise NotFound("There is no such record of sharing.", code="trust-unknown")
        if trust.confirmed_at is None:
            values = {"confirmed_at": tx.now, "confirmed_by": principal.name}
            await tx.execute(update(_T).where(_T.c.id == trust_id).values(**values))
            place = f"{organization}/{name}"
            record(
                tx, principal, "outbound.confirm", "outbound", place, organization=organization, api=trust.api
            )
        return await load(tx, organization, name)


def newest(found: Outbound) -> Credential:
    """The certificate that is to be given away: the one that waits for its turn, else the one in use.

    Raises StateConflict (``no-certificate-yet``).
    """
    credential = found.credential("ready") or found.current
    if credential is None or credential.certificate is None:
        raise StateConflict(
            f'"{found.name}" has no certificate yet.', code="no-certificate-yet", remedy="Import or install one."
        )
    return credential
