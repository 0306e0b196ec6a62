"""Certificate profiles, built-in and custom."""

from __future__ import annotations

import asyncio
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel

from intaglio.core.principal import Permission
from intaglio.profiles import registry
from intaglio.profiles.declarations import dump_declaration
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


class ProfileDetails(ProfileSummary):
    """Exactly what certificates of the profile hold; ``declaration`` is its YAML."""

    facts: list[Fact]
    extensions: list[Extension]
    declaration: str


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


@router.get("/profiles")
async def list_profiles(
    services: Given,
    asker: Asker,
    asked: Asked,
    hidden: Annotated[bool, Query(description="Also those that only the platform itself uses.")] = False,
) -> Items[ProfileSummary]:
    """All profiles."""
    asker.require(Permission.CA_VIEW)
    found = [ProfileSummary.of(profile, "built-in") for profile in registry.listed(hidden=hidden)]
    return page(found, asked, key="id")


@router.get("/profiles/{profile_id}")
async def get_profile(services: Given, asker: Asker, profile_id: str) -> ProfileDetails:
    """What certificates of a profile will hold, and where each part comes from."""
    asker.require(Permission.CA_VIEW)
    profile = registry.resolve(profile_id)
    return _details(profile, "built-in")


@router.post("/profiles/{profile_id}/test")
async def try_profile(services: Given, asker: Asker, profile_id: str) -> Report:
    """Issue from a throw-away CA, compare with the declaration, lint."""
    asker.require(Permission.CA_VIEW)
    profile = registry.resolve(profile_id)
    return Report.of(await asyncio.to_thread(try_out, profile))


def _details(profile: CertificateProfile, state: str) -> ProfileDetails:
    described = describe(profile)
    return ProfileDetails(
        **ProfileSummary.of(profile, state).model_dump(),
        facts=[Fact(label=label, text=text) for label, text in described.facts],
        extensions=[Extension(**vars(extension)) for extension in described.extensions],
        declaration=dump_declaration(profile),
    )
