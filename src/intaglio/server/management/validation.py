"""Status authorities, their sources, directories and credentials."""

from __future__ import annotations

import base64
import binascii
from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from intaglio.core.errors import InvalidInput
from intaglio.core.principal import Permission
from intaglio.server.management.access import Asked, Asker, Given
from intaglio.server.management.lists import Items, page
from intaglio.validation.authorities import credentials, directories, est_credentials, issued_credentials, service
from intaglio.validation.authorities.checks import Problem
from intaglio.validation.authorities.directories import DirectorySpec
from intaglio.validation.authorities.est_credentials import EstServer
from intaglio.validation.authorities.values import Authority, AuthoritySpec
from intaglio.validation.context import Validation
from intaglio.validation.sources import service as source_service
from intaglio.validation.sources.freshness import State
from intaglio.validation.status_profiles import PROFILES
from intaglio.x509.certificates import pem
from intaglio.x509.names import Name

router = APIRouter(prefix="/validation", tags=["validation"])

_LARGEST_P12 = 1_400_000  # base64 of 1 MiB


def validation_of(services: Given) -> Validation:
    """The services of status authorities of this process."""
    return services.validation


Used = Annotated[Validation, Depends(validation_of)]
SeenVersion = Annotated[int | None, Query(description="The version that was seen; another one refuses the change.")]


class SourceState(BaseModel):
    """How current the knowledge is. ``stale_reason`` says why answers are tryLater; null when they are not."""

    complete: bool
    entries: int
    this_update: datetime | None
    next_update: datetime | None
    last_ok_at: datetime | None
    stale_reason: str | None
    last_error: str | None

    @classmethod
    def of(cls, found: State) -> SourceState:
        return cls.model_validate(found, from_attributes=True)


class StatusAuthority(AuthoritySpec):
    """A CA whose certificates' status is given out at `/eva` and `/eva/{name}`."""

    id: UUID
    version: int
    state: SourceState | None = Field(description="Null for our own CAs, and while it is disabled.")
    created_by: str
    created_at: datetime
    changed_at: datetime

    @classmethod
    def of(cls, found: Authority, state: State | None) -> StatusAuthority:
        names = ("id", "version", "created_by", "created_at", "changed_at")
        shown = None if state is None else SourceState.of(state)
        return cls(
            **{name: getattr(found, name) for name in names},
            **{name: getattr(found.spec, name) for name in AuthoritySpec.model_fields},
            state=shown,
        )


class ProblemFound(BaseModel):
    """Something wrong with a configuration. An error keeps it from being saved."""

    level: Literal["error", "warning"]
    code: str
    target: str
    message: str

    @classmethod
    def of(cls, found: Problem) -> ProblemFound:
        return cls(**asdict(found))


class SavedAuthority(BaseModel):
    authority: StatusAuthority
    warnings: list[ProblemFound]

    @classmethod
    def of(cls, saved: service.Saved) -> SavedAuthority:
        shown = StatusAuthority.of(saved.authority, None)
        return cls(authority=shown, warnings=[ProblemFound.of(each) for each in saved.warnings])


class Checked(BaseModel):
    """``ok``: it would be saved."""

    ok: bool
    problems: list[ProblemFound]


class PullState(BaseModel):
    """The last look at a source. ``done`` counts entries or events; ``held``: a process looks after the source."""

    waiting: bool
    running: bool
    started_at: datetime | None
    ended_at: datetime | None
    outcome: str | None
    detail: str | None
    done: int
    held: bool

    @classmethod
    def of(cls, found: Any) -> PullState:
        return cls(**asdict(found))


class SourcePart(BaseModel):
    """One file or feed. The part of a delta CRL ends in `:delta`, the list of serial numbers is `:serials`."""

    part: str
    entries: int
    complete: bool
    crl_number: str | None = Field(description="A number of up to 20 octets, as text.")
    this_update: datetime | None
    next_update: datetime | None
    last_ok_at: datetime | None
    last_tried_at: datetime | None
    last_error: str | None


