"""What signers need without anybody asking: replacement before their end, destruction of keys, and a warning."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from datetime import timedelta

from sqlalchemy import delete

from intaglio.authority import locks
from intaglio.authority.directory import Snapshot
from intaglio.core import clock
from intaglio.core.errors import IntaglioError
from intaglio.core.logging import get_logger
from intaglio.core.principal import SYSTEM
from intaglio.core.troubles import Troubles
from intaglio.validation.context import Validation
from intaglio.validation.models import status_signer
from intaglio.validation.signers import automatic
from intaglio.validation.signers.storage import issued_here, load_signers, note, replaced_before, same_as
from intaglio.validation.signers.values import StoredSigner, ends_soon

log = get_logger(__name__)

#: How long the key of a replaced signer is kept after its certificate expired.
KEY_RETENTION = timedelta(days=1)
_PASS_SECONDS = 5.0

_troubles = Troubles()


async def run_signer_upkeep(validation: Validation) -> None:
    """Keep the signers up until cancelled."""
    while True:
        try:
            await upkeep(validation)
        except Exception as error:
            if _troubles.worth_reporting("upkeep"):
                expected = isinstance(error, IntaglioError)
                log.error("OCSP signers have to wait", reason=str(error), exc_info=None if expected else error)
        else:
            _troubles.over("upkeep")
        await asyncio.sleep(_PASS_SECONDS)


async def upkeep(validation: Validation) -> int:
    """Replace what is due, destroy what is over, warn of what ends soon. Returns how many were replaced."""
    async with validation.database.read() as view:
        current = await load_signers(view, status_signer.c.current)
        ours = await issued_here(view, [each.certificate for each in current if each.certificate is not None])
    revoked = {encoded for encoded, (_, good) in ours.items() if not good}
    replaced = 0
    for signer in current:
        if _is_due(signer, revoked):
            replaced += await _replace(validation, signer, revoked)
        _warn(signer)
    await _destroy_old(validation)
    return replaced


def _is_due(signer: StoredSigner, revoked: Collection[bytes]) -> bool:
    """Past two thirds of its life, made while the clock was ahead, or revoked (or held) by the CA that certifies it."""
    if signer.issuing_ca_id is None or signer.certificate is None or signer.renew_at is None:
        return False
    now = clock.now()
    ahead = signer.certificate.not_before > now + timedelta(minutes=1)
    return now >= signer.renew_at or ahead or signer.certificate.der in revoked


async def _replace(validation: Validation, signer: StoredSigner, revoked: Collection[bytes]) -> bool:
    """Replace one signer, unless another process does or did. One signer's trouble does not hold up the others."""
    snapshot = await validation.authority.current()
    is_good = signer.certificate is not None and signer.certificate.der not in revoked
    if is_good and not _could_live_longer(signer, snapshot):
        return False
    try:
        async with validation.database.transaction() as tx:
            await locks.lock(tx, "status-signer", signer.id)
            found = await load_signers(tx, same_as(signer), status_signer.c.current, lock=True)
            if not found or found[0].id != signer.id:
                return False
            await automatic.replace(validation, tx, SYSTEM, found[0], snapshot)
    except IntaglioError as error:
        if _troubles.worth_reporting(("replace", str(signer.id))):
            log.error("an OCSP signer could not be replaced", signer=signer.label, reason=str(error))
        return False
    return True


def _could_live_longer(signer: StoredSigner, snapshot: Snapshot) -> bool:
    """Whether the CA lives longer than the certificate that it issued."""
    ca = snapshot.cas.get(signer.issuing_ca_id) if signer.issuing_ca_id is not None else None
    if ca is None or ca.state != "active" or signer.certificate is None:
        return True  # trying says what is wrong
    return signer.certificate.not_after < ca.certificate.not_after


async def _destroy_old(validation: Validation) -> None:
    async with validation.database.transaction() as tx:
        for signer in await replaced_before(tx, tx.now - KEY_RETENTION):
            await tx.execute(delete(status_signer).where(status_signer.c.id == signer.id))
            await validation.keystore.destroy(tx, signer.key_id)
            note(tx, SYSTEM, "delete", signer)


def _warn(signer: StoredSigner) -> None:
    if signer.certificate is None or signer.issuing_ca_id is not None:
        return
    soon = ends_soon(signer.certificate.not_after, clock.now(), renews_itself=False)
    if soon and _troubles.worth_reporting(("ends", str(signer.id))):
        log.warning(
            "the certificate of an OCSP signer ends soon",
            signer=signer.label,
            authority=signer.authority,
            not_after=signer.certificate.not_after.isoformat(),
        )
