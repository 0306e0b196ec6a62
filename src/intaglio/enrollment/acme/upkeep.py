"""What ACME needs done by itself: work of processes that are gone, orders that wait for approval, and clean-up.

All of it follows from what is recorded: whose lease has run out, what has expired. Nothing is scheduled that could be
lost, so there is no timetable to set; how long expired rows are kept is an option of the endpoint.
"""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import delete, select, update

from intaglio.core.clock import monotonic
from intaglio.core.errors import IntaglioError, NotFound
from intaglio.core.logging import get_logger
from intaglio.core.troubles import Troubles
from intaglio.db.engine import Row, Transaction
from intaglio.enrollment import storage, urls
from intaglio.enrollment.acme import challenges, finalization, models, nonces
from intaglio.enrollment.acme.call import Account, Links
from intaglio.enrollment.acme.context import Acme, options_of
from intaglio.enrollment.acme.leases import held_until
from intaglio.enrollment.acme.orders import AcmeOrder
from intaglio.enrollment.context import Enrollment
from intaglio.enrollment.values import Endpoint, Protocol
from intaglio.profiles.durations import Duration

log = get_logger(__name__)

_PASS_SECONDS: Final = 2.0
_CLEAN_SECONDS: Final = 30.0
_AT_ONCE: Final = 50
_DELETED_AT_ONCE: Final = 1000
_A, _Z, _O = models.account, models.authorization, models.order


async def run_acme_upkeep(enrollment: Enrollment) -> None:
    """Look every two seconds; until cancelled."""
    acme, troubles, cleaned = Acme(enrollment), Troubles(), float("-inf")
    try:
        while True:
            try:
                await take_over(acme)
                if monotonic() - cleaned >= _CLEAN_SECONDS:
                    await clean(enrollment)
                    cleaned = monotonic()
                troubles.over("upkeep")
            except Exception as error:  # tried again with the next look; nothing else must end with it
                if troubles.worth_reporting("upkeep"):
                    expected = isinstance(error, IntaglioError)
                    log.error("ACME upkeep has to wait", reason=str(error), exc_info=not expected)
            await asyncio.sleep(_PASS_SECONDS)
    finally:
        await acme.close()


async def take_over(acme: Acme) -> int:
    """Take up validations and orders whose lease has run out. Returns how many."""
    places = {each.id: each for each in await acme.enrollment.endpoints.all(Protocol.ACME)}
    if not places:
        return 0
    base = urls.bases(acme.enrollment.settings, await acme.live()).https
    async with acme.enrollment.database.transaction() as tx:
        waiting = _Z.c.status == "pending", _Z.c.method.is_not(None)
        validations = await _take(tx, acme, _Z, *waiting)
        for row, account, endpoint_id in validations:
            endpoint = places.get(endpoint_id)
            if endpoint is not None and endpoint.enabled:
                links = _links(base, endpoint)
                await challenges.resume(acme, tx, row["id"], account, endpoint, links)
        orders = await _take(tx, acme, _O, _O.c.state == "processing")
        for row, account, endpoint_id in orders:
            endpoint = places.get(endpoint_id)
            if endpoint is not None and endpoint.enabled:
                finalization.resume(acme, tx, AcmeOrder.of(row), account, endpoint, _links(base, endpoint))
    return len(validations) + len(orders)


def _links(base: str, endpoint: Endpoint) -> Links:
    return Links(f"{base}/acme/{endpoint.tenant}/{endpoint.ca}/{endpoint.profile}")


async def clean(enrollment: Enrollment) -> None:
    """Delete what expired long enough ago, endpoint by endpoint, and nonces that cannot be used again.

    Raises Unavailable, TimedOut.
    """
    async with enrollment.database.transaction() as tx:
        await nonces.prune(tx)
    async with enrollment.database.read() as view:
        endpoints = await storage.load_endpoints(view, Protocol.ACME)
    for endpoint in endpoints:
        while await _delete_expired(enrollment, endpoint) >= _DELETED_AT_ONCE:
            pass


async def _delete_expired(enrollment: Enrollment, endpoint: Endpoint) -> int:
    """One batch of orders, and of authorizations that no order names any more; how many."""
    kept = options_of(endpoint).kept_after_expiry
    async with enrollment.database.transaction() as tx:
        # `kept` may be counted in months: what counts is whether the time after the expiry has passed.
        before = _before(tx.now, kept)
        owners = select(_A.c.id).where(_A.c.endpoint_id == endpoint.id)
        late = _O.c.account_id.in_(owners), _O.c.expires_at < before, _O.c.state != "processing"
        batch = select(_O.c.id).where(*late).limit(_DELETED_AT_ONCE).with_for_update(skip_locked=True)
        orders = (await tx.execute(delete(_O).where(_O.c.id.in_(batch)))).rowcount
        # An open order never outlives its authorizations (orders.new_order), so these belong to none.
        stale = _Z.c.account_id.in_(owners), _Z.c.expires_at < before
        proofs = select(_Z.c.id).where(*stale).limit(_DELETED_AT_ONCE).with_for_update(skip_locked=True)
        authorizations = (await tx.execute(delete(_Z).where(_Z.c.id.in_(proofs)))).rowcount
    return max(orders, authorizations)


def _before(now: datetime, kept: Duration) -> datetime:
    return now - (kept.after(now) - now)


async def _take(
    tx: Transaction, acme: Acme, table: Any, *due: Any
) -> list[tuple[Row, Account, UUID]]:
    c = table.c
    abandoned = (
        select(c.id)
        .where(*due, c.held_until < tx.now)
        .order_by(c.held_until)
        .limit(_AT_ONCE)
        .with_for_update(skip_locked=True)
    )
    statement = update(table).where(c.id.in_(abandoned)).values(holder=acme.holder, held_until=held_until())
    rows = await tx.all(statement.returning(table))
    found = []
    for row in rows:
        owner = await tx.one_or_none(select(_A).where(_A.c.id == row["account_id"]))
        if owner is None:
            raise NotFound("An account vanished beside its order.")
        found.append((row, Account.of(owner), owner["endpoint_id"]))
    return found
