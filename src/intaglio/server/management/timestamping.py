"""Timestamp issuers, their certificates, and the clock."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from intaglio.asn1.algorithms import KeyAlgorithm
from intaglio.asn1.signature_schemes import Digest
from intaglio.authority.cas.values import KeyType
from intaglio.core.errors import InvalidInput
from intaglio.core.identifiers import serial_hex
from intaglio.core.principal import Permission
from intaglio.platform import live_settings
from intaglio.server.management import encoding
from intaglio.server.management.access import Asked, Asker, Given
from intaglio.server.management.lists import Items, page
from intaglio.timestamping import issuers
from intaglio.timestamping.checks import Finding
from intaglio.timestamping.clock import gate
from intaglio.timestamping.health import clock_members
from intaglio.timestamping.issuers import IssuerView, NewIssuer
from intaglio.timestamping.settings import Timestamping
from intaglio.timestamping.values import Accuracy, HashName, PolicyOid, SignerOptions, TokenProfile
from intaglio.x509.certificates import CertificateInfo
from intaglio.x509.requests import request_pem

router = APIRouter(tags=["timestamping"])

_PEM = "application/x-pem-file"
_TEXT: dict[int | str, dict[str, Any]] = {200: {"content": {_PEM: {"schema": {"type": "string"}}}}}
_LARGEST = 262144
_MOST_CHAIN = 20


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class SignerCertificate(BaseModel):
    """The certificate that tokens are signed with."""

    subject: str
    issuer: str
    serial_number: str
    not_before: datetime
    not_after: datetime
    renew_at: datetime | None = Field(description="When it is renewed by itself; null: it is not.")
    certificate: str = Field(description="PEM.")
    chain: list[str] = Field(description="PEM, issuer first.")


class TimestampIssuer(BaseModel):
    """An endpoint at which timestamps are asked for. ``accuracy`` is in microseconds."""

    name: str
    url: str
    enabled: bool
    profile: TokenProfile
    ca: str | None = Field(description="Our CA that certifies it; null: another one.")
    shared_with: list[str] = Field(description="Issuers that sign with the same certificate.")
    key_algorithm: KeyAlgorithm
    provider: str
    request_pending: bool
    certificate: SignerCertificate | None
    version: int
    created_by: str
    created_at: datetime
    changed_at: datetime


class SignerWish(_Body):
    """How keys are made, and what certificates say."""

    key_algorithm: KeyType = KeyAlgorithm.ECDSA_P256
    provider: str = Field(default="software", description="Where keys are made: software, pkcs11:TOKEN.")
    subject: str = Field(default="", description="Subject of the certificates; empty: made up.")
    lifetime_days: int = Field(default=1095, ge=1, le=3660)
    policies: list[PolicyOid] = Field(default=[], max_length=16, description="Certificate policies.")
    access_information: bool = True


class IssuerWish(_Body):
    """An issuer to be made: certified by ``ca``, or with the certificate of ``share_with``, or with a request for
    another CA."""

    name: str
    profile: TokenProfile
    ca: str | None = None
    share_with: str | None = None
    signer: SignerWish = SignerWish()
    enabled: bool = True


class ProfileChanges(_Body):
    """What is left out stays; an accuracy of 0 takes it out of the tokens."""

    policy: PolicyOid | None = None
    accuracy: Accuracy | Literal[0, "0", "none"] | None = None
    hashes: list[HashName] | None = None
    digest: Digest | None = None
    ordering: bool | None = None
    serial_octets: int | None = None
    qualified: bool | None = None
    log_responses: bool | None = None


class IssuerChanges(_Body):
    """What is left out stays. ``version`` refuses the change when somebody else was faster."""

    profile: ProfileChanges = ProfileChanges()
    enabled: bool | None = None
    version: int | None = Field(default=None, ge=1)


class RequestWish(_Body):
    """``new_key`` false: the request is over the key in use, or over that of the request which still waits."""

    new_key: bool = False


class SignedCertificate(_Body):
    """PEM, or base64 of DER or PKCS #7; CA certificates may stand behind it or in ``chain``."""

    certificate: str = Field(max_length=_LARGEST)
    chain: list[str] = Field(default=[], max_length=_MOST_CHAIN)


