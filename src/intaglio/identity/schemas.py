"""What the identity services return: values without secrets."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, SecretStr, field_serializer

from intaglio.core.principal import Permission


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, from_attributes=True)


class Role(_Value):
    """A named set of permissions. Built-in roles cannot be changed."""

    name: str
    description: str
    permissions: frozenset[Permission]
    built_in: bool

    @field_serializer("permissions", return_type=list[Permission])
    def _in_order(self, permissions: frozenset[Permission]) -> list[Permission]:
        return sorted(permissions)


class User(_Value):
    """A named account."""

    id: UUID
    name: str
    email: str
    roles: tuple[str, ...]
    disabled: bool
    must_change_password: bool
    created_at: datetime
    last_login_at: datetime | None


class Token(_Value):
    """A bearer token, without the token itself. ``parent_id`` is the API token with which it was made, if any."""

    id: UUID
    user: str
    kind: Literal["api", "session"]
    name: str
    permissions: frozenset[Permission] | None
    parent_id: UUID | None
    created_at: datetime
    expires_at: datetime
    last_used_at: datetime | None
    revoked_at: datetime | None


class RevokedToken(Token):
    """A token that was revoked; ``descendants`` is how many tokens made with it, directly or not, ended with it."""

    descendants: int


class NewToken(_Value):
    """A token just made; ``secret`` is shown this once."""

    token: Token
    secret: SecretStr


class Login(_Value):
    """The result of a login. With ``password_change_required`` the token is good only for changing the password."""

    user: User
    secret: SecretStr
    expires_at: datetime
    password_change_required: bool
