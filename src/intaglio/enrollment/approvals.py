"""Requests that wait for somebody's approval.

A waiting request is kept whole, so that a protocol whose polls say nothing but a transaction gets its certificate too.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from intaglio.audit.record import record
from intaglio.core.clock import rfc3339
from intaglio.core.errors import NotFound, Refused, StateConflict
from intaglio.core.identifiers import new_id
from intaglio.core.principal import SYSTEM
from intaglio.db.engine import Transaction
from intaglio.enrollment import models
from intaglio.enrollment.limits import count_one, source_network, too_many
from intaglio.enrollment.values import Applicant, Application, Endpoint
from intaglio.profiles.durations import Duration
from intaglio.profiles.engine import RequestedValidity
from intaglio.x509.requests import RequestedExtension

#: How long a request waits for a decision, how long an approved one for its applicant, and how long all are kept.
WAITS = timedelta(days=7)
KEPT = timedelta(days=30)
RETRY_AFTER = 30  # seconds
_MOST_WAITING = 10_000  # of one endpoint
_MOST_OF_SOURCE = 1_000  # new ones from one network in a day
_DAY = timedelta(days=1)


@dataclass(frozen=True)
class WaitingRequest:
    """A request as it is stored. ``state``: pending, approved, rejected, issued, expired."""

    id: UUID
    endpoint_id: UUID
    key: str
    digest: bytes = field(repr=False)
    state: str
    application: Mapping[str, Any] = field(repr=False)
    applicant: str
    method: str
    source: str
    subject: str
    sans: tuple[str, ...]
    note: str
    created_at: datetime
    expires_at: datetime
    decided_by: str | None
    decided_at: datetime | None
    reason: str
    certificate_id: UUID | None

    @classmethod
    def of(cls, row: Mapping[Any, Any]) -> WaitingRequest:
        values = {name: row[name] for name in cls.__dataclass_fields__}
        return cls(**{**values, "sans": tuple(row["sans"])})

    def restored(self, endpoint: Endpoint) -> Application:
        """The application as it was made."""
        return _application_of(self.application, endpoint, Applicant(self.applicant, self.method, self.source))  # type: ignore[arg-type]  # the methods are those that were stored

    def require_approved(self) -> None:
        """Raise Refused (``request-rejected``, ``request-expired``) unless it may be issued, StateConflict while it
        waits."""
        if self.state == "rejected":
            why = f": {self.reason}" if self.reason else "."
            raise Refused(f"The request was rejected{why}", code="request-rejected", remedy="Make a new request.")
        if self.state == "expired":
            raise Refused(
                "Nobody approved the request in time.", code="request-expired", remedy="Make a new request."
            )
        if self.state == "pending":
            raise StateConflict("The request waits for approval.", code="request-pending")


async def enter(tx: Transaction, application: Application, subject: str, sans: Sequence[str]) -> WaitingRequest:
    """The request of an application: the one that its key has, or a new one that waits from now on.

    Raises StateConflict (``request-key-reused``) when the key has another wish, ``too-many-waiting``; RateLimited.
    """
    table, endpoint = models.request, application.endpoint
    stored = _stored(application)
    digest = hashlib.sha256(json.dumps(stored, sort_keys=True).encode()).digest()
    key = application.key or digest.hex()
    found = await find(tx, endpoint, key, lock=True)
    if found is not None:
        return _same(found, digest, application)
    waiting = select(func.count()).where(table.c.endpoint_id == endpoint.id, table.c.state == "pending")
    if int(await tx.scalar(waiting)) >= _MOST_WAITING:
        raise StateConflict(
            "Too many requests wait for approval.",
            code="too-many-waiting",
            remedy="Have those decided that wait: intaglio enroll request list.",
            retry_after=3600,
        )
    applicant = application.applicant
    # So that nobody alone fills the queue: where approval is the only hurdle, anybody may enter it.
    count, left = await count_one(tx, f"waiting:{endpoint.id}:{source_network(applicant.source)}", _DAY)
    if count > _MOST_OF_SOURCE:
        raise too_many(left)
    values = {
        "id": new_id(),
        "endpoint_id": endpoint.id,
        "key": key,
        "digest": digest,
        "state": "pending",
        "application": stored,
        "applicant": applicant.name,
        "method": applicant.method,
        "source": applicant.source,
        "subject": subject,
        "sans": list(sans),
        "note": application.note[:1000],
        "created_at": tx.now,
        "expires_at": tx.now + WAITS,
        "reason": "",
    }
    made = upsert(table).values(**values).on_conflict_do_nothing(index_elements=["endpoint_id", "key"])
    if await tx.scalar(made.returning(table.c.id)) is None:  # asked by another request at the same moment
        found = await find(tx, endpoint, key, lock=True)
        if found is None:
            raise StateConflict("The request was changed at this moment.", code="concurrent-change", retry_after=1)
        return _same(found, digest, application)
    record(
        tx,
        applicant.principal,
        "enrollment-request.create",
        "enrollment-request",
        str(values["id"]),
        organization=endpoint.organization,
        endpoint=endpoint.address,
        subject=subject,
        sans=list(sans),
    )
    return WaitingRequest.of({**values, "decided_by": None, "decided_at": None, "certificate_id": None})


def _same(found: WaitingRequest, digest: bytes, application: Application) -> WaitingRequest:
    """A request that was made before, if it is this one."""
    if found.digest != digest or found.applicant != application.applicant.name:
        raise StateConflict(
            "This transaction has asked for something else before.",
            code="request-key-reused",
            remedy="Begin a new transaction.",
        )
    return found


async def find(view: Transaction, endpoint: Endpoint, key: str, *, lock: bool = False) -> WaitingRequest | None:
    """The request with this key at this endpoint."""
    c = models.request.c
    query = select(models.request).where(c.endpoint_id == endpoint.id, c.key == key)
    row = await view.one_or_none(query.with_for_update() if lock else query)
    return None if row is None else WaitingRequest.of(row)


async def note_issued(tx: Transaction, request: WaitingRequest, certificate_id: UUID) -> None:
    """Note what came of a request."""
    c = models.request.c
    await tx.execute(
        update(models.request).where(c.id == request.id).values(state="issued", certificate_id=certificate_id)
    )


async def expire(tx: Transaction) -> int:
    """End what waited for too long, and forget what is long over. Returns how many ended."""
    c = models.request.c
    late = update(models.request).where(c.state.in_(("pending", "approved")), c.expires_at < tx.now)
    ended = await tx.all(late.values(state="expired").returning(c.id, c.endpoint_id, c.subject))
    for row in ended:
        record(
            tx, SYSTEM, "enrollment-request.expire", "enrollment-request", str(row["id"]), subject=row["subject"]
        )
    over = c.state.in_(("rejected", "issued", "expired")), c.expires_at < tx.now - KEPT
    await tx.execute(delete(models.request).where(*over))
    return len(ended)


def request_unknown(key: str) -> NotFound:
    """The refusal of a poll for a request that nobody made."""
    return NotFound(
        f'There is no request "{key[:80]}" here.', code="request-unknown", remedy="Make the request first."
    )


def _stored(application: Application) -> dict[str, Any]:
    """An application as JSON, without who asks: a retry may come from another address."""
    validity = application.validity
    return {
        "csr": _text(application.csr),
        "spki": _text(application.spki),
        "name": _text(application.name),
        "subject": application.subject,
        "sans": None if application.sans is None else [[k, _tagged(v)] for k, v in application.sans],
        "extensions": [[each.oid, each.critical, _text(each.value)] for each in application.extensions],
        "validity": None
        if validity is None
        else {
            "not_before": None if validity.not_before is None else rfc3339(validity.not_before),
            "not_after": None if validity.not_after is None else rfc3339(validity.not_after),
            "duration": None if validity.duration is None else str(validity.duration),
        },
        "previous": None if application.previous is None else str(application.previous),
        "generated": application.generated,
        "profile": application.profile,
    }


def _application_of(stored: Mapping[str, Any], endpoint: Endpoint, applicant: Applicant) -> Application:
    validity = stored["validity"]
    sans = stored["sans"]
    return Application(
        endpoint,
        applicant,
        csr=_octets(stored["csr"]),
        spki=_octets(stored["spki"]),
        name=_octets(stored["name"]),
        subject=stored["subject"],
        sans=None if sans is None else tuple((kind, _untagged(value)) for kind, value in sans),
        extensions=tuple(RequestedExtension(o, c, base64.b64decode(v)) for o, c, v in stored["extensions"]),
        validity=None
        if validity is None
        else RequestedValidity(
            not_before=_moment(validity["not_before"]),
            not_after=_moment(validity["not_after"]),
            duration=None if validity["duration"] is None else Duration.parse(validity["duration"]),
        ),
        previous=None if stored["previous"] is None else UUID(stored["previous"]),
        generated=stored["generated"],
        profile=stored["profile"],
    )


def keyed(application: Application, request: WaitingRequest) -> Application:
    """The application with the key by which its request is known."""
    return replace(application, key=request.key)


def _text(data: bytes | None) -> str | None:
    return None if data is None else base64.b64encode(data).decode()


def _octets(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text)


def _tagged(value: str | bytes) -> str | list[str]:
    return value if isinstance(value, str) else [base64.b64encode(value).decode()]


def _untagged(value: str | list[str]) -> str | bytes:
    return value if isinstance(value, str) else base64.b64decode(value[0])


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
