"""Client credentials for our own calls to others."""

from __future__ import annotations

import base64
import binascii
from dataclasses import asdict
from datetime import datetime
from typing import Literal
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from intaglio.core import clock
from intaglio.core.errors import InvalidInput
from intaglio.core.principal import Permission
from intaglio.mtls.outbound import client, rotation, service, sharing, values
from intaglio.mtls.toolkit.sharing import colons, spki_pin
from intaglio.server.management.access import Asked, Asker
from intaglio.server.management.lists import Items, page
from intaglio.server.management.mtls.given import GivenMtls
from intaglio.x509.certificates import pem
from intaglio.x509.requests import request_pem

router = APIRouter(prefix="/mtls/v1", tags=["outbound credentials"])

_LARGEST_P12 = 1_400_000  # base64 of 1 MiB


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class TrustRecord(BaseModel):
    """Somebody outside who holds a certificate of ours."""

    id: UUID
    api: str
    contact: str
    sha256: str
    state: Literal["shared", "confirmed"]
    shared_by: str
    shared_at: datetime
    confirmed_by: str | None
    confirmed_at: datetime | None

    @classmethod
    def of(cls, found: values.Trust) -> TrustRecord:
        return cls.model_validate(found, from_attributes=True)


class OutboundKey(BaseModel):
    """A key with its certificate; the key itself is never shown."""

    id: UUID
    state: Literal["requested", "ready", "current", "superseded", "retired"]
    subject: str | None
    serial_number: str | None
    not_before: datetime | None
    not_after: datetime | None
    sha256: str | None
    spki_pin: str | None
    certificate: str | None = Field(description="PEM.")
    request: str | None = Field(description="PEM, while the certificate is awaited.")
    created_at: datetime
    activated_at: datetime | None
    holders: list[TrustRecord]

    @classmethod
    def of(cls, found: values.Credential) -> OutboundKey:
        info = found.info
        return cls(
            id=found.id,
            state=found.state,
            subject=info.subject.rfc4514 if info else None,
            serial_number=info.serial.hex().upper() if info else None,
            not_before=found.not_before,
            not_after=found.not_after,
            sha256=colons(info.fingerprint) if info else None,
            spki_pin=spki_pin(info.spki) if info else None,
            certificate=pem(info.der) if info else None,
            request=request_pem(found.request) if found.request and info is None else None,
            created_at=found.created_at,
            activated_at=found.activated_at,
            holders=[TrustRecord.of(each) for each in found.trusts],
        )


class OutboundCredential(BaseModel):
    """A partner interface and the credentials it is called with, newest first."""

    organization: str
    name: str
    title: str
    host_pattern: str
    server_ca: str
    sni: str
    minimum_tls: Literal["1.2", "1.3"]
    state: Literal["draft", "active", "rotating", "retired"]
    created_by: str
    created_at: datetime
    not_after: datetime | None = Field(description="End of the certificate in use.")
    missing_confirmations: list[str]
    credentials: list[OutboundKey]

    @classmethod
    def of(cls, found: values.Outbound) -> OutboundCredential:
        current = found.current
        return cls(
            organization=found.organization,
            name=found.name,
            title=found.title,
            host_pattern=found.host_pattern,
            server_ca=found.server_ca,
            sni=found.sni,
            minimum_tls=found.minimum_tls,
            state=found.state,
            created_by=found.created_by,
            created_at=found.created_at,
            not_after=current.not_after if current else None,
            missing_confirmations=rotation.missing_confirmations(found),
            credentials=[OutboundKey.of(each) for each in found.credentials],
        )


class NewOutboundCredential(_Body):
    """A partner interface. ``server_ca`` is PEM; empty trusts what the system trusts."""

    organization: str
    name: str
    host_pattern: str = Field(description="api.example.com, or *.example.com.")
    title: str = ""
    server_ca: str = Field(default="", max_length=200_000)
    sni: str = ""
    minimum_tls: Literal["1.2", "1.3"] = "1.2"