class StatusSource(BaseModel):
    """The source of an authority."""

    name: str
    source: Literal["native", "gateway", "crl"]
    enabled: bool
    state: SourceState | None
    pull: PullState
    parts: list[SourcePart]

    @classmethod
    def of(cls, found: source_service.Source) -> StatusSource:
        return cls(
            name=found.authority.name,
            source=found.authority.source,
            enabled=found.authority.enabled,
            state=None if found.state is None else SourceState.of(found.state),
            pull=PullState.of(found.pull),
            parts=[
                SourcePart(**{**asdict(part), "crl_number": None if part.crl_number is None else str(part.crl_number)})
                for part in found.parts
            ],
        )


class CheckFinding(BaseModel):
    about: str
    ok: bool
    detail: str


class CheckResult(BaseModel):
    ok: bool
    findings: list[CheckFinding]

    @classmethod
    def of(cls, found: list[source_service.Finding]) -> CheckResult:
        shown = [CheckFinding(**asdict(each)) for each in found]
        return cls(ok=source_service.all_ok(found), findings=shown)


class StatusDirectory(BaseModel):
    """An LDAP server. The password is never shown."""

    name: str
    url: str
    start_tls: bool
    server_ca: str
    user_name: str
    has_password: bool
    is_protected: bool = Field(description="Whether what is read, and the password, goes over TLS.")
    created_by: str
    created_at: datetime
    changed_at: datetime

    @classmethod
    def of(cls, found: directories.DirectoryView) -> StatusDirectory:
        return cls.model_validate(found, from_attributes=True)


class GatewayCredential(BaseModel):
    """A client credential for gateways; the key is never shown. ``latest`` is used where none is named."""

    id: UUID
    sn: str = Field(alias="SN", description="Serial number: hexadecimal octets with colons.")
    dn: str = Field(alias="DN", description="Subject.")
    certificate: str = Field(description="DER in base64.")
    pem: str
    not_before: datetime = Field(alias="notBefore")
    not_after: datetime = Field(alias="notAfter")
    latest: bool
    origin: str = Field(description="pkcs12; or issued by one of our CAs, or est: both are renewed by themselves.")
    renew_at: datetime | None = Field(description="When it is renewed by itself; null: it is not.")
    created_by: str
    created_at: datetime

    @classmethod
    def of(cls, found: credentials.Credential) -> GatewayCredential:
        names = ("id", "latest", "origin", "created_by", "created_at")
        return cls.model_validate(
            {
                **{name: getattr(found, name) for name in names},
                "SN": ":".join(f"{octet:02X}" for octet in found.serial),
                "DN": found.subject,
                "certificate": base64.b64encode(found.certificate).decode(),
                "pem": pem(found.certificate),
                "notBefore": found.not_before,
                "notAfter": found.not_after,
                "renew_at": issued_credentials.renew_at(found) if found.renews_itself else None,
            }
        )


class CredentialFile(BaseModel):
    """A PKCS #12 file in base64, with its password."""

    model_config = ConfigDict(extra="forbid")

    pkcs12: str = Field(max_length=_LARGEST_P12)
    password: SecretStr


class CredentialWish(BaseModel):
    """A client certificate to be made."""

    model_config = ConfigDict(extra="forbid")

    ca: str = Field(max_length=100, description="Our CA that certifies it: ORGANIZATION~ID.")
    subject: str = Field(max_length=1_000, description="Such as CN=validation,O=Example; gateways know clients by it.")


class EstWish(BaseModel):
    """A client certificate to be had by EST."""

    model_config = ConfigDict(extra="forbid")

    url: str = Field(max_length=1_000, description="Such as https://ca.example/.well-known/est/LABEL.")
    server_ca: str = Field(
        default="", max_length=100_000, description="CAs of the server (PEM); empty: those that this host trusts."
    )
    subject: str = Field(max_length=1_000, description="Such as CN=validation,O=Example; gateways know clients by it.")
    reference: str = Field(min_length=1, max_length=200, pattern="^[^:]+$", description="Reference number or user.")
    code: SecretStr = Field(min_length=1, max_length=1_000, description="Authorization code or password.")


