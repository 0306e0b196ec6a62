"""Keys and certificates that sign OCSP answers for status authorities."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from intaglio.core import clock
from intaglio.core.identifiers import serial_hex
from intaglio.core.principal import Permission
from intaglio.server.management import encoding
from intaglio.server.management.access import Asked, Asker, Given
from intaglio.server.management.lists import Items, page
from intaglio.validation.ocsp.issuers import EVERYBODY
from intaglio.validation.signers import check, service
from intaglio.validation.signers.values import NewSigner, SignerKind, StoredSigner
from intaglio.x509.requests import request_pem

router = APIRouter(tags=["validation"])

_LARGEST = 262144


class OcspSigner(BaseModel):
    """A key that signs OCSP answers. ``state`` is awaiting-certificate, current, replaced or expired."""

    id: UUID
    label: str
    kind: SignerKind
    authority: str | None = Field(description="Status authority that it signs for; null: shared.")
    state: str
    key_id: UUID
    subject: str | None
    issuer: str | None
    serial_number: str | None
    not_before: datetime | None
    not_after: datetime | None
    renews_by_itself: bool
    request: str | None = Field(description="PKCS #10 request (PEM).")
    certificate: str | None = Field(description="PEM.")
    chain: list[str] = Field(description="PEM, issuer first.")
    warnings: list[str] = []
    created_by: str
    created_at: datetime


class SignerCertificate(BaseModel):
    """The certificate for a request: PEM, or base64 of DER or PKCS #7; CA certificates may stand behind it."""

    model_config = ConfigDict(extra="forbid")

    certificate: str = Field(max_length=_LARGEST)


class RequestWish(BaseModel):
    """The subject to ask for; empty: the one that was asked for before."""

    model_config = ConfigDict(extra="forbid")

    subject: str = Field(default="", max_length=2000)


class Responder(BaseModel):
    """Where the status of everybody's certificates is asked for, and where the health of the responder is."""

    url: str
    health_url: str


class CheckedSigner(BaseModel):
    """Who signs for one key of a status authority; ``problem`` is null when a trial signature was made."""

    authority: str
    issuer: str
    signer: str | None
    not_after: datetime | None
    delegated: bool
    problem: str | None


@router.get("/validation/responder")
async def get_responder(services: Given, asker: Asker) -> Responder:
    """The URLs of the responder."""
    asker.require(Permission.VALIDATION_VIEW)
    base = services.settings.public_base + EVERYBODY
    return Responder(url=base, health_url=f"{base}/health")


@router.get("/validation/signers")
async def list_ocsp_signers(services: Given, asker: Asker, asked: Asked) -> Items[OcspSigner]:
    """All signers of status authorities, replaced ones included."""
    found = await service.listing(services.validation, asker)
    return page((_shown(each) for each in found), asked, key="id")


@router.post("/validation/signers", status_code=201)
async def create_ocsp_signer(services: Given, asker: Asker, body: NewSigner) -> OcspSigner:
    """Make a key that signs for a status authority or, shared, for several: with a request for the CA that is to
    certify it, or certified at once by one of our CAs."""
    saved = await service.create(services.validation, asker, body)
    return _shown(saved.signer, saved.warnings)


@router.get("/validation/signer-check")
async def check_ocsp_signers(services: Given, asker: Asker) -> list[CheckedSigner]:
    """Have the signer of every status authority make a trial signature."""
    found = await check.check(services.validation, asker)
    return [CheckedSigner.model_validate(each, from_attributes=True) for each in found]


@router.get("/validation/signers/{signer_id}")
async def get_ocsp_signer(services: Given, asker: Asker, signer_id: UUID) -> OcspSigner:
    """One signer."""
    return _shown(await service.get(services.validation, asker, signer_id))


@router.post("/validation/signers/{signer_id}/certificate")
async def import_ocsp_signer(
    services: Given, asker: Asker, signer_id: UUID, body: SignerCertificate
) -> OcspSigner:
    """Install the certificate that a CA made of the request; from then on the signer signs."""
    data = encoding.octets(body.certificate, target="certificate")
    saved = await service.import_certificate(services.validation, asker, signer_id, data)
    return _shown(saved.signer, saved.warnings)


@router.post("/validation/signers/{signer_id}/request")
async def remake_ocsp_signer_request(
    services: Given, asker: Asker, signer_id: UUID, body: RequestWish
) -> OcspSigner:
    """Make the request anew over the same key."""
    return _shown(await service.remake_request(services.validation, asker, signer_id, body.subject))


@router.post("/validation/signers/{signer_id}/renew", status_code=201)
async def renew_ocsp_signer(services: Given, asker: Asker, signer_id: UUID) -> OcspSigner:
    """Begin the replacement of a signer, which goes on signing meanwhile: a new key with its certificate from our CA,
    or with a request for the CA that certified the old one."""
    saved = await service.renew(services.validation, asker, signer_id)
    return _shown(saved.signer, saved.warnings)


@router.delete("/validation/signers/{signer_id}", status_code=204)
async def delete_ocsp_signer(services: Given, asker: Asker, signer_id: UUID) -> None:
    """Delete a signer and destroy its key."""
    await service.delete_signer(services.validation, asker, signer_id)


def _shown(signer: StoredSigner, warnings: tuple[str, ...] = ()) -> OcspSigner:
    certificate = signer.certificate
    known: dict[str, Any] = dict.fromkeys(
        ("subject", "issuer", "serial_number", "not_before", "not_after", "certificate")
    )
    if certificate is not None:
        known = {
            "subject": certificate.subject.rfc4514,
            "issuer": certificate.issuer.rfc4514,
            "serial_number": serial_hex(certificate.serial),
            "not_before": certificate.not_before,
            "not_after": certificate.not_after,
            "certificate": certificate.pem,
        }
    return OcspSigner(
        id=signer.id,
        label=signer.label,
        kind=signer.kind,
        authority=signer.authority,
        state=signer.state(clock.now()),
        key_id=signer.key_id,
        renews_by_itself=signer.issuing_ca_id is not None,
        request=None if signer.request is None else request_pem(signer.request),
        chain=[each.pem for each in signer.chain],
        warnings=list(warnings),
        created_by=signer.created_by,
        created_at=signer.created_at,
        **known,
    )