class OutboundChanges(_Body):
    """What to change; the rest stays, and so does the host."""

    title: str | None = None
    server_ca: str | None = Field(default=None, max_length=200_000)
    sni: str | None = None
    minimum_tls: Literal["1.2", "1.3"] | None = None


class Pkcs12Import(_Body):
    """A PKCS #12 file in base64, with its password."""

    pkcs12: str = Field(max_length=_LARGEST_P12)
    password: SecretStr


class AlternativeName(_Body):
    """``type`` is dns, email, uri or ip."""

    type: str
    value: str


class RequestWish(_Body):
    """What the certificate request asks for; the key is made in the keystore and stays there."""

    subject: str
    names: list[AlternativeName] = Field(default_factory=list, max_length=100)
    key_algorithm: str = "P-256"
    provider: str = "software"


class RequestMade(BaseModel):
    request: str = Field(description="PEM.")


class CertificateGiven(_Body):
    certificate: str = Field(max_length=1_000_000, description="PEM, with its issuers.")


class SharingWish(_Body):
    """Who gets the certificate."""

    api: str
    contact: str = ""


class SharedAnswer(BaseModel):
    """What to give to the other side."""

    outbound: OutboundCredential
    certificate: str
    der: str = Field(description="Base64.")
    sha256: str
    spki_pin: str


class SwitchWish(_Body):
    reason: str = Field(default="", description="Why to switch although somebody did not confirm yet.")


class TestWish(_Body):
    host: str
    port: int = Field(default=443, ge=1, le=65_535)


class TestAnswer(BaseModel):
    """``code`` and ``why`` say what is wrong; null when both sides accepted each other."""

    ok: bool
    code: str | None
    why: str | None
    remedy: str | None
    tls_version: str | None
    cipher: str | None
    server_subject: str | None
    server_not_after: str | None


class DueAnswer(BaseModel):
    """A credential in use that ends soon."""

    organization: str
    name: str
    not_after: datetime
    stage: Literal["early", "late", "expired"]
    successor: bool


@router.get("/outbound")
async def list_outbound(mtls: GivenMtls, asker: Asker, asked: Asked) -> Items[OutboundCredential]:
    """The partner interfaces of the organizations one belongs to."""
    return page(map(OutboundCredential.of, await service.listing(mtls, asker)), asked, key="name")


@router.get("/outbound-due")
async def list_outbound_due(mtls: GivenMtls, asker: Asker) -> list[DueAnswer]:
    """The credentials in use that end within 30 days (long-lived ones) or 72 hours, of one's organizations."""
    asker.require(Permission.MTLS_VIEW)
    mine = {(each.organization, each.name) for each in await service.listing(mtls, asker)}
    async with mtls.database.read() as view:
        found = await rotation.due(view, clock.now())
    return [DueAnswer.model_validate(asdict(each)) for each in found if (each.organization, each.name) in mine]


@router.post("/outbound", status_code=201)
async def create_outbound(mtls: GivenMtls, asker: Asker, body: NewOutboundCredential) -> OutboundCredential:
    """Describe a partner interface."""
    wanted = values.NewOutbound(**body.model_dump(exclude={"organization"}))
    return OutboundCredential.of(await service.create(mtls, asker, body.organization, wanted))


@router.patch("/outbound/{organization}/{name}")
async def edit_outbound(
    mtls: GivenMtls, asker: Asker, organization: str, name: str, body: OutboundChanges
) -> OutboundCredential:
    """Change how the server of a partner interface is verified, and its title."""
    known = await service.get(mtls, asker, organization, name)
    kept = {each: getattr(known, each) for each in ("name", "host_pattern", *OutboundChanges.model_fields)}
    wanted = values.NewOutbound(**(kept | body.model_dump(exclude_none=True)))
    return OutboundCredential.of(await service.edit(mtls, asker, organization, wanted))


