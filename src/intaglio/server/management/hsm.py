"""Tokens by PKCS #11: hardware security modules and what takes their place."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from intaglio.core.principal import Permission
from intaglio.keystore import token_admin
from intaglio.keystore.pkcs11 import modules
from intaglio.keystore.probing import Report
from intaglio.keystore.token_admin import NewToken, TokenChanges
from intaglio.keystore.tokens import TokenInfo, Tokens
from intaglio.server.management.access import Asked, Asker, Given
from intaglio.server.management.keys import Protection
from intaglio.server.management.lists import Items, page
from intaglio.server.services import Services

router = APIRouter(tags=["tokens"])


class ModuleInfo(BaseModel):
    """A PKCS #11 library that may be loaded: from the settings of the server, or a known product found in its place.

    ``variables`` are the environment variables it is given; ``fault`` says why it must not be loaded.
    """

    name: str
    title: str
    path: str
    origin: str
    variables: list[str]
    fault: str | None


class SlotToken(BaseModel):
    """The token in a slot. ``pin`` is the state of its user PIN: not set, set, few tries left, one try left, locked."""

    label: str
    serial: str
    model: str
    manufacturer: str
    hardware_version: str
    firmware: str
    initialized: bool
    pin: str
    mechanisms: list[str]


class SlotInfo(BaseModel):
    """A slot of a library. ``token`` is null when there is none in it."""

    slot: int
    description: str
    manufacturer: str
    hardware: bool
    slot_firmware: str
    token: SlotToken | None
    fault: str | None = None


class Step(BaseModel):
    """One thing that was tried: ``what`` with ``about``, whether it went well, and what came of it."""

    about: str
    what: str
    ok: bool
    detail: str


class Checked(BaseModel):
    """What came of trying a token. ``ok`` says that all went well; ``pin`` is accepted, wrong or untried."""

    ok: bool
    name: str
    slot: SlotInfo | None
    pin: str
    steps: list[Step]

    @classmethod
    def of(cls, name: str, report: Report) -> Checked:
        slot = None if report.token is None else SlotInfo.model_validate(report.token)
        steps = [Step.model_validate(step) for step in report.steps]
        return cls(ok=report.ok, name=name, slot=slot, pin=report.pin, steps=steps)


class ObjectInfo(BaseModel):
    """An object in a token. ``id`` is its CKA_ID in hexadecimal, ``bits`` the size of a key, ``usage`` what it may do,
    ``key`` the private key of this installation that it belongs to."""

    kind: str
    type: str | None
    bits: int | None
    label: str
    id: str
    usage: list[str]
    protection: Protection | None
    key: UUID | None


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NewPin(_Body):
    """``check`` false records it untried, for a token that is not there."""

    pin: SecretStr = Field(min_length=1, max_length=255)
    check: bool = True


class CheckWish(_Body):
    """``pin`` is tried instead of the recorded one; ``debug_level`` is for nShield's client."""

    pin: SecretStr | None = Field(default=None, min_length=1, max_length=255)
    debug_level: int = Field(default=0, ge=0, le=15)


class Adoption(_Body):
    """``id`` is the CKA_ID of the key pair in hexadecimal, ``label`` what the key is for."""

    id: str = Field(max_length=256)
    label: str = Field(min_length=1, max_length=200)


class Adopted(BaseModel):
    """The private key that a key pair of a token is from now on."""

    id: UUID


class Destroyed(BaseModel):
    """How many objects were destroyed."""

    objects: int


@router.get("/hsm/modules")
async def list_hsm_modules(services: Given, asker: Asker, asked: Asked) -> Items[ModuleInfo]:
    """The PKCS #11 libraries that this server may load. Only its settings can add one."""
    asker.require(Permission.KEYS_MANAGE)
    found = [ModuleInfo.model_validate(row) for row in modules.as_rows(services.settings)]
    return page(found, asked, key="name")


