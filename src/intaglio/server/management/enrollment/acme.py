"""Accounts and orders of ACME."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel, Field

from intaglio.enrollment.acme import administration
from intaglio.enrollment.acme.administration import AccountView, OrderView
from intaglio.enrollment.acme.strict_json import encode_base64url
from intaglio.server.management.access import Asked, Asker, Given
from intaglio.server.management.lists import Items

router = APIRouter(tags=["enrollment"])


class AcmeAccount(BaseModel):
    """An account. ``status``: valid, deactivated (by its holder), revoked (by an administrator)."""

    id: UUID
    status: str
    endpoint: str
    organization: str
    contacts: list[str]
    key_type: str = Field(description="EC P-256, RSA, OKP Ed25519 ...")
    thumbprint: str = Field(description="Of its key (RFC 7638).")
    external_account: str | None
    terms: str | None = Field(description="The terms of service it agreed to.")
    source: str
    orders: int = Field(description="How many are kept.")
    created_at: datetime
    changed_at: datetime


class AcmeAuthorizationSummary(BaseModel):
    """A proof of control over one name, or the lack of it."""

    id: UUID
    identifier: str
    status: str
    method: str | None = Field(description="The challenge that was taken up.")
    validated_at: datetime | None
    expires_at: datetime
    error: dict[str, Any] | None


class AcmeOrderSummary(BaseModel):
    """An order. ``status``: pending, ready, processing, valid, invalid."""

    id: UUID
    status: str
    endpoint: str
    organization: str
    account: UUID
    identifiers: list[str]
    profile: str
    waits_for_approval: bool
    certificate_id: UUID | None
    error: dict[str, Any] | None
    created_at: datetime
    expires_at: datetime


class AcmeOrderDetails(AcmeOrderSummary):
    """An order with its authorizations."""

    authorizations: list[AcmeAuthorizationSummary]


@router.get("/enrollment/acme/accounts")
async def list_acme_accounts(services: Given, asker: Asker, asked: Asked) -> Items[AcmeAccount]:
    """Accounts, newest first."""
    found = await administration.list_accounts(services.enrollment, asker, asked)
    return Items(items=[_account(each) for each in found.items], next_cursor=found.next_cursor, total=found.total)


@router.get("/enrollment/acme/accounts/{id}")
async def get_acme_account(services: Given, asker: Asker, id: UUID) -> AcmeAccount:
    """One account."""
    return _account(await administration.show_account(services.enrollment, asker, id))


@router.post("/enrollment/acme/accounts/{id}/deactivate")
async def deactivate_acme_account(services: Given, asker: Asker, id: UUID) -> AcmeAccount:
    """End an account for good. Its certificates stay as they are."""
    return _account(await administration.deactivate_account(services.enrollment, asker, id))


@router.get("/enrollment/acme/orders")
async def list_acme_orders(services: Given, asker: Asker, asked: Asked) -> Items[AcmeOrderSummary]:
    """Orders, newest first."""
    found = await administration.list_orders(services.enrollment, asker, asked)
    items = [AcmeOrderSummary(**_order(each)) for each in found.items]
    return Items(items=items, next_cursor=found.next_cursor, total=found.total)


@router.get("/enrollment/acme/orders/{id}")
async def get_acme_order(services: Given, asker: Asker, id: UUID) -> AcmeOrderDetails:
    """One order."""
    found = await administration.show_order(services.enrollment, asker, id)
    assert found.now is not None
    proofs = [
        AcmeAuthorizationSummary(
            id=each.id,
            identifier=each.covers.text,
            status=each.status(found.now),
            method=each.method,
            validated_at=each.validated_at,
            expires_at=each.expires_at,
            error=None if each.error is None else dict(each.error),
        )
        for each in found.proofs
    ]
    return AcmeOrderDetails(**_order(found), authorizations=proofs)


def _account(view: AccountView) -> AcmeAccount:
    found = view.account
    members = found.jwk.members
    return AcmeAccount(
        id=found.id,
        status=found.status,
        endpoint=f"acme/{view.endpoint}",
        organization=view.organization,
        contacts=list(found.contacts),
        key_type=" ".join(filter(None, (members["kty"], members.get("crv")))),
        thumbprint=encode_base64url(view.thumbprint),
        external_account=found.external_name,
        terms=found.terms,
        source=view.source,
        orders=view.orders,
        created_at=view.created_at,
        changed_at=view.changed_at,
    )


def _order(view: OrderView) -> dict[str, Any]:
    order = view.order
    return {
        "id": order.id,
        "status": view.status,
        "endpoint": f"acme/{view.endpoint}",
        "organization": view.organization,
        "account": order.account_id,
        "identifiers": [each.text for each in order.identifiers],
        "profile": order.profile,
        "waits_for_approval": order.waits,
        "certificate_id": order.certificate_id,
        "error": None if order.error is None else dict(order.error),
        "created_at": view.created_at,
        "expires_at": order.expires_at,
    }