class EstRenewal(BaseModel):
    """Where a credential is renewed."""

    model_config = ConfigDict(extra="forbid")

    url: str | None = Field(default=None, max_length=1_000, description="null: where it came from.")
    server_ca: str = Field(default="", max_length=100_000, description="CAs of that server (PEM).")


class Profile(BaseModel):
    """How certificates are answered about. ``knowledge``: events (our CAs, gateways) or crl."""

    id: str
    knowledge: Literal["events", "crl"]
    unknown: Literal["revoked", "good", "unknown"]
    next_update: Literal["none", "eight-hours", "source"]
    archive_cutoff: bool
    serial_list: bool


# ---- authorities -----------------------------------------------------------------------------------------------------


@router.get("/profiles")
async def list_status_profiles(asker: Asker) -> list[Profile]:
    """The status profiles."""
    asker.require(Permission.VALIDATION_VIEW)
    return [Profile(**asdict(each)) for each in PROFILES.values()]


@router.get("/authorities")
async def list_status_authorities(validation: Used, asker: Asker, asked: Asked) -> Items[StatusAuthority]:
    """All status authorities."""
    found = await service.listing(validation, asker)
    return page((StatusAuthority.of(each.authority, each.state) for each in found), asked, key="name")


@router.post("/authorities", status_code=201)
async def create_status_authority(validation: Used, asker: Asker, body: AuthoritySpec) -> SavedAuthority:
    """Create a status authority. It answers tryLater until its source has been read completely once."""
    return SavedAuthority.of(await service.create(validation, asker, body))


@router.post("/validate")
async def validate_status_authority(
    validation: Used,
    asker: Asker,
    body: AuthoritySpec,
    replaces: Annotated[str | None, Query(description="The authority that it is to change.")] = None,
) -> Checked:
    """List everything that is wrong with a configuration, without saving it."""
    found = await service.validate(validation, asker, body, replaces=replaces)
    return Checked(ok=all(each.level != "error" for each in found), problems=[ProblemFound.of(each) for each in found])


@router.get("/authorities/{name}")
async def get_status_authority(validation: Used, asker: Asker, name: str) -> StatusAuthority:
    """One status authority."""
    found = await service.get(validation, asker, name)
    return StatusAuthority.of(found.authority, found.state)


@router.put("/authorities/{name}")
async def change_status_authority(
    validation: Used, asker: Asker, name: str, body: AuthoritySpec, version: SeenVersion = None
) -> SavedAuthority:
    """Replace the configuration; what is known of the certificates stays."""
    return SavedAuthority.of(await service.change(validation, asker, name, body, version=version))


@router.post("/authorities/{name}/reset-source")
async def reset_status_source(
    validation: Used, asker: Asker, name: str, body: AuthoritySpec, version: SeenVersion = None
) -> SavedAuthority:
    """Give it another source and forget what the one before said, in one step; tryLater until the new one is read."""
    return SavedAuthority.of(await service.reset_source(validation, asker, name, body, version=version))


@router.delete("/authorities/{name}")
async def delete_status_authority(validation: Used, asker: Asker, name: str) -> StatusAuthority:
    """Delete it, and everything known of its certificates. Answers with what it was."""
    found = await service.remove(validation, asker, name)
    return StatusAuthority.of(found.authority, found.state)


# ---- sources ---------------------------------------------------------------------------------------------------------


@router.get("/sources")
async def list_status_sources(validation: Used, asker: Asker, asked: Asked) -> Items[StatusSource]:
    """How reading the sources is going."""
    return page(map(StatusSource.of, await source_service.sources(validation, asker)), asked, key="name")


@router.get("/sources/{name}")
async def get_status_source(validation: Used, asker: Asker, name: str) -> StatusSource:
    """How reading one source is going."""
    return StatusSource.of((await source_service.sources(validation, asker, name))[0])


