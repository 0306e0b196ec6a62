"""Certificates: look up, issue, hold, revoke, renew. Issuing and actions go through the gateway, like everybody's."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Request
from sqlalchemy import Select, func, select

from intaglio.authority import certificates, models
from intaglio.authority.access import require_ca, sees_all, visible_organizations
from intaglio.authority.cas.views import PUBLIC_KINDS
from intaglio.authority.certificates import StoredCertificate
from intaglio.authority.directory import Snapshot
from intaglio.core import clock
from intaglio.core.identifiers import serial_from_hex, serial_hex
from intaglio.core.principal import Permission, Principal
from intaglio.db.listing import Listing, ListQuery
from intaglio.gateway.actions import ActionResult, act_on_certificate, act_on_subject
from intaglio.gateway.callers import Caller
from intaglio.gateway.enrollment import enroll, preview
from intaglio.gateway.schemas import Action, ActionType
from intaglio.gateway.service import Gateway
from intaglio.server.management.access import Asked, Asker, Given
from intaglio.server.management.certificate_requests import (
    action_of,
    base64_der,
    commented,
    enrollment,
    revoking,
    translated,
)
from intaglio.server.management.certificate_schemas import (
    Certificate,
    CertificateWithPem,
    Changed,
    Comment,
    IssuedCertificate,
    PreviewedCertificate,
    Reissue,
    Renewal,
    Revocation,
    SubjectComment,
    SubjectRevocation,
    WantedCertificate,
)
from intaglio.server.management.lists import Items
from intaglio.server.services import Services
from intaglio.x509.certificates import pem
from intaglio.x509.names import Name

router = APIRouter(tags=["certificates"])


# ---- looking up ------------------------------------------------------------------------------------------------------


@router.get("/certificates")
async def list_certificates(
    services: Given,
    asker: Asker,
    asked: Asked,
    internal: Annotated[bool, Query(description="Also those of client and platform CAs.")] = False,
) -> Items[Certificate]:
    """The certificates of the CAs one may look at, newest first.

    Conditions: ca, serial_number, subject, names (contains), profile, status (valid, held, revoked), not_before,
    not_after, issued_at, requester, channel.
    """
    asker.require(Permission.CA_VIEW)
    snapshot = await services.authority.snapshot()
    visible = await _visible(services, asker, snapshot, internal)
    async with services.database.read() as view:
        found = await _listing(visible).page(view, _translated(asked, snapshot))
    return Items(
        items=[_shown(StoredCertificate.of(row), snapshot) for row in found.rows],
        next_cursor=found.next_cursor,
        total=found.total,
    )


@router.get("/cas/{ca}/certificates/{serial}")
async def get_certificate(services: Given, asker: Asker, ca: str, serial: str) -> CertificateWithPem:
    """One certificate by serial number (hexadecimal)."""
    snapshot = await services.authority.snapshot()
    async with services.database.read() as view:
        found = await require_ca(view, snapshot, asker, ca, Permission.CA_VIEW)
        stored = await certificates.get(view, found, serial_from_hex(serial))
    return CertificateWithPem(
        **_shown(stored, snapshot).model_dump(),
        certificate=pem(stored.der),
        chain=[pem(der) for der in found.chains.get(stored.generation, ())],
    )


# ---- issuing ---------------------------------------------------------------------------------------------------------


@router.post("/cas/{ca}/certificates", status_code=201)
async def issue_certificate(
    request: Request, services: Given, asker: Asker, ca: str, wanted: WantedCertificate
) -> IssuedCertificate:
    """Issue a certificate from a CSR, or with a key made by the server (PKCS #12).

    The header `Idempotency-Key` makes a repetition harmless.
    """
    asker.require(Permission.CA_OPERATE)
    caller = await _caller(services, asker)
    with translated():
        done = await enroll(
            _gateway(request),
            caller,
            ca,
            enrollment(wanted),
            channel="console",
            idempotency_key=request.headers.get("idempotency-key"),
        )
    issued = done.issued
    return IssuedCertificate(
        ca=issued.ca.full_id,
        serial_number=serial_hex(issued.serial),
        subject=issued.subject,
        profile=issued.profile,
        not_before=issued.not_before,
        not_after=issued.not_after,
        certificate=pem(issued.der),
        chain=[pem(der) for der in issued.chain],
        pkcs12=done.body if wanted.pkcs12 else None,
        warnings=list(done.warnings),
    )


@router.post("/cas/{ca}/certificates/preview")
async def preview_certificate(
    request: Request, services: Given, asker: Asker, ca: str, wanted: WantedCertificate
) -> PreviewedCertificate:
    """Decide about a request without issuing anything."""
    asker.require(Permission.CA_OPERATE)
    caller = await _caller(services, asker)
    with translated():
        found = await preview(_gateway(request), caller, ca, enrollment(wanted), channel="console")
    return PreviewedCertificate(
        subject=found.prepared.subject.rfc4514,
        names=list(found.prepared.san.text) if found.prepared.san is not None else [],
        not_before=found.prepared.not_before,
        not_after=found.prepared.not_after,
        warnings=list(found.warnings),
    )


@router.post("/cas/{ca}/certificates/{serial}/renew", status_code=201)
async def renew_certificate(
    request: Request, services: Given, asker: Asker, ca: str, serial: str, body: Renewal
) -> IssuedCertificate:
    """A new certificate with the same key, subject and names, and a new validity."""
    return await _renewed(
        request, services, asker, ca, serial, action_of(ActionType.RENEW, validityPeriod=body.validity)
    )


@router.post("/cas/{ca}/certificates/{serial}/reissue", status_code=201)
async def reissue_certificate(
    request: Request, services: Given, asker: Asker, ca: str, serial: str, body: Reissue
) -> IssuedCertificate:
    """A new certificate with the same subject and names until the same end, for another key when there is a CSR."""
    csr = None if body.csr is None else base64_der(body.csr)
    action = action_of(ActionType.REISSUE, csr=csr, validityPeriod=body.validity)
    return await _renewed(request, services, asker, ca, serial, action)


# ---- status ----------------------------------------------------------------------------------------------------------


@router.post("/cas/{ca}/certificates/{serial}/revoke")
async def revoke_certificate(
    request: Request, services: Given, asker: Asker, ca: str, serial: str, body: Revocation
) -> Certificate:
    """Revoke a certificate for good."""
    return await _changed(request, services, asker, ca, serial, revoking(body))


@router.post("/cas/{ca}/certificates/{serial}/hold")
async def hold_certificate(
    request: Request, services: Given, asker: Asker, ca: str, serial: str, body: Comment
) -> Certificate:
    """Put a certificate on hold."""
    return await _changed(request, services, asker, ca, serial, commented(ActionType.HOLD, body))


@router.post("/cas/{ca}/certificates/{serial}/unhold")
async def unhold_certificate(
    request: Request, services: Given, asker: Asker, ca: str, serial: str, body: Comment
) -> Certificate:
    """Take a certificate off hold."""
    return await _changed(request, services, asker, ca, serial, commented(ActionType.UNHOLD, body))


@router.post("/cas/{ca}/subjects/revoke")
async def revoke_subject(request: Request, services: Given, asker: Asker, ca: str, body: SubjectRevocation) -> Changed:
    """Revoke all certificates of a subject."""
    return await _changed_subject(request, services, asker, ca, body.subject, revoking(body))


@router.post("/cas/{ca}/subjects/hold")
async def hold_subject(request: Request, services: Given, asker: Asker, ca: str, body: SubjectComment) -> Changed:
    """Put all certificates of a subject on hold."""
    action = commented(ActionType.HOLD, body)
    return await _changed_subject(request, services, asker, ca, body.subject, action)


@router.post("/cas/{ca}/subjects/unhold")
async def unhold_subject(request: Request, services: Given, asker: Asker, ca: str, body: SubjectComment) -> Changed:
    """Take all held certificates of a subject off hold."""
    action = commented(ActionType.UNHOLD, body)
    return await _changed_subject(request, services, asker, ca, body.subject, action)


# ---- steps -----------------------------------------------------------------------------------------------------------


def _gateway(request: Request) -> Gateway:
    gateway: Gateway = request.app.state.gateway
    return gateway


async def _caller(services: Services, asker: Principal) -> Caller:
    """The asker as the gateway knows callers: with the CAs of his organizations."""
    if sees_all(asker):
        return Caller.of_principal(asker, None)
    async with services.database.read() as view:
        mine = await visible_organizations(view, asker)
    return Caller.of_principal(asker, frozenset(each.id for each in mine))


async def _visible(services: Services, asker: Principal, snapshot: Snapshot, internal: bool) -> list[UUID]:
    """The CAs whose certificates the asker may see, deleted ones included."""
    wanted = [ca for ca in snapshot.cas.values() if internal or ca.kind in PUBLIC_KINDS]
    if not sees_all(asker):
        async with services.database.read() as view:
            mine = {each.id for each in await visible_organizations(view, asker)}
        wanted = [ca for ca in wanted if ca.organization_id in mine]
    return [ca.id for ca in wanted]


def _listing(visible: list[UUID]) -> Listing:
    c = models.certificate.c
    query: Select[Any] = select(models.certificate).where(c.ca_id.in_(visible))
    return Listing(
        query,
        {
            # Row keys rise with the time of issue (UUIDv7), and are indexed with the CA.
            "issued": c.id,
            "ca": c.ca_id,
            "serial_number": c.serial,
            "subject": c.subject,
            "names": func.array_to_string(c.sans, " "),
            "profile": c.profile,
            "status": c.status,
            "not_before": c.not_before,
            "not_after": c.not_after,
            "issued_at": c.issued_at,
            "requester": c.requester,
            "channel": c.channel,
        },
        identity=c.id,
        sort="-issued",
        sortable=frozenset({"issued", "not_after"}),
    )


def _translated(asked: ListQuery, snapshot: Snapshot) -> ListQuery:
    """Conditions on what is shown, as conditions on what is stored."""
    known = {ca.full_id: str(ca.id) for ca in snapshot.cas.values()}
    conditions = []
    for text in asked.filter:
        name, op, value = next(
            ((n, o, v) for o in ("!=", "=") for n, found, v in [text.partition(o)] if found and n.isidentifier()),
            ("", "", ""),
        )
        if name == "ca":
            # No CA has the nil key: an unknown name matches nothing.
            text = f"ca{op}{known.get(value, UUID(int=0))}"
        elif name == "serial_number":
            text = f"serial_number{op}{serial_from_hex(value).hex()}"
        conditions.append(text)
    return ListQuery(tuple(conditions), asked.sort, asked.limit, asked.cursor, asked.total)


def _shown(stored: StoredCertificate, snapshot: Snapshot) -> Certificate:
    ca = snapshot.cas.get(stored.ca_id)
    return Certificate(
        id=stored.id,
        ca=ca.full_id if ca else str(stored.ca_id),
        serial_number=stored.serial_hex,
        subject=stored.subject,
        names=list(stored.sans),
        profile=stored.profile,
        state=stored.state(clock.now()),
        not_before=stored.not_before,
        not_after=stored.not_after,
        issued_at=stored.issued_at,
        revoked_at=stored.revoked_at,
        reason=stored.reason.text if stored.reason is not None else None,
        invalidity_date=stored.invalidity_date,
        requester=stored.requester,
        channel=stored.channel,
        previous_id=stored.previous_id,
        properties=dict(stored.properties),
    )


async def _renewed(
    request: Request, services: Services, asker: Principal, ca: str, serial: str, action: Action
) -> IssuedCertificate:
    asker.require(Permission.CA_OPERATE)
    caller = await _caller(services, asker)
    with translated():
        number = serial_from_hex(serial)
        done = await act_on_certificate(_gateway(request), caller, ca, number, action, channel="console")
    renewed = done.enrollment
    assert renewed is not None, "a renewal makes a certificate"
    issued = renewed.issued
    return IssuedCertificate(
        ca=issued.ca.full_id,
        serial_number=serial_hex(issued.serial),
        subject=issued.subject,
        profile=issued.profile,
        not_before=issued.not_before,
        not_after=issued.not_after,
        certificate=pem(issued.der),
        chain=[pem(der) for der in issued.chain],
        pkcs12=None,
        warnings=list(renewed.warnings),
    )


async def _changed(
    request: Request, services: Services, asker: Principal, ca: str, serial: str, action: Action
) -> Certificate:
    asker.require(Permission.CA_OPERATE)
    caller = await _caller(services, asker)
    with translated():
        done: ActionResult = await act_on_certificate(_gateway(request), caller, ca, serial_from_hex(serial), action)
    return _shown(done.changed[0], await services.authority.snapshot())


async def _changed_subject(
    request: Request, services: Services, asker: Principal, ca: str, subject: str, action: Action
) -> Changed:
    asker.require(Permission.CA_OPERATE)
    caller = await _caller(services, asker)
    with translated():
        done = await act_on_subject(_gateway(request), caller, ca, Name.parse(subject), action)
    snapshot = await services.authority.snapshot()
    return Changed(changed=[_shown(each, snapshot) for each in done.changed])
