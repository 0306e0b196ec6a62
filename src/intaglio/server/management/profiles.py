"""Certificate profiles, built-in and custom."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from intaglio.authority import custom_profiles
from intaglio.authority.custom_profiles import StoredProfile
from intaglio.core.errors import InvalidInput
from intaglio.core.principal import Permission
from intaglio.profiles import custom
from intaglio.profiles.describe import describe
from intaglio.profiles.model import CertificateProfile
from intaglio.profiles.testing import ProfileReport
from intaglio.profiles.testing import try_profile as try_out
from intaglio.server.management.access import Asked, Asker, Given
from intaglio.server.management.lists import Items, page

router = APIRouter(tags=["profiles"])


class ProfileSummary(BaseModel):
    """A profile in a list. ``state`` is built-in, draft, active or retired."""

    id: str
    title: str
    group: str
    kind: str
    version: int
    state: str
    exposed: bool
    modes: list[str]
    channels: list[str]

    @classmethod
    def of(cls, profile: CertificateProfile, state: str) -> ProfileSummary:
        return cls(
            id=profile.id,
            title=profile.title,
            group=profile.group,
            kind=profile.kind,
            version=profile.version,
            state=state,
            exposed=profile.exposed,
            modes=list(profile.issuance_modes),
            channels=list(profile.channels),
        )


class Fact(BaseModel):
    label: str
    text: str


class Extension(BaseModel):
    """One extension of the certificates: when it is present, and where its value comes from."""

    name: str
    oid: str
    critical: bool
    value: str
    source: Literal["profile", "issuer", "key", "request"]
    present: str


class Version(BaseModel):
    """One version of a profile, and who made and approved it."""

    version: int
    state: str
    created_by: str
    created_at: datetime | None
    approved_by: str | None
    approved_at: datetime | None

    @classmethod
    def of(cls, stored: StoredProfile) -> Version:
        return cls(
            version=stored.profile.version,
            state=stored.state,
            created_by=stored.created_by,
            created_at=stored.created_at,
            approved_by=stored.approved_by,
            approved_at=stored.approved_at,
        )


class ProfileDetails(ProfileSummary):
    """Exactly what certificates of the profile hold; ``declaration`` is its YAML."""

    facts: list[Fact]
    extensions: list[Extension]
    declaration: str
    offered_by: list[str] = Field(description="The CAs that offer it.")
    versions: list[Version]


class Finding(BaseModel):
    """Something the linter found."""

    severity: str
    code: str
    text: str


class Report(BaseModel):
    """What came of trying a profile out. ``differences`` between what is declared and what was issued."""

    profile: str
    ok: bool
    differences: list[str]
    findings: list[Finding]
    warnings: list[str]

    @classmethod
    def of(cls, report: ProfileReport) -> Report:
        return cls(
            profile=report.profile_id,
            ok=report.ok,
            differences=list(report.differences),
            findings=[Finding(severity=f.severity, code=f.code, text=f.text) for f in report.findings],
            warnings=list(report.warnings),
        )


class NewProfile(BaseModel):
    """Either ``declaration`` (YAML), or a clone: ``id``, ``based_on`` and the fields that ``changes`` replaces."""

    model_config = ConfigDict(extra="forbid")

    declaration: str | None = Field(default=None, max_length=131072)
    id: str | None = None
    based_on: str | None = None
    changes: dict[str, Any] = {}


class ProfileChanges(BaseModel):
    """Fields to replace as a whole; others stay."""

    model_config = ConfigDict(extra="forbid")

    changes: dict[str, Any]


class Declaration(BaseModel):
    model_config = ConfigDict(extra="forbid")

    declaration: str = Field(max_length=131072, description="YAML.")


class Approval(BaseModel):
    """``version`` is the draft that was looked at; without it the newest."""

    model_config = ConfigDict(extra="forbid")

    version: int | None = None


@router.get("/profiles")
async def list_profiles(
    services: Given,
    asker: Asker,
    asked: Asked,
    hidden: Annotated[
        bool, Query(description="Also those that only the platform itself uses, and retired ones.")
    ] = False,
) -> Items[ProfileSummary]:
    """The built-in profiles and the custom ones."""
    found = await custom_profiles.list_profiles(services.authority, asker, hidden=hidden)
    return page((ProfileSummary.of(each.profile, each.state) for each in found), asked, key="id")


@router.post("/profiles", status_code=201)
async def create_profile(services: Given, asker: Asker, body: NewProfile) -> ProfileSummary:
    """Create a custom profile, or a new version of it when it is declared; it is a draft until it is activated."""
    if body.declaration is not None:
        made = await custom_profiles.declare_profile(services.authority, asker, body.declaration)
    elif body.id and body.based_on:
        made = await custom_profiles.clone_profile(services.authority, asker, body.based_on, body.id, body.changes)
    else:
        raise InvalidInput("Send a declaration, or id and based_on.", code="profile-source", target="declaration")
    return ProfileSummary.of(made.profile, made.state)


@router.post("/profiles/lint")
async def lint_profile(services: Given, asker: Asker, body: Declaration) -> Report:
    """Check a declaration without storing it: grammar, rules, trial issuance, linter."""
    asker.require(Permission.PROFILES_MANAGE)
    profile = custom.from_declaration(body.declaration)
    return Report.of(await asyncio.to_thread(try_out, profile))


@router.get("/profiles/{profile_id}")
async def get_profile(services: Given, asker: Asker, profile_id: str) -> ProfileDetails:
    """What certificates of a profile will hold, and where each part comes from."""
    found = await custom_profiles.get_profile(services.authority, asker, profile_id)
    described = describe(found.current.profile)
    return ProfileDetails(
        **ProfileSummary.of(found.current.profile, found.current.state).model_dump(),
        facts=[Fact(label=label, text=text) for label, text in described.facts],
        extensions=[Extension(**vars(extension)) for extension in described.extensions],
        declaration=found.current.declaration,
        offered_by=list(found.offered_by),
        versions=[Version.of(each) for each in found.versions],
    )


@router.patch("/profiles/{profile_id}")
async def revise_profile(services: Given, asker: Asker, profile_id: str, body: ProfileChanges) -> ProfileSummary:
    """A new version of a custom profile; a draft until it is activated."""
    made = await custom_profiles.revise_profile(services.authority, asker, profile_id, body.changes)
    return ProfileSummary.of(made.profile, made.state)


@router.post("/profiles/{profile_id}/test")
async def try_profile(services: Given, asker: Asker, profile_id: str) -> Report:
    """Issue from a throw-away CA under the newest version, compare with the declaration, lint."""
    return Report.of(await custom_profiles.try_out_profile(services.authority, asker, profile_id))


@router.post("/profiles/{profile_id}/activate")
async def activate_profile(services: Given, asker: Asker, profile_id: str, body: Approval) -> ProfileSummary:
    """Approve a draft after a clean lint; not by its author while somebody else could."""
    made = await custom_profiles.activate_profile(services.authority, asker, profile_id, version=body.version)
    return ProfileSummary.of(made.profile, made.state)


@router.post("/profiles/{profile_id}/retire", status_code=204)
async def retire_profile(
    services: Given,
    asker: Asker,
    profile_id: str,
    force: Annotated[bool, Query(description="Although CAs offer it.")] = False,
) -> None:
    """Let nothing be issued under a custom profile any more."""
    await custom_profiles.retire_profile(services.authority, asker, profile_id, force=force)
