"""Lists of recorded certificates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select

from intaglio.authority import models
from intaglio.authority.certificates import StoredCertificate
from intaglio.authority.directory import CaView
from intaglio.db.engine import Transaction
from intaglio.db.listing import Listing, ListQuery

_C = models.certificate.c
_COLUMNS = {
    "id": _C.id,
    "serial": _C.serial,
    "subject": _C.subject,
    "profile": _C.profile,
    "status": _C.status,
    "not_before": _C.not_before,
    "not_after": _C.not_after,
    "issued_at": _C.issued_at,
    "requester": _C.requester,
    "channel": _C.channel,
}


@dataclass(frozen=True)
class CertificatePage:
    """A page of certificates; ``next_cursor`` is None at the end."""

    certificates: Sequence[StoredCertificate]
    next_cursor: str | None
    total: int | None


async def list_certificates(view: Transaction, ca: CaView, asked: ListQuery) -> CertificatePage:
    """Certificates of a CA, newest first unless told otherwise.

    ``asked.filter`` knows id, serial (hexadecimal), subject, profile, status (valid, held, revoked), not_before,
    not_after, issued_at, requester and channel; sorted by id (which is the order of issue) or not_after. Raises
    InvalidInput.
    """
    listing = Listing(
        select(models.certificate).where(_C.ca_id == ca.id),
        _COLUMNS,
        identity=_C.id,
        sort="-id",
        sortable=frozenset({"id", "not_after"}),
    )
    page = await listing.page(view, asked)
    return CertificatePage([StoredCertificate.of(row) for row in page.rows], page.next_cursor, page.total)