@router.post("/sources/{name}/pull", status_code=202)
async def pull_status_source(validation: Used, asker: Asker, name: str) -> PullState:
    """Have a source read now. Progress is in `GET /validation/sources/{name}`."""
    return PullState.of(await source_service.pull(validation, asker, name))


@router.post("/sources/{name}/check")
async def check_status_source(validation: Used, asker: Asker, name: str) -> CheckResult:
    """Look at everything an authority is read from, without taking it in."""
    return CheckResult.of(await source_service.check(validation, asker, name))


@router.get("/database")
async def check_status_database(validation: Used, asker: Asker) -> CheckResult:
    """Whether the database has the tables, and lets them be written."""
    return CheckResult.of(await source_service.check_database(validation, asker))


# ---- directories and credentials -------------------------------------------------------------------------------------


@router.get("/directories")
async def list_status_directories(validation: Used, asker: Asker, asked: Asked) -> Items[StatusDirectory]:
    """Directories that CRLs are read from."""
    return page(map(StatusDirectory.of, await directories.listing(validation, asker)), asked, key="name")


@router.put("/directories/{name}")
async def save_status_directory(validation: Used, asker: Asker, name: str, body: DirectorySpec) -> StatusDirectory:
    """Define a directory, or change it. Without `password` the one that is set stays."""
    if body.name != name:
        raise InvalidInput("The name in the path and in the body differ.", code="name-differs", target="name")
    return StatusDirectory.of(await directories.save(validation, asker, body))


@router.delete("/directories/{name}", status_code=204)
async def delete_status_directory(validation: Used, asker: Asker, name: str) -> None:
    """Delete a directory that no authority uses."""
    await directories.remove(validation, asker, name)


@router.get("/credentials")
async def list_gateway_credentials(validation: Used, asker: Asker, asked: Asked) -> Items[GatewayCredential]:
    """Client credentials for gateways."""
    return page(map(GatewayCredential.of, await credentials.listing(validation, asker)), asked, key="id")


@router.post("/credentials", status_code=201)
async def import_gateway_credential(validation: Used, asker: Asker, body: CredentialFile) -> GatewayCredential:
    """Import a PKCS #12 file with exactly one client certificate."""
    try:
        data = base64.b64decode(body.pkcs12, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidInput("The PKCS #12 file is not base64.", code="not-pem-or-base64", target="pkcs12") from None
    return GatewayCredential.of(await credentials.import_pkcs12(validation, asker, data, body.password))


@router.post("/credentials/issue", status_code=201)
async def issue_gateway_credential(validation: Used, asker: Asker, body: CredentialWish) -> GatewayCredential:
    """Have one of our CAs certify a client. It is renewed after two thirds of its life, by itself."""
    return GatewayCredential.of(await issued_credentials.issue(validation, asker, body.ca, body.subject))


@router.post("/credentials/enroll", status_code=201)
async def enroll_gateway_credential(validation: Used, asker: Asker, body: EstWish) -> GatewayCredential:
    """Have an EST server certify a client. It is renewed there after two thirds of its life, by itself."""
    server = EstServer.of(body.url, body.server_ca)
    subject = Name.parse(body.subject)
    made = await est_credentials.enroll(validation, asker, server, subject, body.reference, body.code)
    return GatewayCredential.of(made)


@router.post("/credentials/{credential}/renew", status_code=201)
async def renew_gateway_credential(
    validation: Used, asker: Asker, credential: UUID, body: EstRenewal
) -> GatewayCredential:
    """Renew a credential by EST with itself, now; its successor."""
    server = None if body.url is None else EstServer.of(body.url, body.server_ca)
    return GatewayCredential.of(await est_credentials.renew(validation, asker, credential, server))


@router.delete("/credentials/{credential}", status_code=204)
async def delete_gateway_credential(validation: Used, asker: Asker, credential: UUID) -> None:
    """Delete a credential that no authority names, and destroy its key."""
    await credentials.remove(validation, asker, credential)
