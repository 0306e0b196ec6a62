"""What must hold before a CA is made or changed."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import func, select

from intaglio.authority import models
from intaglio.authority.cas.values import NewCa, SubjectAttribute
from intaglio.core.clock import rfc3339
from intaglio.core.errors import InvalidInput, NotFound, StateConflict
from intaglio.core.identifiers import CA_ID
from intaglio.db.engine import Transaction
from intaglio.profiles import registry
from intaglio.profiles.model import CertificateProfile
from intaglio.x509.names import Name

#: A deleted CA keeps its id this long, and longer while certificates of it have not expired.
RESERVATION = timedelta(hours=24)


def checked_subject(subject: str | Iterable[SubjectAttribute]) -> Name:
    """The subject of a CA. Raises InvalidInput, also without a CN."""
    try:
        if isinstance(subject, str):
            name = Name.parse(subject)
        else:
            name = Name.build([(attribute.type, attribute.value) for attribute in subject])
    except InvalidInput as error:
        error.target = "subject"
        raise
    if not any(value.strip() for value in name.common_names):
        raise InvalidInput(
            "The subject of a CA needs a common name.",
            code="common-name-required",
            remedy="Add CN=...",
            target="subject",
        )
    return name


async def checked_profiles(view: Transaction, profile_ids: Iterable[str]) -> list[str]:
    """The ids, in their normal spelling and order, of profiles that a CA can offer: built-in or active custom ones.

    Raises InvalidInput naming those that do not exist, and when there is none.
    """
    table = models.custom_profile
    rows = await view.all(select(table.c.declaration).where(table.c.state == "active"))
    custom = {p.id: p for p in (CertificateProfile.model_validate(row["declaration"]) for row in rows)}
    found: dict[str, None] = {}
    for profile_id in filter(str.strip, profile_ids):
        try:
            profile = registry.resolve(profile_id, custom)
        except NotFound as error:
            raise InvalidInput(error.detail, code="profile-unknown", remedy=error.remedy, target="profiles") from None
        if not profile.exposed:
            raise InvalidInput(
                f'The profile "{profile.id}" is for the platform itself.',
                code="profile-not-assignable",
                target="profiles",
            )
        found[profile.id] = None
    if not found:
        raise InvalidInput(
            "A CA needs at least one certificate profile.",
            code="profile-required",
            remedy="`intaglio profile list` shows the profiles.",
            target="profiles",
        )
    return list(found)


async def check_ca_id(view: Transaction, organization_id: UUID, organization: str, name: str) -> str:
    """The id of a new CA. Raises InvalidInput (grammar), StateConflict (taken, or still reserved after a deletion)."""
    CA_ID.check(name, target="name")
    c = models.ca.c
    same = (c.organization_id == organization_id) & (c.name == name)
    if await view.scalar(select(c.id).where(same, c.state != "deleted")):
        raise StateConflict(
            f'Organization "{organization}" has a CA "{name}" already.',
            code="ca-exists",
            remedy="Choose another id.",
            target="name",
        )
    until = await view.scalar(select(func.max(c.reserved_until)).where(same, c.state == "deleted"))
    if until is not None and until > view.now:
        raise StateConflict(
            f'The id "{name}" is reserved until {rfc3339(until)}: it belonged to a deleted CA whose certificates and '
            "URLs may still be in use.",
            code="ca-id-reserved",
            remedy="Choose another id, or wait until then.",
            target="name",
            extra={"reserved_until": rfc3339(until)},
        )
    return name


def check_not_after(wanted: NewCa, now: datetime) -> None:
    """Raise InvalidInput for an expiry that is over already."""
    if wanted.not_after is not None and wanted.not_after <= now:
        raise InvalidInput(
            f"The expiration date {rfc3339(wanted.not_after)} is in the past.",
            code="validity-in-the-past",
            target="not_after",
        )
