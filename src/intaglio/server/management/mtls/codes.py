"""Security codes for browser enrolment, and what mails them."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from intaglio.mtls.enrolment import certificate_login, codes, mail, people, stored_secrets
from intaglio.mtls.enrolment.certificate_login import Link
from intaglio.mtls.enrolment.code_rows import Code as Found
from intaglio.mtls.enrolment.stored_secrets import Secret
from intaglio.server.management.access import Asked, Asker
from intaglio.server.management.lists import Items, page
from intaglio.server.management.mtls.given import GivenMtls

router = APIRouter(prefix="/enrol/v1", tags=["security codes"])

State = Literal["awaiting-approval", "created", "delivered", "used", "expired", "revoked", "locked"]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Code(BaseModel):
    """A security code without the code; `handle` are its first symbols."""

    id: str
    handle: str
    state: State
    organization: str
    domain: str
    identity_id: str
    identity: str
    emails: list[str]
    validity_days: int | None
    max_uses: int
    uses: int
    note: str
    created_by: str
    created_at: datetime
    expires_at: datetime
    approval_by: str | None
    delivered_at: datetime | None
    used_at: datetime | None

    @classmethod
    def of(cls, found: Found) -> Code:
        values: dict[str, Any] = {name: getattr(found, name) for name in cls.model_fields}
        values |= {"id": str(found.id), "identity_id": str(found.identity_id), "state": found.state.value}
        return cls.model_validate(values | {"emails": list(found.emails)})


class CreatedCode(Code):
    """A security code just made. `code` is shown this once; null when it goes by mail."""

    code: str | None


class NewCode(_Body):
    """For whom and for what. With `identity` for somebody in the registry, otherwise for the user with this e-mail
    address, who is registered when he is not yet."""

    identity: str = Field(default="", description="Id, `name`, `kind:name` or `kind:name@trust-domain`.")
    domain: str = Field(default="", description="Trust domain; that of the enrolment page when empty.")
    kind: Literal["user", "device"] = "user"
    name: str = Field(default="", description="Name of a new device.")
    display_name: str = ""
    email: str = ""
    team: str = ""
    emails: list[str] = Field(default=[], max_length=10, description="Addresses that may use it.")
    validity_days: int | None = Field(default=None, ge=1, description="Life of the certificate.")
    max_uses: int | None = Field(default=None, ge=1, le=20)
    ttl_hours: int | None = Field(default=None, ge=1, le=2160)
    note: str = Field(default="", max_length=500)
    deliver: bool = Field(default=False, description="Send it by mail instead of showing it.")


class Delivery(_Body):
    """Where to; the first address of the code when empty. `in_person` only notes that it was handed over."""

    to: str | None = None
    in_person: bool = False


class Password(_Body):
    """A password. It is kept sealed."""

    password: SecretStr


class TestMail(_Body):
    """Where to."""

    to: str = Field(max_length=254)


@router.post("/codes", status_code=201)
async def create_code(mtls: GivenMtls, asker: Asker, body: NewCode) -> CreatedCode:
    """Make a security code; it is shown once."""
    person = people.Person(
        identity=body.identity,
        domain=body.domain,
        kind=body.kind,
        display_name=body.display_name,
        email=body.email,
        team=body.team,
        name=body.name,
    )
    identity = await people.find_or_add(mtls, asker, person)
    wanted = codes.NewCode(
        identity=identity,
        emails=body.emails or ([body.email] if body.email else []),
        validity_days=body.validity_days,
        max_uses=body.max_uses,
        ttl_hours=body.ttl_hours,
        note=body.note,
        deliver=body.deliver,
    )
    made = await codes.create_code(mtls, asker, wanted)
    return CreatedCode(**Code.of(made.code).model_dump(), code=made.text)


@router.get("/codes")
async def list_codes(mtls: GivenMtls, asker: Asker, asked: Asked) -> Items[Code]:
    """Security codes, newest first."""
    found = await codes.list_codes(mtls, asker, asked)
    return Items(
        items=[Code.of(Found.of(row)) for row in found.rows], next_cursor=found.next_cursor, total=found.total
    )


@router.get("/codes/{code}")
async def get_code(mtls: GivenMtls, asker: Asker, code: UUID) -> Code:
    """One security code."""
    return Code.of(await codes.get_code(mtls, asker, code))


@router.post("/codes/{code}/approve")
async def approve_code(mtls: GivenMtls, asker: Asker, code: UUID) -> Code:
    """Approve a code that somebody else made."""
    return Code.of(await codes.approve_code(mtls, asker, code))


@router.post("/codes/{code}/send")
async def send_code(mtls: GivenMtls, asker: Asker, code: UUID, body: Delivery) -> Code:
    """Send it by mail, with new symbols: those shown or sent before are good no more."""
    if body.in_person:
        return Code.of(await codes.mark_delivered(mtls, asker, code))
    return Code.of(await codes.send_code(mtls, asker, code, to=body.to))


@router.post("/codes/{code}/revoke")
async def revoke_code(mtls: GivenMtls, asker: Asker, code: UUID) -> Code:
    """Withdraw a code."""
    return Code.of(await codes.revoke_code(mtls, asker, code))


@router.put("/mail/password", status_code=204)
async def set_mail_password(mtls: GivenMtls, asker: Asker, body: Password) -> None:
    """Set the password of the account at the mail server. It cannot be read."""
    await stored_secrets.set_secret(mtls, asker, Secret.SMTP_PASSWORD, body.password)


@router.delete("/mail/password", status_code=204)
async def delete_mail_password(mtls: GivenMtls, asker: Asker) -> None:
    """Forget the password of the account at the mail server."""
    await stored_secrets.set_secret(mtls, asker, Secret.SMTP_PASSWORD, None)


@router.post("/mail/test", status_code=204)
async def send_test_mail(mtls: GivenMtls, asker: Asker, body: TestMail) -> None:
    """Send a mail, to see whether mail works."""
    await mail.send_test(mtls, asker, body.to)


@router.put("/binding-store/secret-key", status_code=204)
async def set_binding_store_key(mtls: GivenMtls, asker: Asker, body: Password) -> None:
    """Set the secret access key of the bucket for binding records. It cannot be read."""
    await stored_secrets.set_secret(mtls, asker, Secret.S3_SECRET_KEY, body.password)


@router.delete("/binding-store/secret-key", status_code=204)
async def delete_binding_store_key(mtls: GivenMtls, asker: Asker) -> None:
    """Forget the secret access key of the bucket; then the environment of the server has to give one."""
    await stored_secrets.set_secret(mtls, asker, Secret.S3_SECRET_KEY, None)


class CertificateLogin(BaseModel):
    """The certificates of a person log in to an account of the platform."""

    identity_id: str
    identity: str
    user: str
    linked_at: datetime

    @classmethod
    def of(cls, found: Link) -> CertificateLogin:
        return cls(**vars(found) | {"identity_id": str(found.identity_id)})


@router.get("/logins", tags=["certificate logins"])
async def list_certificate_logins(mtls: GivenMtls, asker: Asker, asked: Asked) -> Items[CertificateLogin]:
    """One's own certificate logins; with `users.manage` those of everybody. They are made on the mTLS host."""
    found = await certificate_login.list_links(mtls, asker)
    return page(map(CertificateLogin.of, found), asked, key="identity_id")


@router.delete("/logins/{identity}", status_code=204, tags=["certificate logins"])
async def delete_certificate_login(mtls: GivenMtls, asker: Asker, identity: UUID) -> None:
    """End a certificate login, one's own or with `users.manage` anybody's."""
    await certificate_login.unlink(mtls, asker, identity)
