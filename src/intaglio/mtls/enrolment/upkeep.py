"""What enrolment has to do by itself: end sessions, complete those whose process died, remind people, forget counters.

Everything is read off what is recorded, under locks that hold across processes, so any number of processes may do it
and one that is killed loses nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from uuid import UUID

from sqlalchemy import delete, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from intaglio.authority import locks
from intaglio.authority import models as authority_models
from intaglio.core.errors import IntaglioError
from intaglio.core.logging import get_logger
from intaglio.db.engine import Row, Transaction
from intaglio.mtls.context import Mtls
from intaglio.mtls.enrolment import enrolling, limits, mail, messages
from intaglio.mtls.enrolment.models import reminder, session
from intaglio.mtls.enrolment.policy import page_url
from intaglio.mtls.enrolment.sessions import note
from intaglio.mtls.enrolment.settings import EnrolmentSettings
from intaglio.mtls.identities import models as identity_models
from intaglio.mtls.identities import registry
from intaglio.mtls.identities.values import Channel, Kind
from intaglio.platform import live_settings

log = get_logger(__name__)

_PASS_SECONDS = 30.0
_SESSIONS_KEPT = timedelta(days=30)
_BATCH = 200
_LATEST_SHARE = 0.75  # of its life, beyond which the rest of a certificate is too long to remind of its end


async def run_enrolment_upkeep(mtls: Mtls) -> None:
    """Do what is due, twice a minute, until cancelled."""
    while True:
        await _attempt("enrolment sessions", lambda: settle_sessions(mtls))
        await _attempt("reminders", lambda: send_reminders(mtls))
        await _attempt("enrolment clean-up", lambda: prune(mtls))
        await asyncio.sleep(_PASS_SECONDS)


async def settle_sessions(mtls: Mtls) -> int:
    """End the sessions whose time is over; returns how many. One that got its certificate is concluded instead."""
    async with mtls.database.read() as view:
        over = (session.c.state.in_(("details", "csr-received"))) & (session.c.expires_at <= view.now)
        ids = [row["id"] for row in await view.all(select(session.c.id).where(over).limit(_BATCH))]
    for session_id in ids:
        await _settle(mtls, session_id)
    return len(ids)


async def send_reminders(mtls: Mtls) -> int:
    """Mail to the people whose certificates end soon, once per threshold; returns how many mails went out."""
    async with mtls.database.read() as view:
        settings = await live_settings.current(view, EnrolmentSettings)
        if not settings.reminder_hours or not await mail.is_configured(view):
            return 0
        due = await _ending(view, settings)
    sent = 0
    for row in due:
        sent += await _remind(mtls, settings, row)
    return sent


async def prune(mtls: Mtls) -> None:
    """Forget counters, and sessions a month after their end."""
    async with mtls.database.transaction() as tx:
        if not await locks.try_lock(tx, "enrolment-prune"):
            return
        await limits.prune(tx)
        await tx.execute(delete(session).where(session.c.expires_at < tx.now - _SESSIONS_KEPT))


async def _settle(mtls: Mtls, session_id: UUID) -> None:
    async with mtls.database.transaction() as tx:
        row = await tx.one_or_none(select(session).where(session.c.id == session_id))
        if row is None:
            return
        code = await enrolling.lock_code(tx, row)
        row = await tx.one_or_none(select(session).where(session.c.id == session_id).with_for_update())
        if row is None or row["state"] not in ("details", "csr-received"):
            return
        if row["working_until"] is not None and row["working_until"] > tx.now:
            return  # somebody is at it at this moment
        identity = await registry.load_identity(tx, row["identity_id"])
        if row["state"] == "csr-received" and await enrolling.was_issued(tx, row, identity):
            await enrolling.count_use(tx, code)
            await _end(tx, session_id, "issued", row["reason"])
            note(tx, identity, None, "recover", row)
            return
        await _end(tx, session_id, "timed-out", row["reason"])
        if row["code_id"] is not None:
            note(tx, identity, None, "time-out", row)


async def _end(tx: Transaction, session_id: UUID, state: str, reason: str | None) -> None:
    values = {"state": state, "reason": reason, "finished_at": tx.now, "working_until": None}
    await tx.execute(update(session).where(session.c.id == session_id).values(**values))


async def _ending(view: Transaction, settings: EnrolmentSettings) -> list[Row]:
    """Certificates of people that end within the longest threshold, and have not been renewed."""
    b, i, c, r = identity_models.binding.c, identity_models.identity.c, authority_models.certificate.c, reminder.c
    horizon = view.now + timedelta(hours=max(settings.reminder_hours))
    told = select(r.hours).where(r.binding_id == b.id, r.hours == min(settings.reminder_hours)).exists()
    query = (
        select(b.id, b.not_before, b.not_after, b.identity_id)
        .join_from(identity_models.binding, identity_models.identity, i.id == b.identity_id)
        .join(authority_models.certificate, c.id == b.id)
        .where(
            b.not_after > view.now,
            b.not_after <= horizon,
            b.replaced_by.is_(None),
            b.channel.in_((Channel.PAGE.value, Channel.RENEWAL.value)),
            c.status == "valid",
            i.state == "active",
            i.kind.in_((Kind.USER.value, Kind.DEVICE.value)),
            i.email != "",
            ~told,
        )
        .order_by(b.not_after, b.id)
        .limit(_BATCH)
    )
    return list(await view.all(query))


async def _remind(mtls: Mtls, settings: EnrolmentSettings, row: Row) -> int:
    """One mail for the narrowest threshold that was crossed; those above it are done with as well.

    The mail goes out before it is recorded, under a lock on the record: a process that dies in between makes a second
    mail, never none.
    """
    async with mtls.database.transaction() as tx:
        lifetime, left = row["not_after"] - row["not_before"], row["not_after"] - tx.now
        # A certificate of a day is not about to end from its first hour on.
        sensible = lifetime * _LATEST_SHARE
        spans = [h for h in settings.reminder_hours if left <= timedelta(hours=h) < sensible]
        if not spans:
            return 0
        narrowest = min(spans)
        values = [{"binding_id": row["id"], "hours": hours, "sent_at": tx.now} for hours in spans]
        made = upsert(reminder).values(values).on_conflict_do_nothing().returning(reminder.c.hours)
        if narrowest not in {each["hours"] for each in await tx.all(made)}:
            return 0
        identity = await registry.load_identity(tx, row["identity_id"])
        where = page_url(mtls.settings, settings)
        text = messages.expiry_reminder(
            identity.name, identity.domain.name, identity.email, row["not_after"], where
        )
        await mail.send(mtls, text)
        note(tx, identity, None, "remind", {}, hours=narrowest)
        return 1


async def _attempt(what: str, run: Callable[[], Awaitable[object]]) -> None:
    """One kind of upkeep; its trouble is reported and does not end the others."""
    try:
        await run()
    except IntaglioError as error:
        log.warning("upkeep has to wait", what=what, reason=error.detail)
    except Exception:
        log.exception("upkeep failed", what=what)
