"""Bindings of certificates to identities, and revoking."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from intaglio.authority.certificates import RevocationReason
from intaglio.core.errors import InvalidInput
from intaglio.mtls.identities import bindings, revoking
from intaglio.mtls.identities.bindings import Binding as Found
from intaglio.server.management.access import Asked, Asker
from intaglio.server.management.lists import Items
from intaglio.server.management.mtls.given import GivenMtls

router = APIRouter(tags=["bindings"])


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class BindingDetails(BaseModel):
    """Who asked for a certificate, from where, with what."""

    email: str
    source: str
    user_agent: str


class Binding(BaseModel):
    """Which identity a certificate was issued for. ``details`` are shown for a single one only."""

    id: str
    identity: str
    domain: str
    kind: str
    name: str
    ca: str
    serial: str
    certificate_sha256: str
    key_sha256: str
    not_before: datetime
    not_after: datetime
    channel: str
    state: Literal["valid", "held", "revoked", "expired", "superseded"]
    code: str | None
    replaced_by: str | None
    revoked_at: datetime | None
    reason: str | None
    created_at: datetime
    details: BindingDetails | None = None

    @classmethod
    def of(cls, found: Found) -> Binding:
        return cls.model_validate(
            {
                "id": str(found.id),
                "identity": str(found.identity_id),
                "domain": found.domain,
                "kind": found.kind.value,
                "name": found.name,
                "ca": found.ca,
                "serial": found.serial_hex,
                "certificate_sha256": found.certificate_sha256.hex(),
                "key_sha256": found.spki_sha256.hex(),
                "not_before": found.not_before,
                "not_after": found.not_after,
                "channel": found.channel.value,
                "state": found.state,
                "code": None if found.code_id is None else str(found.code_id),
                "replaced_by": None if found.replaced_by is None else str(found.replaced_by),
                "revoked_at": found.revoked_at,
                "reason": None if found.reason is None else found.reason.text,
                "created_at": found.created_at,
                "details": None if found.details is None else BindingDetails(**vars(found.details)),
            }
        )


class Ending(_Body):
    """Why a certificate is revoked: an RFC 5280 reason, and words for the audit trail."""

    reason: str = "unspecified"
    comment: str = Field(default="", max_length=1000)


class Revocation(Ending):
    """What is to be revoked: one certificate by serial number, or all of an identity."""

    serial: str | None = None
    ca: str | None = Field(default=None, description="CA of the serial number, where two CAs have given the same.")
    identity: str | None = None
    descendants: bool = Field(
        default=False, description="Also what was renewed with it, where the certificate itself has expired."
    )


class Revoked(BaseModel):
    """What was revoked."""

    revoked: list[Binding]


@router.get("/mtls/v1/bindings")
@router.get("/enrol/v1/bindings", include_in_schema=False)
async def list_bindings(mtls: GivenMtls, asker: Asker, asked: Asked) -> Items[Binding]:
    """Bindings, newest first; with `mtls.own` alone those of one's own identities."""
    found = await bindings.list_bindings(mtls, asker, asked)
    return Items(items=list(map(Binding.of, found.bindings)), next_cursor=found.next_cursor, total=found.total)


@router.get("/mtls/v1/bindings/{binding}")
@router.get("/enrol/v1/bindings/{binding}", include_in_schema=False)
async def get_binding(mtls: GivenMtls, asker: Asker, binding: UUID) -> Binding:
    """One binding, with who asked for the certificate and from where."""
    return Binding.of(await bindings.get_binding(mtls, asker, binding))


@router.post("/mtls/v1/bindings/{binding}/revoke")
@router.post("/enrol/v1/bindings/{binding}/revoke", include_in_schema=False)
async def revoke_binding(mtls: GivenMtls, asker: Asker, binding: UUID, body: Ending) -> Binding:
    """Revoke the certificate of a binding."""
    reason = RevocationReason.parse(body.reason)
    return Binding.of(await revoking.revoke_binding(mtls, asker, binding, reason, comment=body.comment))


@router.post("/mtls/v1/revocations")
async def revoke_identity_certificates(mtls: GivenMtls, asker: Asker, body: Revocation) -> Revoked:
    """Revoke one certificate by serial number, what was renewed with an expired one, or all live ones of an identity.
    """
    reason = RevocationReason.parse(body.reason)
    if body.serial is not None and body.identity is None and body.descendants:
        ended = await revoking.revoke_descendants(mtls, asker, body.serial, reason, ca=body.ca, comment=body.comment)
        return Revoked(revoked=list(map(Binding.of, ended)))
    if body.serial is not None and body.identity is None:
        one = await revoking.revoke_serial(mtls, asker, body.serial, reason, ca=body.ca, comment=body.comment)
        return Revoked(revoked=[Binding.of(one)])
    if body.identity is not None and body.serial is None:
        found = await revoking.revoke_identity(mtls, asker, body.identity, reason, comment=body.comment)
        return Revoked(revoked=list(map(Binding.of, found)))
    raise InvalidInput("Name either a serial number or an identity.", code="revocation-target", target="serial")
