"""Access events: who was let in or turned away where, and why."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel

from intaglio.core.identifiers import serial_hex
from intaglio.db.engine import Row
from intaglio.mtls.observation import event_log
from intaglio.server.management.access import Asked, Asker
from intaglio.server.management.lists import Items
from intaglio.server.management.mtls.given import GivenMtls

router = APIRouter(prefix="/mtls/v1", tags=["access events"])


class AccessEvent(BaseModel):
    """A handshake or request that was accepted or refused. ``identity`` was proved, ``claimed`` only said.

    ``kind`` loss says that ``count`` events could not be kept.
    """

    id: str
    at: datetime
    kind: str
    count: int
    recorder: str
    ingress: str
    source_ip: str
    identity: str
    claimed: str
    identity_kind: str
    serial: str
    fingerprint: str
    issuer: str
    san: str
    not_after: datetime | None
    tls_version: str
    cipher: str
    decision: str
    mode: str
    reason: str
    certificate_reason: str
    ip_allowed: bool | None
    method: str
    host: str
    path: str
    policy: str
    detail: str

    @classmethod
    def of(cls, row: Row) -> AccessEvent:
        binary = {
            "id": str(row["id"]),
            "serial": serial_hex(row["serial"]),
            "fingerprint": bytes(row["fingerprint"]).hex(),
        }
        return cls.model_validate({name: row[name] for name in cls.model_fields if name not in binary} | binary)


@router.get("/events")
async def list_access_events(
    mtls: GivenMtls, asker: Asker, asked: Asked, organization: Annotated[str | None, Query()] = None
) -> Items[AccessEvent]:
    """Access events of the organizations one belongs to, newest first."""
    found = await event_log.list_events(mtls, asker, asked, organization=organization)
    return Items[AccessEvent](
        items=[AccessEvent.of(row) for row in found.rows], next_cursor=found.next_cursor, total=found.total
    )