@router.get("/hsm/modules/{module}/slots")
async def list_hsm_slots(services: Given, asker: Asker, module: str) -> Items[SlotInfo]:
    """The slots of a library and the tokens in them."""
    found = await token_admin.list_slots(_tokens(services), asker, module)
    items = [SlotInfo.model_validate(each) for each in found]
    return Items(items=items, next_cursor=None, total=len(items))


@router.get("/hsm/tokens")
async def list_hsm_tokens(services: Given, asker: Asker, asked: Asked) -> Items[TokenInfo]:
    """The tokens that keys may be kept in."""
    async with services.database.read() as view:
        return page(await token_admin.list_tokens(view, asker), asked, key="name")


@router.post("/hsm/tokens", status_code=201)
async def add_hsm_token(services: Given, asker: Asker, body: NewToken) -> TokenInfo:
    """Record a token, after it was found and took its PIN."""
    return await token_admin.add_token(_tokens(services), asker, body)


@router.get("/hsm/tokens/{token}")
async def get_hsm_token(services: Given, asker: Asker, token: str) -> TokenInfo:
    """One token. Its PIN is never shown."""
    async with services.database.read() as view:
        return await token_admin.show_token(view, asker, token)


@router.patch("/hsm/tokens/{token}")
async def change_hsm_token(services: Given, asker: Asker, token: str, body: TokenChanges) -> TokenInfo:
    """Change where a token is found or how it is used; every process follows at once."""
    return await token_admin.change_token(_tokens(services), asker, token, body)


@router.put("/hsm/tokens/{token}/pin")
async def set_hsm_token_pin(services: Given, asker: Asker, token: str, body: NewPin) -> TokenInfo:
    """Record another PIN, after the token took it."""
    return await token_admin.set_pin(_tokens(services), asker, token, body.pin, check=body.check)


@router.delete("/hsm/tokens/{token}", status_code=204)
async def remove_hsm_token(services: Given, asker: Asker, token: str) -> None:
    """Forget a token that no key is in any more; the token itself stays as it is."""
    await token_admin.remove_token(_tokens(services), asker, token)


@router.post("/hsm/tokens/{token}/check")
async def check_hsm_token(services: Given, asker: Asker, token: str, body: CheckWish) -> Checked:
    """Try a token: log in, and have every kind of key generated, sign, be verified, and be deleted."""
    report = await token_admin.check_token(
        _tokens(services), asker, token, pin=body.pin, debug_level=body.debug_level
    )
    return Checked.of(token, report)


@router.get("/hsm/tokens/{token}/objects")
async def list_hsm_objects(services: Given, asker: Asker, token: str) -> Items[ObjectInfo]:
    """Everything in a token that its login shows."""
    found = await token_admin.list_objects(services.keystore, _tokens(services), asker, token)
    items = [ObjectInfo(**_shown(each), key=key) for each, key in found]
    return Items(items=items, next_cursor=None, total=len(items))


@router.post("/hsm/tokens/{token}/objects/adopt", status_code=201)
async def adopt_hsm_object(services: Given, asker: Asker, token: str, body: Adoption) -> Adopted:
    """Take a key pair that is in the token already as a private key of this installation."""
    key = await token_admin.adopt_object(services.keystore, _tokens(services), asker, token, body.id, body.label)
    return Adopted(id=key)


@router.delete("/hsm/tokens/{token}/objects/{id}")
async def delete_hsm_object(services: Given, asker: Asker, token: str, id: str) -> Destroyed:
    """Destroy a key pair in a token that is no private key of this installation."""
    return Destroyed(
        objects=await token_admin.delete_object(services.keystore, _tokens(services), asker, token, id)
    )


def _tokens(services: Services) -> Tokens:
    return services.tokens


def _shown(each: Any) -> dict[str, Any]:
    guarded = each.protection
    return {**vars(each), "protection": None if guarded is None else Protection(**guarded.as_json())}
