"""Private keys of the installation."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import select

from intaglio.authority import operator_keys
from intaglio.authority.cas.values import KeyType
from intaglio.authority.operator_keys import KeyRequest
from intaglio.core.errors import NotFound
from intaglio.core.principal import Permission, Principal
from intaglio.db.listing import Listing
from intaglio.keystore.models import private_key
from intaglio.server.management.access import Asked, Asker, Given
from intaglio.server.management.lists import Items
from intaglio.x509 import pem

router = APIRouter(tags=["keys"])


class Protection(BaseModel):
    """How a token says it guards a key (PKCS #11 attributes of these names); null where it does not say."""

    sensitive: bool | None
    always_sensitive: bool | None
    extractable: bool | None
    never_extractable: bool | None
    local: bool | None = Field(description="Generated in the token.")


class PrivateKeyInfo(BaseModel):
    """A private key: where it is (`software`, `pkcs11:TOKEN`), its type, and what it is for.

    ``erasure_due``: it was destroyed here, and its token has not confirmed that it is gone there.
    """

    id: UUID
    label: str
    algorithm: str
    provider: str
    protection: Protection | None
    created_at: datetime
    destroyed_at: datetime | None
    erasure_due: bool


class PrivateKeyDetails(PrivateKeyInfo):
    """``reference`` is its CKA_ID in the token, ``used`` what uses it, ``public_key`` PEM; ``software_copy`` says that
    a sealed copy was kept in the database when it was moved into the token."""

    reference: str | None
    used: str | None
    public_key: str
    software_copy: bool


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NewKey(_Body):
    """A key to make. ``subject`` is that of its certificate request; null is ``CN=`` and the id of the key."""

    key_algorithm: KeyType
    provider: str = Field(default="software", max_length=80)
    label: str = Field(default="", max_length=200)
    subject: str | None = Field(default=None, max_length=4000)


class WantedRequest(_Body):
    """``subject`` null is ``CN=`` and the id of the key."""

    subject: str | None = Field(default=None, max_length=4000)


class Requested(BaseModel):
    """A key and a certificate request (PKCS #10, PEM) over it."""

    id: UUID
    csr: str

    @classmethod
    def of(cls, made: KeyRequest) -> Requested:
        return cls(id=made.key_id, csr=pem.encode("CERTIFICATE REQUEST", made.request))


class Move(_Body):
    """Where the key shall be: `software` or `pkcs11:TOKEN`. ``keep`` leaves a copy in its present place."""

    to: str = Field(max_length=80)
    keep: bool = False


class Moved(BaseModel):
    """A key that was moved. ``kept`` says that the place it left still has it."""

    id: UUID
    label: str
    origin: str
    provider: str
    kept: bool
    protection: Protection | None


class Deleted(BaseModel):
    """``erased`` is false while the token that holds it has not confirmed that it is gone; that is tried on."""

    id: UUID
    erased: bool


_KEYS = Listing(
    select(private_key),
    {
        "created": private_key.c.id,
        "label": private_key.c.label,
        "algorithm": private_key.c.algorithm,
        "provider": private_key.c.provider,
        "created_at": private_key.c.created_at,
    },
    identity=private_key.c.id,
    sort="-created",
    sortable=frozenset({"created", "label"}),
)


@router.get("/keys")
async def list_keys(services: Given, asker: Asker, asked: Asked) -> Items[PrivateKeyInfo]:
    """The private keys of the installation, without what is secret of them, newest first."""
    asker.require(Permission.KEYS_MANAGE)
    async with services.database.read() as view:
        found = await _KEYS.page(view, asked)
    return Items(items=[_info(row) for row in found.rows], next_cursor=found.next_cursor, total=found.total)


@router.post("/keys", status_code=201)
async def create_key(services: Given, asker: Asker, body: NewKey) -> Requested:
    """Make a key, in software or in a token, and a certificate request over it."""
    made = await operator_keys.create_key(
        services.authority, asker, body.key_algorithm, provider=body.provider, label=body.label, subject=body.subject
    )
    return Requested.of(made)


@router.get("/keys/{key}")
async def get_key(services: Given, asker: Asker, key: str) -> PrivateKeyDetails:
    """One private key: where it is, how its token guards it, and what uses it."""
    key_id = _key_id(asker, key)
    async with services.database.read() as view:
        row = await view.one_or_none(select(private_key).where(private_key.c.id == key_id))
        if row is None:
            raise _unknown(key)
        used = await operator_keys.user_of(view, key_id)
    in_token = row["provider"] != "software"
    reference = bytes(row["reference"] or key_id.bytes).hex() if in_token else None
    return PrivateKeyDetails(
        **_info(row).model_dump(),
        reference=reference,
        used=used,
        public_key=pem.encode("PUBLIC KEY", bytes(row["public_key"])),
        software_copy=in_token and row["sealed"] is not None,
    )


@router.post("/keys/{key}/csr")
async def make_key_request(services: Given, asker: Asker, key: str, body: WantedRequest) -> Requested:
    """A certificate request over a key there is, such as for the renewal of its certificate."""
    key_id = _key_id(asker, key)
    return Requested.of(await operator_keys.make_key_request(services.authority, asker, key_id, subject=body.subject))


@router.post("/keys/{key}/migrate")
async def migrate_key(services: Given, asker: Asker, key: str, body: Move) -> Items[Moved]:
    """Move a key, or all keys of a CA (`ORGANIZATION~ID`), to another place; whoever uses it goes on unchanged."""
    moved = await operator_keys.migrate_ca_or_key(services.authority, asker, key, body.to, keep=body.keep)
    items = [Moved(**{**vars(each), "id": each.key_id}) for each in moved]
    return Items(items=items, next_cursor=None, total=len(items))


@router.delete("/keys/{key}")
async def delete_key(services: Given, asker: Asker, key: str) -> Deleted:
    """Destroy a key that nothing uses: both of its objects in a token, or its sealed form."""
    key_id = _key_id(asker, key)
    return Deleted(id=key_id, erased=await operator_keys.delete_key(services.authority, asker, key_id))


def _key_id(asker: Principal, text: str) -> UUID:
    """Raises Forbidden, and NotFound for what is no id."""
    asker.require(Permission.KEYS_MANAGE)
    try:
        return UUID(text)
    except ValueError:
        raise _unknown(text) from None


def _unknown(key: str) -> NotFound:
    return NotFound(
        f"The private key {key[:40]} does not exist.", code="key-not-found", remedy="See intaglio key list."
    )


def _info(row: Any) -> PrivateKeyInfo:
    return PrivateKeyInfo(**{name: row[name] for name in PrivateKeyInfo.model_fields})
