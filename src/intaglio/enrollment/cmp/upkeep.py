"""What CMP needs done by itself, in the jobs process: signers renewed, certificates that nobody confirmed revoked."""

from __future__ import annotations

import asyncio
from typing import Final

from sqlalchemy import select

from intaglio.authority import models as authority_models
from intaglio.authority.certificates import RevocationReason
from intaglio.core.clock import monotonic
from intaglio.core.errors import IntaglioError
from intaglio.core.logging import get_logger
from intaglio.core.troubles import Troubles
from intaglio.enrollment import pipeline
from intaglio.enrollment.cmp import signers, transactions
from intaglio.enrollment.cmp.options import CmpOptions
from intaglio.enrollment.cmp.transactions import REMEMBERED_WITHOUT_TIME, Transaction
from intaglio.enrollment.context import Enrollment
from intaglio.enrollment.values import Applicant, Endpoint, Protocol

log = get_logger(__name__)

_PASS_SECONDS: Final = 2.0
_IDLE_SECONDS: Final = 60.0
_AT_ONCE: Final = 100
_MOST_FORGOTTEN: Final = 10_000


async def run_cmp_upkeep(enrollment: Enrollment) -> None:
    """Every other second, as far as there is anything to do; until cancelled."""
    troubles, epoch, looked = Troubles(), -1, float("-inf")
    while True:
        try:
            await end_overdue(enrollment)
            now = monotonic()
            if epoch != enrollment.watch.epoch or now - looked >= _IDLE_SECONDS:
                epoch, looked = enrollment.watch.epoch, now
                await renew_signers(enrollment, troubles)
                await clean(enrollment)
            troubles.over("upkeep")
        except Exception as error:  # tried again in a moment; nothing else must end with it
            looked = float("-inf")
            if troubles.worth_reporting("upkeep"):
                log.error("CMP upkeep has to wait", reason=str(error), exc_info=not isinstance(error, IntaglioError))
        await asyncio.sleep(_PASS_SECONDS)


async def end_overdue(enrollment: Enrollment) -> int:
    """End transactions whose certificate nobody confirmed in time, as their endpoints say; returns how many.

    Revoking again changes nothing, so neither a crash in between nor a second process does harm.
    """
    async with enrollment.database.transaction() as tx:
        found = await transactions.unwanted(tx, _AT_ONCE)
    if not found:
        return 0
    endpoints = {each.id: each for each in await enrollment.endpoints.all(Protocol.CMP)}
    for transaction in found:
        endpoint = endpoints.get(transaction.endpoint_id)
        if endpoint is not None:
            await _end(enrollment, endpoint, transaction)
        async with enrollment.database.transaction() as tx:
            await transactions.move(tx, transaction, "closed", expires_at=tx.now + REMEMBERED_WITHOUT_TIME)
    return len(found)


async def renew_signers(enrollment: Enrollment, troubles: Troubles) -> None:
    """Make the signer of every CA that an endpoint serves, and renew those that are due."""
    wanted = {each.ca_id for each in await enrollment.endpoints.all(Protocol.CMP) if each.enabled}
    if not wanted:
        return
    snapshot = await enrollment.authority.current()
    for ca_id in sorted(wanted, key=str):
        ca = snapshot.cas.get(ca_id)
        if ca is None or ca.state != "active":
            continue
        try:
            await signers.ensure_signer(enrollment.authority, ca)
            troubles.over(ca_id)
        except Exception as error:
            if troubles.worth_reporting(ca_id):
                expected = isinstance(error, IntaglioError)
                log.error("a CMP signer could not be made", ca=ca.full_id, reason=str(error), exc_info=not expected)


async def clean(enrollment: Enrollment) -> None:
    """Destroy keys that are over, and forget old transactions."""
    await signers.destroy_old_keys(enrollment.authority)
    async with enrollment.database.transaction() as tx:
        await transactions.forget(tx, _MOST_FORGOTTEN)


async def _end(enrollment: Enrollment, endpoint: Endpoint, transaction: Transaction) -> None:
    options: CmpOptions = endpoint.options
    if options.unconfirmed == "keep":
        return
    serial = transaction.serial or await _issued(enrollment, endpoint, transaction)
    if serial is None:
        return
    await pipeline.revoke(
        enrollment,
        endpoint,
        Applicant(transaction.applicant, "none", ""),
        serial,
        RevocationReason.CESSATION_OF_OPERATION,
        idempotent=True,
        comment=f"nobody confirmed it ({endpoint.address})",
    )


async def _issued(enrollment: Enrollment, endpoint: Endpoint, transaction: Transaction) -> bytes | None:
    """The certificate of a transaction that broke off between its issue and the note of it."""
    kept, certificate = authority_models.idempotency.c, authority_models.certificate.c
    query = (
        select(certificate.serial)
        .join(authority_models.idempotency, kept.certificate_id == certificate.id)
        .where(kept.caller == f"{Protocol.CMP}:{endpoint.ca}", kept.key == f"{endpoint.id}:{transaction.key}")
    )
    async with enrollment.database.read() as view:
        found: bytes | None = await view.scalar(query)
    return found
