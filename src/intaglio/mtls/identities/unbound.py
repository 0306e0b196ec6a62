"""Certificates that were recorded but never handed out, because whoever asked died before the binding was written.

They belong to nobody: suspending their identity would not find them. So they are revoked once nobody can come back for
them any more.
"""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import exists, select

from intaglio.authority import models as authority_models
from intaglio.authority.certificates import RevocationReason
from intaglio.authority.revocation import change_status, revocation
from intaglio.core.errors import IntaglioError
from intaglio.core.logging import get_logger
from intaglio.core.principal import SYSTEM
from intaglio.mtls.context import Mtls
from intaglio.mtls.identities import models

log = get_logger(__name__)

#: Longer than any request, session or retry lasts that could still complete a binding.
PATIENCE = timedelta(hours=1)
_LOOK_BACK = timedelta(days=7)
_PASS_SECONDS = 300.0
_BATCH = 200


async def run_identity_upkeep(mtls: Mtls) -> None:
    """Revoke what was never handed out, every five minutes, until cancelled."""
    while True:
        try:
            await revoke_unbound(mtls)
        except IntaglioError as error:
            log.warning("certificates without a binding are looked for later", reason=str(error))
        await asyncio.sleep(_PASS_SECONDS)


async def revoke_unbound(mtls: Mtls) -> int:
    """Revoke the certificates of identities that have had no binding for an hour; returns how many."""
    snapshot = await mtls.authority.current()
    c, b = authority_models.certificate.c, models.binding.c
    async with mtls.database.read() as view:
        # Row ids begin with the time, so a range of ids is a range of time.
        recent = (c.id >= _id_at(view.now - _LOOK_BACK)) & (c.id < _id_at(view.now - PATIENCE))
        query = select(c.ca_id, c.serial).where(
            recent, c.channel == "mtls", c.status != "revoked", c.not_after > view.now, ~exists().where(b.id == c.id)
        )
        found = await view.all(query.limit(_BATCH))
    change = revocation(RevocationReason.SUPERSEDED, comment="never handed out: its binding was not written")
    for row in found:
        await change_status(mtls.authority, SYSTEM, snapshot.cas[row["ca_id"]], row["serial"], change)
    return len(found)


def _id_at(moment: datetime) -> UUID:
    """The smallest row id of a moment. Source: RFC 9562 section 5.7."""
    return UUID(int=int(moment.timestamp() * 1000) << 80)
