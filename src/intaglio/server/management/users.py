"""Users, roles and API tokens."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from intaglio.core.principal import Permission
from intaglio.identity import api_tokens, roles, users
from intaglio.identity.schemas import RevokedToken, Role, Token, User
from intaglio.mtls.identities import ownership
from intaglio.server.management.access import Asked, Asker, Given
from intaglio.server.management.lists import Items, page

router = APIRouter(tags=["users"])


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NewUser(_Body):
    """Without ``password`` the user gets a one-time secret."""

    name: str
    email: str = ""
    roles: list[str] = []
    password: SecretStr | None = Field(default=None, max_length=1000)


class UserChanges(_Body):
    """What is left out stays."""

    email: str | None = None
    roles: list[str] | None = None
    disabled: bool | None = None


class CreatedUser(BaseModel):
    """``secret`` is the one-time secret, shown this once."""

    user: User
    secret: str | None


class OneTimeSecret(BaseModel):
    """Shown this once; good for 7 days."""

    secret: str


class NewRole(_Body):
    name: str
    description: str = ""
    permissions: list[Permission]


class PasswordChangeRequired(BaseModel):
    """``users`` is how many."""

    users: int


class RoleChanges(_Body):
    description: str | None = None
    permissions: list[Permission] | None = None


class WantedToken(_Body):
    """``permissions`` narrows what the token may do; ``user`` is for the operator of the host only."""

    name: str
    lifetime_days: float = Field(default=90, gt=0, le=365)
    permissions: list[Permission] | None = None
    user: str | None = None


class Rotation(_Body):
    """``overlap_hours`` is how long the replaced token is still good."""

    overlap_hours: float = Field(default=1, ge=0, le=168)


class CreatedToken(BaseModel):
    """``secret`` is the token itself, shown this once."""

    token: Token
    secret: str


@router.get("/users")
async def list_users(services: Given, asker: Asker, asked: Asked) -> Items[User]:
    """All users."""
    async with services.database.read() as view:
        return page(await users.list_users(view, asker), asked, key="name")


@router.post("/users", status_code=201)
async def create_user(services: Given, asker: Asker, body: NewUser) -> CreatedUser:
    """Create a user."""
    async with services.database.transaction() as tx:
        user, secret = await users.create_user(
            tx, asker, body.name, roles=body.roles, email=body.email, password=body.password
        )
    return CreatedUser(user=user, secret=secret.get_secret_value() or None)


@router.post("/users/require-password-change")
async def require_password_change(services: Given, asker: Asker) -> PasswordChangeRequired:
    """Make everybody else choose a new password at the next login; their sessions end, their tokens wait for it."""
    async with services.database.transaction() as tx:
        return PasswordChangeRequired(users=await users.require_password_change_of_all(tx, asker))


@router.get("/users/{name}")
async def get_user(services: Given, asker: Asker, name: str) -> User:
    """One user; everybody may see himself."""
    async with services.database.read() as view:
        return await users.get_user(view, asker, name)


@router.patch("/users/{name}")
async def edit_user(services: Given, asker: Asker, name: str, body: UserChanges) -> User:
    """Change roles, address or state; effective at once, for open sessions too."""
    async with services.database.transaction() as tx:
        return await users.edit_user(tx, asker, name, roles=body.roles, email=body.email, disabled=body.disabled)


@router.delete("/users/{name}", status_code=204)
async def delete_user(services: Given, asker: Asker, name: str) -> None:
    """Delete a user with his sessions and tokens; the identities that he owned wait for another owner."""
    async with services.database.transaction() as tx:
        await ownership.give_up(tx, asker, name)
        await users.delete_user(tx, asker, name)


@router.post("/users/{name}/reset-password")
async def reset_password(services: Given, asker: Asker, name: str) -> OneTimeSecret:
    """Replace the password by a one-time secret."""
    async with services.database.transaction() as tx:
        secret = await users.reset_password(tx, asker, name)
    return OneTimeSecret(secret=secret.get_secret_value())


@router.get("/roles")
async def list_roles(services: Given, asker: Asker, asked: Asked) -> Items[Role]:
    """All roles."""
    async with services.database.read() as view:
        return page(await roles.list_roles(view, asker), asked, key="name")


@router.post("/roles", status_code=201)
async def create_role(services: Given, asker: Asker, body: NewRole) -> Role:
    """Create a role; nobody grants a permission he lacks."""
    async with services.database.transaction() as tx:
        return await roles.create_role(tx, asker, body.name, body.permissions, description=body.description)


@router.get("/roles/{name}")
async def get_role(services: Given, asker: Asker, name: str) -> Role:
    """One role."""
    async with services.database.read() as view:
        return await roles.get_role(view, asker, name)


@router.patch("/roles/{name}")
async def edit_role(services: Given, asker: Asker, name: str, body: RoleChanges) -> Role:
    """Change a custom role; effective at once for everybody who has it."""
    async with services.database.transaction() as tx:
        return await roles.edit_role(tx, asker, name, permissions=body.permissions, description=body.description)


@router.delete("/roles/{name}", status_code=204)
async def delete_role(services: Given, asker: Asker, name: str) -> None:
    """Delete a custom role that nobody has."""
    async with services.database.transaction() as tx:
        await roles.delete_role(tx, asker, name)


@router.get("/tokens")
async def list_tokens(
    services: Given,
    asker: Asker,
    asked: Asked,
    user: Annotated[str | None, Query(description="Whose; `*` for everybody's.")] = None,
    sessions_too: Annotated[bool, Query(alias="sessions", description="Also the tokens of logins.")] = False,
) -> Items[Token]:
    """API tokens with their last use; ended ones stay listed for 30 days, or while others descend from them."""
    owner = user or ("*" if asker.kind == "operator" else None)
    async with services.database.read() as view:
        return page(await api_tokens.list_tokens(view, asker, user=owner, sessions=sessions_too), asked, key="id")


@router.post("/tokens", status_code=201)
async def create_token(services: Given, asker: Asker, body: WantedToken) -> CreatedToken:
    """Make an API token for oneself."""
    async with services.database.transaction() as tx:
        made = await api_tokens.create_token(
            tx,
            asker,
            body.name,
            user=body.user,
            lifetime=timedelta(days=body.lifetime_days),
            permissions=body.permissions,
        )
    return CreatedToken(token=made.token, secret=made.secret.get_secret_value())


@router.post("/tokens/{token_id}/rotate", status_code=201)
async def rotate_token(services: Given, asker: Asker, token_id: UUID, body: Rotation) -> CreatedToken:
    """Replace a token by a successor that descends from it; a token may do so with itself."""
    async with services.database.transaction() as tx:
        made = await api_tokens.rotate_token(tx, asker, token_id, overlap=timedelta(hours=body.overlap_hours))
    return CreatedToken(token=made.token, secret=made.secret.get_secret_value())


@router.delete("/tokens/{token_id}")
async def revoke_token(services: Given, asker: Asker, token_id: UUID) -> RevokedToken:
    """Revoke a token at once, and with it all that were made with it, directly or not."""
    async with services.database.transaction() as tx:
        return await api_tokens.revoke_token(tx, asker, token_id)