@router.get("/outbound/{organization}/{name}")
async def get_outbound(mtls: GivenMtls, asker: Asker, organization: str, name: str) -> OutboundCredential:
    """One partner interface with its credentials."""
    return OutboundCredential.of(await service.get(mtls, asker, organization, name))


@router.delete("/outbound/{organization}/{name}")
async def retire_outbound(mtls: GivenMtls, asker: Asker, organization: str, name: str) -> OutboundCredential:
    """End it, and destroy its keys."""
    return OutboundCredential.of(await service.retire(mtls, asker, organization, name))


@router.post("/outbound/{organization}/{name}/import")
async def import_outbound(
    mtls: GivenMtls, asker: Asker, organization: str, name: str, body: Pkcs12Import
) -> OutboundCredential:
    """Take key and certificate out of a PKCS #12 file."""
    try:
        data = base64.b64decode(body.pkcs12, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidInput("The PKCS #12 file is not base64.", code="not-pem-or-base64", target="pkcs12") from None
    return OutboundCredential.of(
        await service.import_pkcs12(mtls, asker, organization, name, data, body.password)
    )


@router.post("/outbound/{organization}/{name}/request")
async def request_outbound(
    mtls: GivenMtls, asker: Asker, organization: str, name: str, body: RequestWish
) -> RequestMade:
    """Make a key, and a certificate request for it."""
    names = [(each.type, each.value) for each in body.names]
    wanted = service.Wanted(body.subject, names, body.key_algorithm, body.provider)
    return RequestMade(request=request_pem(await service.request(mtls, asker, organization, name, wanted)))


@router.put("/outbound/{organization}/{name}/certificate")
async def install_outbound(
    mtls: GivenMtls, asker: Asker, organization: str, name: str, body: CertificateGiven
) -> OutboundCredential:
    """Install the certificate for the open request."""
    return OutboundCredential.of(await service.install(mtls, asker, organization, name, body.certificate))


@router.post("/outbound/{organization}/{name}/share")
async def share_outbound(
    mtls: GivenMtls, asker: Asker, organization: str, name: str, body: SharingWish
) -> SharedAnswer:
    """Record who gets the newest certificate, and return what to give him."""
    found, given = await sharing.share(mtls, asker, organization, name, api=body.api, contact=body.contact)
    return SharedAnswer(
        outbound=OutboundCredential.of(found),
        certificate=given.pem,
        der=base64.b64encode(given.der).decode(),
        sha256=given.sha256,
        spki_pin=given.spki_pin,
    )


@router.post("/outbound/{organization}/{name}/holders/{holder}/confirm")
async def confirm_outbound(
    mtls: GivenMtls, asker: Asker, organization: str, name: str, holder: UUID
) -> OutboundCredential:
    """Record that the other side installed the certificate."""
    return OutboundCredential.of(await sharing.confirm(mtls, asker, organization, name, holder))


@router.post("/outbound/{organization}/{name}/switch")
async def switch_outbound(
    mtls: GivenMtls, asker: Asker, organization: str, name: str, body: SwitchWish
) -> OutboundCredential:
    """Use the new credential from the next call on."""
    return OutboundCredential.of(await rotation.switch(mtls, asker, organization, name, reason=body.reason))


@router.post("/outbound/{organization}/{name}/test")
async def test_outbound(mtls: GivenMtls, asker: Asker, organization: str, name: str, body: TestWish) -> TestAnswer:
    """Connect to the partner with the credential in use, and say what happened."""
    found = await client.try_connection(mtls, asker, organization, name, body.host, body.port)
    failure = found.failure
    return TestAnswer(
        ok=failure is None,
        code=failure.code if failure else None,
        why=failure.why if failure else None,
        remedy=failure.remedy if failure else None,
        tls_version=found.tls_version,
        cipher=found.cipher,
        server_subject=found.server_subject,
        server_not_after=found.server_not_after,
    )