class Draft(_Body):
    """What would change; nothing is changed."""

    profile: ProfileChanges = ProfileChanges()
    certificate: str | None = Field(default=None, max_length=_LARGEST)
    chain: list[str] = Field(default=[], max_length=_MOST_CHAIN)


class CheckFinding(BaseModel):
    """Something that is wrong, or should be looked at."""

    level: Literal["error", "warning"]
    code: str
    detail: str
    remedy: str


class Verdict(BaseModel):
    """``ok``: no errors; warnings may be there."""

    ok: bool
    findings: list[CheckFinding]


class ClockReport(BaseModel):
    """What the source of time says at this moment; offset and error are in seconds."""

    model_config = ConfigDict(extra="allow")

    status: Literal["UP", "DOWN"]
    source: str
    offset: float | None
    error: float | None


@router.get("/timestamping/issuers")
async def list_timestamp_issuers(services: Given, asker: Asker, asked: Asked) -> Items[TimestampIssuer]:
    """All timestamp issuers."""
    found = await issuers.list_issuers(services.timestamps, asker)
    return page([_issuer(services.settings.public_base, each) for each in found], asked, key="name")


@router.post("/timestamping/issuers", status_code=201)
async def create_timestamp_issuer(services: Given, asker: Asker, body: IssuerWish) -> TimestampIssuer:
    """Make an issuer: its key, and its certificate when one of our CAs makes it."""
    wish = NewIssuer(
        name=body.name,
        profile=body.profile,
        ca=body.ca,
        share_with=body.share_with,
        signer=SignerOptions(**body.signer.model_dump()),
        enabled=body.enabled,
    )
    return _issuer(services.settings.public_base, await issuers.create_issuer(services.timestamps, asker, wish))


@router.get("/timestamping/issuers/{name}")
async def get_timestamp_issuer(services: Given, asker: Asker, name: str) -> TimestampIssuer:
    """One issuer."""
    return _issuer(services.settings.public_base, await issuers.show_issuer(services.timestamps, asker, name))


@router.patch("/timestamping/issuers/{name}")
async def change_timestamp_issuer(services: Given, asker: Asker, name: str, body: IssuerChanges) -> TimestampIssuer:
    """Change what tokens say; counts on every process at once."""
    asker.require(Permission.TIMESTAMPING_MANAGE)  # before anything of the issuer is shown by what is wrong
    present = await issuers.show_issuer(services.timestamps, asker, name)
    changed = await issuers.change_issuer(
        services.timestamps,
        asker,
        name,
        profile=_merged(present.record.profile, body.profile),
        enabled=body.enabled,
        version=body.version or present.record.version,
    )
    return _issuer(services.settings.public_base, changed)


@router.delete("/timestamping/issuers/{name}", status_code=204)
async def delete_timestamp_issuer(services: Given, asker: Asker, name: str) -> None:
    """Delete an issuer and its key; its certificate stays valid, so that its tokens can be verified."""
    await issuers.delete_issuer(services.timestamps, asker, name)


@router.post("/timestamping/issuers/{name}/csr", response_class=PlainTextResponse, responses=_TEXT)
async def request_timestamp_certificate(
    services: Given, asker: Asker, name: str, body: RequestWish
) -> PlainTextResponse:
    """A certificate request (PKCS #10, PEM) for another CA to sign."""
    request = await issuers.request_certificate(services.timestamps, asker, name, new_key=body.new_key)
    return PlainTextResponse(request_pem(request), media_type=_PEM)


