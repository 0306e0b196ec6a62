"""Credentials of enrolment endpoints: what applicants prove themselves with."""

from __future__ import annotations

from datetime import datetime

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from intaglio.enrollment import credential_administration
from intaglio.enrollment.credential_administration import NewCredential, NewKind
from intaglio.enrollment.credentials import Bound, StoredCredential
from intaglio.enrollment.values import Protocol
from intaglio.server.management.access import Asked, Asker, Given
from intaglio.server.management.lists import Items, page

router = APIRouter(tags=["enrollment"])

_ENDPOINT = "/enrollment/endpoints/{protocol}/{name}/credentials"


class EnrollmentCredential(BaseModel):
    """What somebody may ask with. Its secret is not shown again."""

    kind: str
    name: str
    bound: Bound
    uses_left: int | None = Field(description="null: any number.")
    transaction: str | None = Field(description="Of a one-time challenge: the transaction that used it.")
    not_after: datetime | None
    created_by: str
    created_at: datetime
    used_at: datetime | None


class NewEnrollmentCredential(EnrollmentCredential):
    """A credential that was made just now."""

    secret: str = Field(description="Shown this once; empty when it was given.")


class CredentialWish(BaseModel):
    """A credential to be made. ``secret`` is made up when it is left out; of a webhook it is the token it gets."""

    model_config = ConfigDict(extra="forbid")

    kind: NewKind
    name: str | None = Field(
        default=None, max_length=200, description="User, key id or reference; made up when left out."
    )
    secret: SecretStr | None = None
    bound: Bound = Bound()
    uses: int | None = Field(default=None, ge=1, le=1_000_000, description="null: any number.")
    not_after: datetime | None = None
    url: str | None = Field(default=None, max_length=1000, description="Of a webhook: where it is asked (https).")
    ca_certificate: str | None = Field(
        default=None, max_length=65536, description="Of a webhook: CA of its server (PEM)."
    )


@router.get(_ENDPOINT)
async def list_enrollment_credentials(
    services: Given, asker: Asker, asked: Asked, protocol: Protocol, name: str
) -> Items[EnrollmentCredential]:
    """The credentials of an endpoint."""
    found = await credential_administration.list_credentials(services.enrollment, asker, protocol, name)
    return page(map(_credential, found), asked, key="name")


@router.post(_ENDPOINT, status_code=201)
async def create_enrollment_credential(
    services: Given, asker: Asker, protocol: Protocol, name: str, body: CredentialWish
) -> NewEnrollmentCredential:
    """Make a credential. Its secret is shown this once."""
    wish = NewCredential.model_validate(body.model_dump())
    made = await credential_administration.create_credential(services.enrollment, asker, protocol, name, wish)
    return NewEnrollmentCredential(**_credential(made.stored).model_dump(), secret=made.secret)


@router.delete(_ENDPOINT + "/{kind}/{credential:path}", status_code=204)
async def delete_enrollment_credential(
    services: Given, asker: Asker, protocol: Protocol, name: str, kind: NewKind, credential: str
) -> None:
    """Delete a credential; it counts no longer at once."""
    await credential_administration.delete_credential(services.enrollment, asker, protocol, name, kind, credential)


def _credential(found: StoredCredential) -> EnrollmentCredential:
    return EnrollmentCredential(
        kind=found.kind,
        name=found.name,
        bound=found.bound,
        uses_left=found.uses_left,
        transaction=found.transaction,
        not_after=found.not_after,
        created_by=found.created_by,
        created_at=found.created_at,
        used_at=found.used_at,
    )
