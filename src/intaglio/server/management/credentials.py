"""Client credentials of the CA gateway."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from intaglio.asn1.algorithms import KeyAlgorithm
from intaglio.authority import credentials, rights
from intaglio.authority.cas.values import KeyType
from intaglio.authority.certificates import RevocationReason
from intaglio.core.identifiers import serial_hex
from intaglio.server.management import encoding
from intaglio.server.management.access import Asked, Asker, Given
from intaglio.server.management.lists import Items, page

router = APIRouter(tags=["credentials"])


class Credential(BaseModel):
    """The newest credential of a client; ``rights`` by CA id."""

    name: str
    serial_number: str
    subject: str
    state: str
    created_at: datetime
    not_after: datetime
    expires_soon: bool
    rights: dict[str, str]


class WantedCredential(BaseModel):
    """How the credential is made; with ``csr`` (PEM, or base64 of DER) over the client's own key."""

    model_config = ConfigDict(extra="forbid")

    compatibility: Literal["modern", "legacy"] = "modern"
    key_algorithm: KeyType = KeyAlgorithm.ECDSA_P256
    not_after: AwareDatetime | None = None
    csr: str | None = Field(default=None, max_length=131072)

    @property
    def wish(self) -> credentials.CredentialWish:
        csr = None if self.csr is None else encoding.octets(self.csr, target="csr")
        return credentials.CredentialWish(self.compatibility, self.key_algorithm, self.not_after, csr)


@router.get("/organizations/{organization}/credentials")
async def list_credentials(services: Given, asker: Asker, asked: Asked, organization: str) -> Items[Credential]:
    """The newest credential of every client of an organization."""
    found = await credentials.list_credentials(services.authority, asker, organization)
    return page((_shown(each) for each in found), asked, key="name")


@router.post("/organizations/{organization}/credentials/{name}/reissue", status_code=201)
async def reissue_credential(
    services: Given, asker: Asker, organization: str, name: str, body: WantedCredential
) -> encoding.IssuedCredential:
    """Make a new credential for a client; the one he had is revoked at once."""
    made = await credentials.reissue_credential(services.authority, asker, organization, name, body.wish)
    return encoding.credential(made)


@router.delete("/organizations/{organization}/credentials/{name}", status_code=204)
async def revoke_credential(
    services: Given,
    asker: Asker,
    organization: str,
    name: str,
    reason: Annotated[str, Query(description="Revocation reason by its RFC 5280 name.")] = "unspecified",
) -> None:
    """Revoke the credential of a client; he is refused at once."""
    await credentials.revoke_credential(
        services.authority, asker, organization, name, reason=RevocationReason.parse(reason)
    )


# ---- rights ----------------------------------------------------------------------------------------------------------


class Right(BaseModel):
    """What a client may do on a CA through the gateway."""

    name: str
    right: str


class WantedRight(BaseModel):
    """``right`` is administrator, auditor, policy-override-tenant, policy-constrained-tenant or read-only-tenant."""

    model_config = ConfigDict(extra="forbid")

    right: str
    credential: WantedCredential = WantedCredential()


class GrantedRight(Right):
    """``credential`` is that of a client who is new, shown this once."""

    credential: encoding.IssuedCredential | None


@router.get("/cas/{ca}/grants")
async def list_grants(services: Given, asker: Asker, asked: Asked, ca: str) -> Items[Right]:
    """Who may do what on a CA through the gateway."""
    found = await rights.list_rights(services.authority, asker, ca)
    return page((Right(name=name, right=right) for name, right in found.items()), asked, key="name")


@router.put("/cas/{ca}/grants/{name}")
async def grant_right(services: Given, asker: Asker, ca: str, name: str, body: WantedRight) -> GrantedRight:
    """Give a client a right in place of the one he has; a new client gets a credential, shown this once."""
    made = await rights.grant_right(services.authority, asker, ca, name, body.right, body.credential.wish)
    return GrantedRight(name=name, right=body.right, credential=encoding.credential(made) if made else None)


@router.delete("/cas/{ca}/grants/{name}", status_code=204)
async def revoke_right(services: Given, asker: Asker, ca: str, name: str) -> None:
    """Take a client's right on a CA; he is refused there at once."""
    await rights.revoke_right(services.authority, asker, ca, name)


def _shown(found: credentials.Credential) -> Credential:
    return Credential(
        name=found.name,
        serial_number=serial_hex(found.serial),
        subject=found.subject,
        state=found.state,
        created_at=found.created_at,
        not_after=found.not_after,
        expires_soon=found.expires_soon,
        rights=dict(found.rights),
    )
