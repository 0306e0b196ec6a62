"""The certificate event feed as clients page through it."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from intaglio.authority.events import CertificateEvent
from intaglio.core.clock import rfc3339
from intaglio.core.errors import InvalidInput
from intaglio.core.identifiers import serial_hex
from intaglio.gateway.callers import Caller
from intaglio.gateway.fields import FieldSelection
from intaglio.gateway.roles import GatewayPermission
from intaglio.gateway.service import Gateway
from intaglio.gateway.validity import parse_moment
from intaglio.gateway.views import b64, reason_text

DEFAULT_PAGE_SIZE = 100
MAX_PAGE_SIZE = 1000
_CURSOR = re.compile(r"1\.(\d{1,18})\.(\d{1,18})")


@dataclass(frozen=True)
class EventQuery:
    """Where a page starts and how long it is."""

    after: int = 0
    offset: int = 0
    since: datetime | None = None
    limit: int = DEFAULT_PAGE_SIZE

    @classmethod
    def parse(cls, start_date: str | None, next_page_index: str | None, preferred_page_size: str | None) -> EventQuery:
        """Read the query parameters of a page. Sizes beyond the limit are cut. Raises InvalidInput."""
        after, offset = (0, 0) if not next_page_index else read_cursor(next_page_index)
        since = None
        if start_date:
            try:
                since = parse_moment(start_date, target="startDate")
            except InvalidInput as error:
                raise InvalidInput(
                    error.detail,
                    code="request-malformed",
                    remedy="Write an ISO 8601 instant in UTC, such as 2026-01-02T08:33:49Z.",
                    target="startDate",
                ) from None
        return cls(after, offset, since, page_size(preferred_page_size))


async def event_page(
    gateway: Gateway, caller: Caller, ca_id: str, query: EventQuery, fields: FieldSelection
) -> dict[str, Any]:
    """One page of the events of a CA, oldest first.

    ``nextPageIndex`` continues after the page, on the last page too, so that a poller can go on from there later.
    ``totalCount`` counts from the start of the selection and is a lower bound when ``totalIsLowerBound`` is set.
    Raises Unauthenticated, Forbidden, NotFound.
    """
    access, connector = await gateway.access(caller, ca_id)
    access.role.require(GatewayPermission.EVENTS, "certificate-events")
    with_certificates = fields.keeps("certificate")
    page = await connector.events(
        access.ca, after=query.after, since=query.since, limit=query.limit, with_certificates=with_certificates
    )
    count = len(page.events)
    body: dict[str, Any] = {
        "type": "CertificateEventsResponse",
        "events": [fields.prune(_event(event)) for event in page.events],
        "morePages": page.more,
        "hasMore": page.more,
        "nextPageIndex": write_cursor(page.next_seq, query.offset + count),
        "metadata": {
            "currentCount": count,
            "totalCount": query.offset + (page.total or 0),
            "totalIsLowerBound": not page.total_is_exact,
            "currentOffset": query.offset,
            "currentLimit": query.limit,
        },
    }
    return body


def write_cursor(seq: int, offset: int) -> str:
    """An opaque position after event ``seq``; ``offset`` events were handed out before it."""
    return base64.urlsafe_b64encode(f"1.{seq}.{offset}".encode()).decode("ascii").rstrip("=")


def read_cursor(text: str) -> tuple[int, int]:
    """What :func:`write_cursor` wrote. Raises InvalidInput."""
    try:
        padded = text.strip().rstrip("=")
        decoded = base64.urlsafe_b64decode(padded + "=" * (-len(padded) % 4)).decode("ascii") if len(text) < 100 else ""
    except (binascii.Error, ValueError):
        decoded = ""
    match = _CURSOR.fullmatch(decoded)
    if match is None:
        raise InvalidInput(
            "The page index was not made by this service.",
            code="request-malformed",
            remedy="Send nextPageIndex exactly as an earlier page gave it, or leave it out to start again.",
            target="nextPageIndex",
        )
    return int(match[1]), int(match[2])


def page_size(text: str | None, *, target: str = "preferredPageSize", default: int = DEFAULT_PAGE_SIZE) -> int:
    """A page size from a query parameter, at most 1000. Raises InvalidInput."""
    if not text:
        return default
    if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) == 0:
        raise InvalidInput(
            f'"{text[:20]}" is not a page size.', code="request-malformed", remedy="Write 1 to 1000.", target=target
        )
    return min(int(text), MAX_PAGE_SIZE)


def _event(event: CertificateEvent) -> dict[str, Any]:
    view: dict[str, Any] = {
        "action": event.action,
        "event": event.seq,
        "eventDate": rfc3339(event.at),
        "serialNumber": serial_hex(event.serial),
        "reason": reason_text(event.reason),
        "detail": "",
    }
    if event.certificate is not None:
        view["certificate"] = b64(event.certificate.der)
    return view
