"""Accounts and orders as administrators see them: list, look at, end an account."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ColumnElement, FromClause, Select, any_, case, func, select, update

from intaglio.audit.record import record
from intaglio.authority import models as authority
from intaglio.authority.access import sees_all
from intaglio.core.errors import NotFound
from intaglio.core.principal import Permission, Principal
from intaglio.db.engine import Row, Transaction
from intaglio.db.listing import Listing, ListQuery, Page
from intaglio.enrollment import models as enrollment_models
from intaglio.enrollment.acme import models
from intaglio.enrollment.acme.authorizations import Authorization, load_many
from intaglio.enrollment.acme.call import Account
from intaglio.enrollment.acme.orders import AcmeOrder
from intaglio.enrollment.administration import visible_organizations
from intaglio.enrollment.context import Enrollment

_a, _o, _z = models.account.c, models.order.c, models.authorization.c
_e, _ca = enrollment_models.endpoint.c, authority.ca.c
_PLACE: Final = (
    _e.name.label("endpoint"),
    _ca.organization_id,
    authority.organization.c.name.label("organization"),
)


@dataclass(frozen=True)
class AccountView:
    """An account, the name of its endpoint, and how many orders of it are kept."""

    account: Account
    endpoint: str
    organization: str
    thumbprint: bytes
    source: str
    orders: int
    created_at: datetime
    changed_at: datetime


@dataclass(frozen=True)
class OrderView:
    """An order with what it has come to by now; ``proofs`` are its authorizations where one order is shown."""

    order: AcmeOrder
    status: str
    endpoint: str
    organization: str
    created_at: datetime
    proofs: Sequence[Authorization] = ()
    now: datetime | None = None


@dataclass(frozen=True)
class Views:
    """A page; see ``db.listing.Page``."""

    items: Sequence[Any]
    next_cursor: str | None
    total: int | None


async def list_accounts(enrollment: Enrollment, principal: Principal, asked: ListQuery) -> Views:
    """Accounts at the endpoints that the principal sees. Needs ``enrollment.view``. Raises InvalidInput."""
    columns: dict[str, ColumnElement[Any]] = {
        "id": _a.id,
        "status": _a.status,
        "endpoint": _e.name,
        "source": _a.source,
        "external_account": func.coalesce(_a.external_name, ""),
        "created_at": _a.created_at,
        "changed_at": _a.changed_at,
    }
    listing = Listing(_accounts(), columns, models.account.c.id, "-created_at")
    page = await _page(enrollment, principal, listing, asked)
    return Views([_account_view(row) for row in page.rows], page.next_cursor, page.total)


async def show_account(enrollment: Enrollment, principal: Principal, account_id: UUID) -> AccountView:
    """One account. Needs ``enrollment.view``. Raises NotFound."""
    async with enrollment.database.read() as view:
        return _account_view(await _require_account(view, principal, account_id, Permission.ENROLLMENT_VIEW))


async def deactivate_account(enrollment: Enrollment, principal: Principal, account_id: UUID) -> AccountView:
    """End an account for good; its certificates stay as they are. Needs ``enrollment.manage``. Raises NotFound.

    It is *revoked*, which is the standard's word for an account that its server has ended (RFC 8555 section 7.1.6).
    """
    async with enrollment.database.transaction() as tx:
        found = await _require_account(tx, principal, account_id, Permission.ENROLLMENT_MANAGE)
        if found["status"] == "valid":
            await tx.execute(
                update(models.account).where(_a.id == account_id).values(status="revoked", changed_at=tx.now)
            )
            name = f"acme/{found['endpoint']}/{account_id}"
            record(tx, principal, "acme-account.revoke", "acme-account", name, organization=found["organization"])
        return _account_view(await _require_account(tx, principal, account_id, Permission.ENROLLMENT_MANAGE))


async def list_orders(enrollment: Enrollment, principal: Principal, asked: ListQuery) -> Views:
    """Orders at the endpoints that the principal sees. Needs ``enrollment.view``. Raises InvalidInput."""
    columns: dict[str, ColumnElement[Any]] = {
        "id": _o.id,
        "status": _status(),
        "endpoint": _e.name,
        "account": _o.account_id,
        "profile": _o.profile,
        "names": func.array_to_string(_o.identifiers, " "),
        "created_at": _o.created_at,
        "expires_at": _o.expires_at,
    }
    page = await _page(enrollment, principal, Listing(_orders(), columns, models.order.c.id, "-created_at"), asked)
    return Views([_order_view(row) for row in page.rows], page.next_cursor, page.total)


async def show_order(enrollment: Enrollment, principal: Principal, order_id: UUID) -> OrderView:
    """One order with its authorizations. Needs ``enrollment.view``. Raises NotFound."""
    principal.require(Permission.ENROLLMENT_VIEW)
    async with enrollment.database.read() as view:
        row = await view.one_or_none(_orders().where(_o.id == order_id))
        if row is None or not await _is_visible(view, principal, row):
            raise NotFound(f"There is no order {order_id}.", code="acme-order-unknown", target="id")
        order = AcmeOrder.of(row)
        proofs = await load_many(view, order.authorizations)
        found = _order_view(row)
        known = [proofs[each] for each in order.authorizations if each in proofs]
        return OrderView(order, found.status, found.endpoint, found.organization, found.created_at, known, view.now)


async def _page(enrollment: Enrollment, principal: Principal, listing: Listing, asked: ListQuery) -> Page:
    principal.require(Permission.ENROLLMENT_VIEW)
    async with enrollment.database.read() as view:
        query = listing.query
        if not sees_all(principal):
            query = query.where(_ca.organization_id.in_(await visible_organizations(view, principal)))
        return await Listing(query, listing.columns, listing.identity, listing.sort).page(view, asked)


async def _require_account(view: Transaction, principal: Principal, account_id: UUID, permission: Permission) -> Row:
    principal.require(permission)
    row = await view.one_or_none(_accounts().where(_a.id == account_id))
    if row is None or not await _is_visible(view, principal, row):
        raise NotFound(f"There is no account {account_id}.", code="acme-account-unknown", target="id")
    return row


async def _is_visible(view: Transaction, principal: Principal, row: Row) -> bool:
    return sees_all(principal) or row["organization_id"] in await visible_organizations(view, principal)


def _accounts() -> Select[Any]:
    orders = select(func.count()).where(_o.account_id == _a.id).scalar_subquery().label("orders")
    return select(models.account, orders, *_PLACE).select_from(_placed(models.account))


def _orders() -> Select[Any]:
    joined = _placed(models.order.join(models.account, _a.id == _o.account_id))
    return select(models.order, _status().label("status"), *_PLACE).select_from(joined)


def _placed(accounts: FromClause) -> FromClause:
    return (
        accounts.join(enrollment_models.endpoint, _e.id == _a.endpoint_id)
        .join(authority.ca, _ca.id == _e.ca_id)
        .join(authority.organization, authority.organization.c.id == _ca.organization_id)
    )


def _status() -> ColumnElement[Any]:
    """What ``AcmeOrder.status`` says, as an expression, so that it can be filtered by."""
    of_order = _z.id == any_(_o.authorizations), _z.expires_at > func.now()
    good = select(func.count()).where(*of_order, _z.status.in_(("pending", "valid"))).scalar_subquery()
    proven = select(func.count()).where(*of_order, _z.status == "valid").scalar_subquery()
    wanted = func.cardinality(_o.authorizations)
    return case(
        (_o.state != "open", _o.state),
        ((_o.expires_at <= func.now()) | (good < wanted), "invalid"),
        (proven == wanted, "ready"),
        else_="pending",
    )


def _account_view(row: Row) -> AccountView:
    return AccountView(
        Account.of(row), row["endpoint"], row["organization"], bytes(row["thumbprint"]), row["source"], row["orders"],
        row["created_at"], row["changed_at"],
    )  # fmt: skip


def _order_view(row: Row) -> OrderView:
    return OrderView(AcmeOrder.of(row), row["status"], row["endpoint"], row["organization"], row["created_at"])
