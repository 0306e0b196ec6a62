"""What has to happen without anybody asking: CRLs, OCSP signers, clean-up.

Every function looks at what is recorded and does what is missing, under a lock that holds across processes. So any
number of processes may run them, at any time, and one that is killed loses nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

from sqlalchemy import delete, select

from intaglio.authority import crls, locks, models, ocsp_signers
from intaglio.authority.context import Authority
from intaglio.authority.directory import Snapshot
from intaglio.core.clock import monotonic
from intaglio.core.errors import IntaglioError
from intaglio.core.logging import get_logger
from intaglio.core.troubles import Troubles
from intaglio.db.journal import journal_head
from intaglio.db.listen import Watch
from intaglio.keystore.erasure import erase_due

log = get_logger(__name__)

_troubles = Troubles()

#: How long answers of requests with an Idempotency-Key are kept.
IDEMPOTENCY_RETENTION = timedelta(hours=24)

_PASS_SECONDS = 1.0
_WAKE_SECONDS = 0.1
_PRUNE_SECONDS = 300.0
_ERASE_SECONDS = 15.0


async def run_upkeep(authority: Authority, watch: Watch, stop: asyncio.Event) -> None:
    """Keep everything up until ``stop`` is set: once a second, and at once when something was changed or revoked."""
    pruned = erased = float("-inf")
    while not stop.is_set():
        heard = (watch.epoch, watch.event_seq)
        started = monotonic()
        await _attempt("CRLs", lambda: run_due_crls(authority))
        await _attempt("OCSP signers", lambda: renew_ocsp_signers(authority))
        if started - pruned >= _PRUNE_SECONDS and await _attempt("clean-up", lambda: prune(authority)):
            pruned = started
        if started - erased >= _ERASE_SECONDS:
            await _attempt("erasing keys in tokens", lambda: erase_due(authority.database, authority.keystore))
            erased = started
        await _pause(watch, stop, heard, started + _PASS_SECONDS)


async def run_due_crls(authority: Authority) -> int:
    """Issue every CRL that is due; returns how many were issued. One CA's trouble does not hold up the others."""
    snapshot = await _snapshot(authority)
    async with authority.database.read() as view:
        due = await crls.due_crls(view, snapshot)
    issued = 0
    for each in due:
        try:
            issued += len(await crls.issue_if_due(authority, each))
        except Exception as error:
            _report("a CRL could not be issued", error, ca=each.ca.full_id, generation=each.generation)
    return issued


async def renew_ocsp_signers(authority: Authority) -> int:
    """Make missing OCSP signers and renew old ones; returns how many there are now that were due."""
    snapshot = await _snapshot(authority)
    async with authority.database.read() as view:
        due = await ocsp_signers.due_signers(view, snapshot)
    renewed = 0
    for ca, generation in due:
        try:
            await ocsp_signers.ensure_signer(authority, ca, generation)
            renewed += 1
        except Exception as error:
            _report("an OCSP signer could not be made", error, ca=ca.full_id, generation=generation)
    return renewed


async def prune(authority: Authority) -> None:
    """Forget what nobody needs any more: old CRLs and their entries, kept answers, keys of expired OCSP signers."""
    snapshot = await _snapshot(authority)
    async with authority.database.transaction() as tx:
        if not await locks.try_lock(tx, "prune"):
            return
        table = models.idempotency
        await tx.execute(delete(table).where(table.c.created_at < tx.now - IDEMPOTENCY_RETENTION))
        await crls.prune_crls(tx)
        for ca in snapshot.cas.values():
            await crls.prune_entries(tx, ca)
    await ocsp_signers.destroy_old_keys(authority)


async def _snapshot(authority: Authority) -> Snapshot:
    """The configuration as it is in the database now."""
    snapshot = await authority.snapshot()
    async with authority.database.read() as view:
        epoch = int(await view.scalar(select(journal_head.c.epoch)))
    return snapshot if snapshot.epoch >= epoch else await authority.directory.reload(beyond=snapshot.epoch)


async def _attempt(what: str, run: Callable[[], Awaitable[object]]) -> bool:
    """Run one kind of upkeep; its trouble is reported and must not end the others."""
    try:
        await run()
    except Exception as error:
        _report("upkeep has to wait", error, what=what)
        return False
    if _troubles.over(("upkeep has to wait", what)):
        log.info("upkeep goes on", what=what)
    return True


def _report(what_happened: str, error: Exception, **facts: object) -> None:
    """A refusal in one line, anything unexpected with its traceback; what goes on, only now and then."""
    if not _troubles.worth_reporting((what_happened, *facts.values())):
        return
    expected = isinstance(error, IntaglioError)
    log.error(what_happened, reason=str(error), exc_info=None if expected else error, **facts)


async def _pause(watch: Watch, stop: asyncio.Event, heard: tuple[int, int], until: float) -> None:
    """Until ``until``, or until something was heard that had not been heard before the pass began."""
    while (left := until - monotonic()) > 0 and heard == (watch.epoch, watch.event_seq):
        try:
            await asyncio.wait_for(stop.wait(), min(left, _WAKE_SECONDS))
        except TimeoutError:
            continue
        return
