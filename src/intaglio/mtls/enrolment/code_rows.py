"""Security codes as they are stored and shown."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, case, func, literal, select

from intaglio.authority.access import require_organization
from intaglio.core.errors import NotFound
from intaglio.core.principal import Permission, Principal
from intaglio.db.engine import Row, Transaction
from intaglio.mtls.enrolment.models import code


class CodeState(StrEnum):
    """Where a code is in its life. Only created and delivered codes are good for anything."""

    AWAITING_APPROVAL = "awaiting-approval"
    CREATED = "created"
    DELIVERED = "delivered"
    USED = "used"
    EXPIRED = "expired"
    REVOKED = "revoked"
    LOCKED = "locked"


OPEN = frozenset({CodeState.AWAITING_APPROVAL, CodeState.CREATED, CodeState.DELIVERED})


@dataclass(frozen=True)
class Code:
    """A security code without the code. ``handle`` are its first symbols, by which people tell codes apart."""

    id: UUID
    handle: str
    state: CodeState
    organization: str
    domain: str
    identity_id: UUID
    identity: str
    emails: tuple[str, ...]
    validity_days: int | None
    max_uses: int
    uses: int
    note: str
    created_by: str
    created_at: datetime
    expires_at: datetime
    approval_by: str | None
    delivered_at: datetime | None
    used_at: datetime | None

    @classmethod
    def of(cls, row: Row) -> Code:
        """The code in a row of :func:`codes_query`."""
        values: dict[str, Any] = {name: row[name] for name in cls.__dataclass_fields__}
        return cls(**values | {"state": CodeState(row["state"]), "emails": tuple(row["emails"])})


def state_at(now: datetime) -> ColumnElement[str]:
    """The state of a code at a moment, as an expression of its columns."""
    c = code.c
    return case(
        (c.revoked_at.is_not(None), literal(CodeState.REVOKED.value)),
        (c.uses >= c.max_uses, literal(CodeState.USED.value)),
        (c.locked_at.is_not(None), literal(CodeState.LOCKED.value)),
        (c.expires_at <= now, literal(CodeState.EXPIRED.value)),
        (c.approved_at.is_(None), literal(CodeState.AWAITING_APPROVAL.value)),
        (c.delivered_at.is_not(None), literal(CodeState.DELIVERED.value)),
        else_=literal(CodeState.CREATED.value),
    ).label("state")


def codes_query(now: datetime) -> Any:
    """All codes with their state at a moment."""
    return select(code, state_at(now))


async def load_code(
    view: Transaction, principal: Principal, code_id: UUID, permission: Permission, *, lock: bool = False
) -> Code:
    """One code, for a principal with the permission who may see its organization. Raises NotFound, Forbidden."""
    principal.require(permission)
    query = codes_query(view.now).where(code.c.id == code_id)
    row = await view.one_or_none(query.with_for_update() if lock else query)
    if row is None:
        raise code_unknown(code_id)
    try:
        await require_organization(view, principal, row["organization"], permission)
    except NotFound:
        raise code_unknown(code_id) from None
    return Code.of(row)


def code_unknown(code_id: UUID) -> NotFound:
    return NotFound(f'There is no security code with the id "{code_id}".', code="code-unknown", target="code")


def lower_emails() -> ColumnElement[str]:
    """The addresses of a code as one text, for filters."""
    return func.array_to_string(code.c.emails, " ")