@router.put("/timestamping/issuers/{name}/certificate")
async def import_timestamp_certificate(
    services: Given, asker: Asker, name: str, body: SignedCertificate
) -> TimestampIssuer:
    """Take the certificate that another CA made. What does not fit leaves the old one in use."""
    data, chain = _certificates(body.certificate, body.chain)
    made = await issuers.import_certificate(services.timestamps, asker, name, data, chain)
    return _issuer(services.settings.public_base, made)


@router.post("/timestamping/issuers/{name}/renew")
async def renew_timestamp_issuer(services: Given, asker: Asker, name: str) -> TimestampIssuer:
    """A new key and certificate now; what the old ones signed stays valid."""
    return _issuer(services.settings.public_base, await issuers.renew_issuer(services.timestamps, asker, name))


@router.post("/timestamping/issuers/{name}/validate")
async def validate_timestamp_issuer(services: Given, asker: Asker, name: str, body: Draft) -> Verdict:
    """Say what is wrong with an issuer, or would be with these changes."""
    present = await issuers.show_issuer(services.timestamps, asker, name)
    data, chain = (None, ()) if body.certificate is None else _certificates(body.certificate, body.chain)
    found = await issuers.validate_issuer(
        services.timestamps,
        asker,
        name,
        profile=_merged(present.record.profile, body.profile),
        certificate=data,
        chain=chain,
    )
    return Verdict(ok=all(each.level != "error" for each in found), findings=[_finding(each) for each in found])


@router.get("/timestamping/clock")
async def check_timestamp_clock(services: Given, asker: Asker) -> ClockReport:
    """Ask the source of time now."""
    asker.require(Permission.TIMESTAMPING_VIEW)
    async with services.database.read() as view:
        settings = await live_settings.current(view, Timestamping)
    return ClockReport(**clock_members(await gate.check_once(settings)))


def _merged(profile: TokenProfile, changes: ProfileChanges) -> TokenProfile:
    values = {name: value for name, value in changes.model_dump().items() if value is not None}
    if values.get("accuracy") in (0, "0", "none"):
        values["accuracy"] = None
    try:
        return TokenProfile.model_validate({**profile.model_dump(), **values})
    except ValidationError as error:
        wrong = [("/" + "/".join(map(str, each["loc"])), each["msg"]) for each in error.errors(include_input=False)]
        raise InvalidInput(
            f"The profile cannot be so: {wrong[0][1]}.", code="timestamp-profile-invalid", fields=wrong
        ) from None


def _certificates(certificate: str, chain: list[str]) -> tuple[bytes | str, list[bytes | str]]:
    first = encoding.octets(certificate, target="certificate")
    return first, [encoding.octets(each, target="chain") for each in chain]


def _issuer(base: str, found: IssuerView) -> TimestampIssuer:
    record = found.record
    return TimestampIssuer(
        name=record.name,
        url=f"{base}/tsa/{record.name}",
        enabled=record.enabled,
        profile=record.profile,
        ca=found.ca,
        shared_with=list(found.shared_with),
        key_algorithm=record.signer.options.key_algorithm,
        provider=record.signer.options.provider,
        request_pending=record.signer.pending is not None,
        certificate=None if found.certificate is None else _certificate(found, found.certificate),
        version=record.version,
        created_by=record.created_by,
        created_at=record.created_at,
        changed_at=record.changed_at,
    )


def _certificate(found: IssuerView, certificate: CertificateInfo) -> SignerCertificate:
    signer = found.record.signer
    renewed = signer.kind == "automatic" and signer.current is not None
    return SignerCertificate(
        subject=certificate.subject.rfc4514,
        issuer=certificate.issuer.rfc4514,
        serial_number=serial_hex(certificate.serial),
        not_before=certificate.not_before,
        not_after=certificate.not_after,
        renew_at=signer.current.renew_at if renewed and signer.current is not None else None,
        certificate=certificate.pem,
        chain=[each.pem for each in found.chain],
    )


def _finding(each: Finding) -> CheckFinding:
    return CheckFinding.model_validate(vars(each))
