"""Who sees which part of the audit trail.

``audit.view`` shows the whole of it. Without that, a member of an organization who may look at its CAs sees what is
recorded about that organization, and nothing else; to him the trail of another looks like one that does not exist.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import select

from intaglio.audit import search
from intaglio.audit.search import AuditPage, AuditRecord
from intaglio.authority.access import find_organization, memberships_of, organization_unknown
from intaglio.authority.models import organization as organizations
from intaglio.core.principal import Permission, Principal
from intaglio.db.engine import Transaction
from intaglio.db.listing import ListQuery


async def search_trail(
    view: Transaction, principal: Principal, asked: ListQuery | None = None, *, organization: str | None = None
) -> AuditPage:
    """The records that the principal may see, newest first unless told otherwise; of one ``organization`` only, if any.

    Raises Unauthenticated, Forbidden (neither ``audit.view`` nor a member), NotFound (``organization-unknown``: there
    is none, or he is no member), InvalidInput as :func:`intaglio.audit.search.search`.
    """
    visible = await _visible(view, principal)
    if organization is not None:
        visible = {organization: await _since(view, visible, organization)}
    return await search.search(view, principal, asked, organizations=visible)


async def get_record(view: Transaction, principal: Principal, seq: int) -> AuditRecord:
    """One record. Raises Unauthenticated, Forbidden, NotFound (``audit-record-unknown``)."""
    return await search.get(view, principal, seq, organizations=await _visible(view, principal))


async def _visible(view: Transaction, principal: Principal) -> Mapping[str, datetime] | None:
    """The organizations whose records the principal sees, and since when each has been; None: the whole trail.

    To manage the platform is not enough: it shows every organization, but the trail is for auditors and members.
    """
    if not principal.may(Permission.AUDIT_VIEW) and principal.kind == "user" and principal.may(Permission.CA_VIEW):
        o = organizations.c
        mine = select(o.name, o.created_at).where(o.deleted_at.is_(None), o.id.in_(memberships_of(principal.name)))
        if rows := await view.all(mine):
            return {row["name"]: row["created_at"] for row in rows}
    principal.require(Permission.AUDIT_VIEW)
    return None


async def _since(view: Transaction, visible: Mapping[str, datetime] | None, organization: str) -> datetime:
    if visible is None:
        found = await find_organization(view, organization)
        created_at = found.created_at if found else None
    else:
        created_at = visible.get(organization)
    if created_at is None:
        raise organization_unknown(organization)
    return created_at
