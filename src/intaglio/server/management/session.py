"""Login, logout, and who one is."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from intaglio.core.principal import Permission
from intaglio.identity import login as logins
from intaglio.identity import sessions
from intaglio.identity.schemas import Login, User
from intaglio.identity.users import get_user
from intaglio.server.management.access import Asker, BearerToken, Given, PasswordChanger, Visitor

router = APIRouter(tags=["session"])


class Credentials(BaseModel):
    """Name and password; the password may be a one-time secret."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(max_length=200)
    password: SecretStr = Field(max_length=1000)


class NewPassword(BaseModel):
    """``current`` is needed unless the password must be changed."""

    model_config = ConfigDict(extra="forbid")

    new: SecretStr = Field(max_length=1000)
    current: SecretStr | None = Field(default=None, max_length=1000)


class Session(BaseModel):
    """A session token. With ``password_change_required`` it is good only for POST /me/password."""

    token: str
    expires_at: datetime
    password_change_required: bool
    user: User


class Me(BaseModel):
    """Who is asking. ``token_id`` is the API token that was sent; null for a login or the operator of the host."""

    kind: str
    name: str
    permissions: list[Permission]
    token_id: UUID | None = None
    user: User | None = None


@router.post("/login")
async def log_in(services: Given, visitor: Visitor, body: Credentials) -> Session:
    """Exchange name and password for a session token (30 minutes, extended by use)."""
    return _session(await logins.login(services.database, body.name, body.password, source=visitor.source))


@router.post("/logout", status_code=204)
async def log_out(services: Given, asker: PasswordChanger, bearer: BearerToken) -> None:
    """End the session of the token that is sent."""
    if bearer is not None:
        await sessions.close_session(services.database, bearer.credentials)


@router.get("/me")
async def who_am_i(services: Given, asker: Asker) -> Me:
    """Who is asking, and what he may do."""
    user = None
    if asker.kind == "user":
        async with services.database.read() as view:
            user = await get_user(view, asker, asker.name)
    permissions = sorted(asker.permissions)
    return Me(kind=asker.kind, name=asker.name, permissions=permissions, token_id=asker.token_id, user=user)


@router.post("/me/password")
async def change_password(services: Given, asker: PasswordChanger, body: NewPassword) -> Session:
    """Set one's own password; ends all sessions and opens a new one."""
    return _session(await logins.change_password(services.database, asker, body.new, current=body.current))


def _session(found: Login) -> Session:
    return Session(
        token=found.secret.get_secret_value(),
        expires_at=found.expires_at,
        password_change_required=found.password_change_required,
        user=found.user,
    )
