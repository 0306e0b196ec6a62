"""The feed of certificate events."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import AwareDatetime, BaseModel, Field

from intaglio.authority.access import require_ca, sees_all
from intaglio.authority.certificates import StoredCertificate
from intaglio.authority.events import CertificateEvent, read_events
from intaglio.core.errors import Forbidden
from intaglio.core.identifiers import serial_hex
from intaglio.core.principal import Permission
from intaglio.server.management.access import Asker, Given

router = APIRouter(tags=["events"])


class Event(BaseModel):
    """``seq`` rises strictly over all CAs; ``action`` is issued, revoked, held or unheld."""

    seq: int
    at: datetime
    ca: str
    action: str
    serial_number: str
    subject: str | None
    profile: str | None
    reason: str | None


class Feed(BaseModel):
    """Events, oldest first. ``next`` goes into ``after`` of the next request, also when nothing follows yet."""

    items: list[Event]
    next: int
    more: bool = Field(description="Whether there are further events already.")


@router.get("/events")
async def list_events(
    services: Given,
    asker: Asker,
    ca: Annotated[
        str | None, Query(description="Only events of this CA; needed unless one manages the platform.")
    ] = None,
    after: Annotated[int, Query(ge=0, description="Events after this number.")] = 0,
    since: Annotated[AwareDatetime | None, Query(description="Events since this instant.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> Feed:
    """Certificate events in their order; whoever continues at `next` misses none and sees none twice."""
    asker.require(Permission.CA_VIEW)
    snapshot = await services.authority.snapshot()
    names = {each.id: each.full_id for each in snapshot.cas.values()}
    async with services.database.read() as view:
        ca_id: UUID | None = None
        if ca is not None:
            ca_id = (await require_ca(view, snapshot, asker, ca, Permission.CA_VIEW)).id
        elif not sees_all(asker):
            raise Forbidden("Say which CA's events.", code="ca-needed", remedy="Add ?ca=ORGANIZATION~ID.")
        found = await read_events(view, ca_id=ca_id, after=after, since=since, limit=limit)
    items = [_event(each, names.get(each.ca_id, str(each.ca_id))) for each in found.events]
    return Feed(items=items, next=found.next_seq, more=found.more)


def _event(event: CertificateEvent, ca: str) -> Event:
    certificate: StoredCertificate | None = event.certificate
    return Event(
        seq=event.seq,
        at=event.at,
        ca=ca,
        action=event.action,
        serial_number=serial_hex(event.serial),
        subject=certificate.subject if certificate else None,
        profile=certificate.profile if certificate else None,
        reason=event.reason.text if event.reason is not None else None,
    )
