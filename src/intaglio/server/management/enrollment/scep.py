"""Registration authorities of SCEP."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel, Field

from intaglio.core.identifiers import serial_hex
from intaglio.enrollment.scep import administration
from intaglio.enrollment.scep.administration import AuthorityView
from intaglio.server.management.access import Asked, Asker, Given
from intaglio.server.management.lists import Items, page
from intaglio.x509.certificates import pem

router = APIRouter(tags=["enrollment"])


class RegistrationAuthority(BaseModel):
    """What messages are encrypted for, and answers signed by. ``state``: current, or replaced (it still answers whoever
    knows it); ``status`` is that of its certificates."""

    id: UUID
    ca: str
    endpoints: list[str] = Field(description="Names of the endpoints that tell clients of it.")
    state: str
    status: str
    key_algorithm: str
    provider: str
    serial: str
    not_before: datetime
    not_after: datetime
    renew_at: datetime
    certificate: str = Field(description="PEM.")
    signing_certificate: str | None = Field(description="PEM, where answers are signed with a key of their own.")


@router.get("/enrollment/scep/authorities")
async def list_registration_authorities(services: Given, asker: Asker, asked: Asked) -> Items[RegistrationAuthority]:
    """Registration authorities, newest first."""
    found = await administration.list_authorities(services.enrollment, asker)
    return page(map(_shown, found), asked, key="id")


@router.post("/enrollment/scep/endpoints/{name}/renew-authority")
async def renew_registration_authority(services: Given, asker: Asker, name: str) -> RegistrationAuthority:
    """Make a new registration authority for an endpoint, and for those that share it."""
    return _shown(await administration.renew_authority(services.enrollment, asker, name))


def _shown(view: AuthorityView) -> RegistrationAuthority:
    found = view.authority
    signing = found.separate_certificate
    return RegistrationAuthority(
        id=found.id,
        ca=view.ca,
        endpoints=list(view.endpoints),
        state=found.state,
        status=found.status,
        key_algorithm=found.options.key_algorithm,
        provider=found.options.provider,
        serial=serial_hex(found.certificate.serial),
        not_before=found.not_before,
        not_after=found.not_after,
        renew_at=found.renew_at,
        certificate=pem(found.certificate.der),
        signing_certificate=None if signing is None else pem(signing.der),
    )
