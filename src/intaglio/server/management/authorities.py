"""Certificate authorities."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Query
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from intaglio.authority.cas import create, delete, edit, external, views
from intaglio.authority.cas.values import CaChanges, CaDetails, NewExternalRoot, NewIssuing, NewRoot
from intaglio.server import problems
from intaglio.server.management import encoding
from intaglio.server.management.access import Asked, Asker, Given
from intaglio.server.management.encoding import NewCaAnswer
from intaglio.server.management.lists import Items, page

router = APIRouter(tags=["certificate authorities"])

PEM = "application/x-pem-file"
_TEXT: dict[int | str, dict[str, Any]] = {200: {"content": {PEM: {"schema": {"type": "string"}}}}}


class WantedRoot(NewRoot):
    """A root CA whose key is made here."""

    kind: Literal["root"]


class WantedIssuing(NewIssuing):
    """An issuing CA below another CA of the organization."""

    kind: Literal["issuing"]


class WantedExternalRoot(NewExternalRoot):
    """A root CA kept elsewhere; ``certificate`` is PEM, or base64 of DER or PKCS #7."""

    kind: Literal["external-root"]
    certificate: str = Field(max_length=262144)


class WantedChanges(CaChanges):
    """What can be changed of a CA; what is left out stays.

    Names that are missing from a list lose that right at once.
    """

    # A frozen field must be refused by its name, not as an unknown one.
    model_config = ConfigDict(extra="allow", frozen=True)

    def checked(self) -> CaChanges:
        """The changes. Raises Refused (``setting-frozen``), InvalidInput for an unknown field."""
        try:
            return CaChanges.parse({name: getattr(self, name) for name in self.model_fields_set})
        except ValidationError as error:
            found = problems.invalid_request([{**each, "loc": ("body", *each["loc"])} for each in error.errors()])
            raise found from None


class Deleted(BaseModel):
    """What a deletion did: until when the id is reserved, certificates revoked, CAs left without their issuer."""

    reserved_until: datetime
    revoked: int
    orphans: list[str]


WantedCa = Annotated[WantedRoot | WantedIssuing | WantedExternalRoot, Body(discriminator="kind")]


@router.get("/cas")
async def list_cas(
    services: Given,
    asker: Asker,
    asked: Asked,
    organization: Annotated[str | None, Query(description="Only those of this organization.")] = None,
    internal: Annotated[bool, Query(description="Also client and platform CAs.")] = False,
    deleted: Annotated[bool, Query(description="Also deleted ones.")] = False,
) -> Items[CaDetails]:
    """The CAs of the organizations one belongs to."""
    found = await views.list_cas(
        services.authority, asker, organization=organization, internal=internal, deleted=deleted
    )
    return page(found, asked, key="id")


@router.post("/organizations/{organization}/cas", status_code=201)
async def create_ca(services: Given, asker: Asker, organization: str, wanted: WantedCa) -> NewCaAnswer:
    """Create a CA. Names that are new get a client credential, shown this once."""
    authority = services.authority
    if isinstance(wanted, WantedRoot):
        return encoding.created_ca(await create.create_root(authority, asker, organization, wanted))
    if isinstance(wanted, WantedIssuing):
        return encoding.created_ca(await create.create_issuing(authority, asker, organization, wanted))
    root = NewExternalRoot(
        name=wanted.name, certificate=encoding.octets(wanted.certificate, target="certificate"), label=wanted.label
    )
    return NewCaAnswer(ca=await external.add_external_root(authority, asker, organization, root), credentials=[])


@router.get("/cas/{ca}")
async def get_ca(services: Given, asker: Asker, ca: str) -> CaDetails:
    """One CA by `{organization}~{id}`."""
    return await views.get_ca(services.authority, asker, ca)


@router.patch("/cas/{ca}")
async def edit_ca(services: Given, asker: Asker, ca: str, changes: WantedChanges) -> NewCaAnswer:
    """Change profiles, administrators, auditors, label or options; what is left out stays.

    Names that are missing from a list lose that right at once; names that are new get a credential, shown this once.
    """
    return encoding.created_ca(await edit.edit_ca(services.authority, asker, ca, changes.checked()))


@router.delete("/cas/{ca}")
async def delete_ca(
    services: Given,
    asker: Asker,
    ca: str,
    force: Annotated[bool, Query(description="Although there are CAs below it; they stay.")] = False,
    revoke_all: Annotated[bool, Query(description="Revoke every certificate it issued first.")] = False,
) -> Deleted:
    """Delete a CA; its certificates and its final CRL stay published, and its id stays reserved for a while."""
    done = await delete.delete_ca(services.authority, asker, ca, force=force, revoke_all=revoke_all)
    return Deleted(reserved_until=done.reserved_until, revoked=done.revoked, orphans=list(done.orphans))


@router.get("/cas/{ca}/chain", response_class=PlainTextResponse, responses=_TEXT)
async def get_chain(
    services: Given,
    asker: Asker,
    ca: str,
    generation: Annotated[int | None, Query(description="An earlier key of the CA.")] = None,
) -> PlainTextResponse:
    """The certificate of the CA and those of its issuers up to the root, PEM."""
    chain = await views.get_chain(services.authority, asker, ca, generation=generation)
    return PlainTextResponse(encoding.bundle(chain), media_type=PEM)
