"""One look at the certificate events of a CA behind a gateway: page by page, to the end.

The entries of a page and the position behind it are committed together, so a process that is killed continues where the
last commit ended, and nothing is lost or taken twice. A position tells nothing about a gateway whose database was set
back; therefore the last events that were taken in are asked for again now and then, and compared. When they are not
there any more, the feed is another one: it is read from its beginning into a new set, and answers are ``tryLater``
until that is complete.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Literal
from urllib.parse import urlsplit
from uuid import UUID

from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import insert

from intaglio.audit.record import record
from intaglio.core import clock
from intaglio.core.errors import IntaglioError, Refused, StateConflict
from intaglio.core.identifiers import new_id
from intaglio.core.logging import get_logger
from intaglio.core.principal import SYSTEM
from intaglio.db.engine import Transaction
from intaglio.platform import outgoing
from intaglio.transport.contexts import ServerIdentity, client_context
from intaglio.validation import models
from intaglio.validation.authorities import credentials, reading
from intaglio.validation.authorities.values import Authority
from intaglio.validation.context import Validation
from intaglio.validation.sources import importing, state
from intaglio.validation.sources.crl_source import Confirm
from intaglio.validation.sources.gateway_client import CursorUnknown, Event, GatewayClient, Page
from intaglio.validation.sources.importing import GOOD, Changes
from intaglio.validation.sources.state import Part

log = get_logger(__name__)

_A, _E, _S = models.status_authority, models.status_entry, models.status_source
_FEED = ""  # a feed has one part
#: How often the last events are asked for again, to see whether the feed is still the same.
COMPARED_EVERY = timedelta(minutes=1)
_LONGEST_ROLE = 100
_MOST_COMPARED = 20  # events
_LEFT_TO_OTHERS = frozenset({"source-replaced", "source-taken"})


@dataclass
class Looked:
    """What came of one look: events taken in, and why it ended early."""

    events: int = 0
    failure: IntaglioError | None = None
    restarted: bool = False

    @property
    def outcome(self) -> Literal["changed", "unchanged", "failed"]:
        return "failed" if self.failure else "changed" if self.events else "unchanged"

    @property
    def detail(self) -> str:
        """A sentence for people."""
        if self.failure:
            return self.failure.detail
        again = " The feed was read from its beginning." if self.restarted else ""
        return f"{self.events} events.{again}" if self.events or self.restarted else "Nothing new."


@dataclass(frozen=True)
class _Filling:
    """The set that is being filled: the one that is served, or the one that is to replace it."""

    authority: Authority
    set_id: UUID
    part: Part | None

    @property
    def is_served(self) -> bool:
        return self.set_id == self.authority.set_id

    @property
    def cursor(self) -> str | None:
        return None if self.part is None else self.part["cursor"]

    @property
    def is_complete(self) -> bool:
        return self.part is not None and bool(self.part["complete"])

    @property
    def facts(self) -> Mapping[str, Any]:
        return {} if self.part is None else self.part["facts"]


async def look(validation: Validation, authority: Authority, confirm: Confirm, progress: importing.Progress) -> Looked:
    """Read what is new, to the end of the feed.

    ``progress`` is told how many events were taken in. What the gateway does wrong is in the result; what concerns the
    whole raises: Unavailable, TimedOut (the database), StateConflict (``source-replaced``, ``source-taken``).
    """
    looked = Looked()
    try:
        client = await connect(validation, authority)
        try:
            await _read(validation, authority, client, confirm, progress, looked)
        finally:
            await client.close()
    except IntaglioError as error:
        if error.code in _LEFT_TO_OTHERS:
            raise
        looked.failure = error
        async with validation.database.transaction() as tx:
            filling = await _filling(tx, authority)
            await state.note_failure(tx, authority.id, filling.set_id, _FEED, 0, error)
            if not filling.is_served:
                await state.note_failure(tx, authority.id, authority.set_id, _FEED, 0, error)
    return looked


async def connect(validation: Validation, authority: Authority) -> GatewayClient:
    """A client with our credential. The caller closes it.

    Raises NotFound, Refused (``credential-expired``), StateConflict.
    """
    options = authority.gateway
    async with validation.database.read() as view:
        guard = await outgoing.guard_of(view)
    identity = await _identity(validation, authority)
    tls = client_context(options.server_ca.encode(), identity)
    return GatewayClient(options.url, options.ca, guard, tls, options.timeout)


async def _identity(validation: Validation, authority: Authority) -> ServerIdentity:
    options = authority.gateway
    if options.outbound and validation.outbound is not None:
        return await validation.outbound.identity(options.outbound, urlsplit(options.url).hostname or "")
    async with validation.database.read() as view:
        return await credentials.identity_for(view, validation.keystore, options.credential)


async def _read(
    validation: Validation,
    authority: Authority,
    client: GatewayClient,
    confirm: Confirm,
    progress: importing.Progress,
    looked: Looked,
) -> None:
    async with validation.database.read() as view:
        filling = await _filling(view, authority)
    if not filling.is_complete and filling.cursor is None:
        await check_gateway(client, authority)
    try:
        await _compare(client, filling)
        await _read_on(validation, filling, client, confirm, progress, looked)
    except (CursorUnknown, _OtherFeed) as error:
        log.error("the events of a gateway are others than before; reading all of them", authority=authority.name)
        filling = await _start_again(validation, filling, error)
        looked.restarted = True
        await _read_on(validation, filling, client, confirm, progress, looked)


async def check_gateway(client: GatewayClient, authority: Authority) -> str:
    """Make sure that the CA at the gateway is the one whose certificates are configured, and tells us its events.
    Returns the role of our account there, empty when the gateway does not say.

    Raises Refused (``gateway-ca-differs``, ``gateway-without-events``) and what the client raises.
    """
    told = await client.capabilities()
    role, described = told.get("role"), told.get("capabilities")
    offered = described.get("certificateManagement") if isinstance(described, dict) else None
    if isinstance(offered, dict) and offered.get("CertificateEvents") is False:
        raise Refused(
            "The gateway does not tell our account the events of this CA.",
            code="gateway-without-events",
            remedy="Give the account a role that may read events, for all profiles of the CA.",
        )
    shown = await client.certificates()
    known = {each.spki for each in authority.issuers}
    if shown and shown[0].spki not in known:
        raise Refused(
            f"The CA at the gateway is {shown[0].subject.rfc4514}, with another key than the configured one.",
            code="gateway-ca-differs",
            remedy="Compare the id of the CA, and the certificates of the authority.",
        )
    return role[:_LONGEST_ROLE] if isinstance(role, str) else ""


async def _filling(view: Transaction, authority: Authority) -> _Filling:
    """What is being filled now. Raises StateConflict (``source-replaced``)."""
    current = await reading.load_by_id(view, authority.id)
    if current is None or current.source != "gateway":
        raise StateConflict("The authority has another source by now.", code="source-replaced")
    rows = await view.all(select(_S).where(_S.c.authority_id == authority.id))
    parts = {row["set_id"]: row for row in rows}
    set_id = next((each for each in parts if each != current.set_id), current.set_id)
    return _Filling(replace(authority, set_id=current.set_id), set_id, parts.get(set_id))


# ---- is it still the same feed? --------------------------------------------------------------------------------------


class _OtherFeed(Exception):
    """The last events that were taken in are not in the feed any more."""


async def _compare(client: GatewayClient, filling: _Filling) -> None:
    """Ask for the last events again, now and then. Raises _OtherFeed."""
    facts = filling.facts
    marks, compared_at = facts.get("last"), facts.get("compared_at")
    if not marks or (compared_at and clock.now() - datetime.fromisoformat(compared_at) < COMPARED_EVERY):
        return
    page = await client.events(facts.get("before"), len(marks), with_certificates=False)
    if [event.mark for event in page.events[: len(marks)]] != marks:
        raise _OtherFeed


async def _start_again(validation: Validation, filling: _Filling, error: Exception) -> _Filling:
    """Fill a new set from the beginning; what is served stays until it is stale, or the new set is complete."""
    authority = filling.authority
    async with validation.database.transaction() as tx:
        served = authority.set_id
        await tx.execute(delete(_S).where(_S.c.authority_id == authority.id, _S.c.set_id != served))
        set_id = new_id()
        reason = Refused("The events of the gateway are others than before.", code="feed-restarted")
        await state.note_failure(tx, authority.id, served, _FEED, 0, reason)
        await state.note_failure(tx, authority.id, set_id, _FEED, 0, reason)
        cause = error.code if isinstance(error, IntaglioError) else "feed-differs"
        record(tx, SYSTEM, "status-source.restart", "status-authority", authority.name, cause=cause)
    return _Filling(authority, set_id, None)


# ---- reading on ------------------------------------------------------------------------------------------------------


async def _read_on(
    validation: Validation,
    filling: _Filling,
    client: GatewayClient,
    confirm: Confirm,
    progress: importing.Progress,
    looked: Looked,
) -> None:
    options = filling.authority.gateway
    cursor = filling.cursor
    while True:
        asked_at = clock.now().replace(microsecond=0)
        page = await client.events(cursor, options.batch_size, with_certificates=not options.push_by_serial)
        _check_issuers(page.events, filling.authority)
        if page.more and page.cursor == cursor:
            raise Refused("The gateway gives the same page again and again.", code="feed-not-understood")
        async with validation.database.transaction() as tx:
            now = await _filling(tx, filling.authority)
            if now.set_id != filling.set_id or now.cursor != cursor:
                raise StateConflict("Another process read this feed meanwhile.", code="source-taken")
            await _take_in(tx, now, page, cursor, asked_at)
            await confirm(tx)
        looked.events += len(page.events)
        progress(looked.events)
        if not page.more:
            return
        cursor = page.cursor


async def _take_in(tx: Transaction, filling: _Filling, page: Page, cursor: str | None, asked_at: datetime) -> None:
    """The entries of a page, the position behind it, and what follows from having come to the end."""
    authority, set_id = filling.authority, filling.set_id
    changes = Changes()
    if page.events:
        serials = await _store(tx, set_id, page.events, by_serial=authority.gateway.push_by_serial)
        changes.add(len(serials), serials)
    facts = dict(filling.facts)
    if page.events:
        facts["last"] = [event.mark for event in page.events[:_MOST_COMPARED]]
        facts["before"] = cursor
    facts["compared_at"] = asked_at.isoformat()
    issued = sum(event.issued for event in page.events)
    known: dict[str, Any] = {
        "cursor": page.cursor or cursor,
        "facts": facts,
        "entries": (filling.part["entries"] if filling.part else 0) + issued,
    }
    ended = not page.more
    if ended:
        # As of the moment of asking: what happened while the answer was on its way is not in it.
        known |= {"complete": True, "this_update": asked_at, "last_ok_at": asked_at, "last_error": None}
    await state.note(tx, authority.id, set_id, _FEED, 0, **known)
    if ended and not filling.is_served:
        await _serve(tx, authority, set_id)
    elif ended and not filling.is_complete:
        record(tx, SYSTEM, "status-source.complete", "status-authority", authority.name, entries=known["entries"])
        await importing.announce(tx, set_id, None)
    elif filling.is_served and filling.is_complete:
        await importing.announce(tx, set_id, changes)


async def _serve(tx: Transaction, authority: Authority, set_id: UUID) -> None:
    """Let a set that is complete take the place of the one before, whose entries are removed later."""
    await tx.execute(update(_A).where(_A.c.id == authority.id).values(set_id=set_id))
    await tx.execute(delete(_S).where(_S.c.authority_id == authority.id, _S.c.set_id != set_id))
    record(tx, SYSTEM, "status-source.complete", "status-authority", authority.name, restarted=True)
    await importing.announce(tx, set_id, None)
    tx.changed_configuration()


async def _store(tx: Transaction, set_id: UUID, events: Sequence[Event], *, by_serial: bool) -> list[bytes]:
    """What the events make of their certificates; the last one of each counts. Returns the serial numbers."""
    rows: dict[bytes, dict[str, Any]] = {}
    for event in events:
        row = rows.setdefault(event.serial, {"set_id": set_id, "serial": event.serial, "not_after": None})
        row.setdefault("certificate", None)
        row["state"] = event.state
        row["revoked_at"] = None if event.state == GOOD else event.at
        row["reason"] = None if event.state == GOOD else event.reason
        if event.certificate is not None and not by_serial:
            row["certificate"], row["not_after"] = event.certificate.der, event.certificate.not_after
    statement = insert(_E)
    new = statement.excluded
    await tx.execute(
        statement.on_conflict_do_update(
            index_elements=[_E.c.set_id, _E.c.serial],
            set_={
                "state": new.state,
                "revoked_at": new.revoked_at,
                "reason": new.reason,
                "certificate": func.coalesce(new.certificate, _E.c.certificate),
                "not_after": func.coalesce(new.not_after, _E.c.not_after),
            },
        ),
        list(rows.values()),
    )
    return list(rows)


def _check_issuers(events: Sequence[Event], authority: Authority) -> None:
    """The certificates must be of this CA: else the id of the CA is wrong, or the gateway is."""
    names = {each.subject.key for each in authority.issuers}
    for event in events:
        if event.certificate is not None and event.certificate.issuer.key not in names:
            raise Refused(
                f"The gateway tells of certificates of {event.certificate.issuer.rfc4514}.",
                code="feed-of-another-ca",
                remedy="Compare the id of the CA, and the certificates of the authority.",
            )

