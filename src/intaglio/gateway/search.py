"""Searching certificates: by subject, and as a list with filter, sort and pages."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from intaglio.authority.certificates import StoredCertificate, subject_unknown
from intaglio.core import clock
from intaglio.core.clock import rfc3339
from intaglio.core.errors import InvalidInput
from intaglio.db.listing import DEFAULT_LIMIT, ListQuery
from intaglio.gateway.callers import Caller
from intaglio.gateway.event_feed import page_size
from intaglio.gateway.fields import FieldSelection
from intaglio.gateway.roles import GatewayPermission
from intaglio.gateway.service import Gateway
from intaglio.gateway.views import CERTIFICATE_STATUS, b64, certificate_view, period
from intaglio.x509.names import Name

Query = Mapping[str, Sequence[str]]


async def subject_page(
    gateway: Gateway, caller: Caller, ca_id: str, subject: Name, query: Query, fields: FieldSelection
) -> dict[str, Any]:
    """A subject, and a page of its certificates (oldest first) when ``subject.certificates`` is selected.

    Raises NotFound for a subject that has no certificate of the CA.
    """
    access, connector = await gateway.access(caller, ca_id)
    access.role.require(GatewayPermission.SEARCH, "subjects")
    limit = page_size(_last(query, "limit") or _last(query, "preferredPageSize"), target="limit", default=100)
    after = _position(_last(query, "cursor") or _last(query, "nextPageIndex"))
    found = await connector.certificates_of(access.ca, subject, after=after, limit=limit + 1)
    if not found and after is None:
        raise subject_unknown(access.ca, subject)
    page, more = found[:limit], len(found) > limit
    shown: dict[str, Any] = {"subjectName": page[0].subject if page else subject.rfc4514}
    answer: dict[str, Any] = {"type": "SubjectResponse", "subject": shown}
    if fields.wants("certificates"):
        shown["certificates"] = [certificate_view(certificate) for certificate in page]
        answer |= {"morePages": more, "hasMore": more}
        if page:
            answer["nextPageIndex"] = base64.urlsafe_b64encode(page[-1].id.bytes).decode("ascii").rstrip("=")
    fields.prune(shown)
    return answer


async def list_page(
    gateway: Gateway, caller: Caller, ca_id: str, query: Query, fields: FieldSelection
) -> dict[str, Any]:
    """A page of the certificates of a CA: ``filter``, ``sort``, ``limit``, ``cursor``, ``total`` as in every list.

    Certificates themselves are in it only when ``certificates.certificateData`` is selected. Raises InvalidInput.
    """
    access, connector = await gateway.access(caller, ca_id)
    access.role.require(GatewayPermission.SEARCH, "certificates")
    asked = ListQuery(
        filter=query.get("filter", ()),
        sort=_last(query, "sort"),
        limit=page_size(_last(query, "limit"), target="limit", default=DEFAULT_LIMIT),
        cursor=_last(query, "cursor"),
        total=_last(query, "total") == "true",
    )
    page = await connector.listed(access.ca, asked)
    with_data = fields.wants("certificateData")
    answer: dict[str, Any] = {
        "type": "CertificatesResponse",
        "certificates": [fields.prune(_summary(certificate, with_data)) for certificate in page.certificates],
        "hasMore": page.next_cursor is not None,
    }
    if page.next_cursor is not None:
        answer["nextCursor"] = page.next_cursor
    if page.total is not None:
        answer["total"] = page.total
    return answer


def _summary(certificate: StoredCertificate, with_data: bool) -> dict[str, Any]:
    view: dict[str, Any] = {
        "id": str(certificate.id),
        "serialNumber": certificate.serial_hex,
        "status": CERTIFICATE_STATUS[certificate.state(clock.now())],
        "subjectName": certificate.subject,
        "subjectAltNames": list(certificate.sans),
        "profileId": certificate.profile,
        "validityPeriod": period(certificate.not_before, certificate.not_after),
        "issuedAt": rfc3339(certificate.issued_at),
    }
    if with_data:
        view["certificateData"] = b64(certificate.der)
    return view


def _last(query: Query, name: str) -> str | None:
    values = query.get(name)
    return values[-1] if values else None


def _position(text: str | None) -> UUID | None:
    if not text:
        return None
    try:
        return UUID(bytes=base64.urlsafe_b64decode(text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4)))
    except (binascii.Error, ValueError):
        raise InvalidInput(
            "The page index was not made by this service.", code="request-malformed", target="nextPageIndex"
        ) from None
