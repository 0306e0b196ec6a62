"""Bodies and tokens of Vault's clients."""

from __future__ import annotations

import json
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request

from intaglio.core.errors import Forbidden, InvalidInput

_LARGEST = 256 * 1024

M = TypeVar("M", bound=BaseModel)
Text = Field(default="", max_length=500)
Span = Field(default=None, max_length=40)


class _Body(BaseModel):
    # Clients send what newer versions of Vault know; what could change a certificate is read below.
    model_config = ConfigDict(extra="ignore", coerce_numbers_to_str=True)


class CertLogin(_Body):
    """``name`` is the identity, where the client says one."""

    name: str = Text


class AppRoleLogin(_Body):
    """The identity, and its secret."""

    role_id: str = Text
    secret_id: str = Text


class JwtLogin(_Body):
    """The pipeline, and an identity token."""

    role: str = Text
    jwt: str = Field(default="", max_length=20_000)


class Renewal(_Body):
    """How long the token shall live on."""

    increment: str | None = Span


class Names(_Body):
    """The names that a client wants in its certificate, all of which have to be its own."""

    common_name: str = Text
    alt_names: str | list[str] = Field(default="", max_length=5000)
    ip_sans: str | list[str] = Field(default="", max_length=5000)
    uri_sans: str | list[str] = Field(default="", max_length=5000)
    other_sans: str | list[str] = Field(default="", max_length=5000)
    ttl: str | None = Span
    not_after: str = Text
    format: str = Field(default="pem", max_length=20)


class Sign(Names):
    """A certificate request, of which only the key counts."""

    csr: str = Field(default="", max_length=128 * 1024)


class Issue(Names):
    """A key is to be made as well."""

    key_type: str = Field(default="ec", max_length=20)
    key_bits: str = Field(default="0", max_length=10)
    private_key_format: str = Field(default="der", max_length=20)


class Revocation(_Body):
    """One of one's own certificates, by serial number or as PEM."""

    serial_number: str = Field(default="", max_length=200)
    certificate: str = Field(default="", max_length=64 * 1024)


async def read(request: Request, model: type[M]) -> M:
    """The body as ``model``; its content type says nothing, since clients leave it out. Raises InvalidInput."""
    return parse(await request.body(), model)


def parse(body: bytes, model: type[M]) -> M:
    """The same of octets; an empty body is an empty object."""
    if len(body) > _LARGEST:
        raise InvalidInput(f"The body is longer than {_LARGEST} octets.", code="body-invalid")
    try:
        found = json.loads(body) if body.strip() else {}
        if isinstance(found, dict):
            return model.model_validate({name: value for name, value in found.items() if value is not None})
    except ValidationError as error:
        wrong = [("/".join(map(str, e["loc"])), e["msg"]) for e in error.errors(include_input=False, include_url=False)]
        raise InvalidInput("The body is not as it should be.", code="body-invalid", fields=wrong[:20]) from None
    except (ValueError, RecursionError):
        pass
    raise InvalidInput("failed to parse JSON input: it is no object", code="invalid-json")


def token_of(request: Request) -> str:
    """The token of a request. Raises Forbidden without one."""
    given = request.headers.get("x-vault-token", "")
    if not given:
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        given = given if scheme.lower() == "bearer" else ""
    if not given.strip():
        raise Forbidden("permission denied: no token.", code="login-missing", remedy="Log in first.")
    return given.strip()


def listed(given: str | list[str]) -> list[str]:
    """Members of a list that comes as such, or separated by commas."""
    parts = given.split(",") if isinstance(given, str) else given
    return [part.strip() for part in parts if part.strip()]
