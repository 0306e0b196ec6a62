"""Credentials of endpoints: make, list, delete. A secret is shown once, to whoever made it."""

from __future__ import annotations

import base64
import json
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, Literal
from uuid import UUID

import httpx
from pydantic import BaseModel, ConfigDict, Field, SecretStr
from sqlalchemy import delete, func, insert, select

from intaglio.audit.record import record
from intaglio.core.errors import InvalidInput, NotFound, StateConflict
from intaglio.core.identifiers import new_id
from intaglio.core.principal import Permission, Principal
from intaglio.db.engine import Transaction
from intaglio.enrollment import models
from intaglio.enrollment.administration import require_endpoint
from intaglio.enrollment.context import Enrollment
from intaglio.enrollment.credentials import Bound, CredentialKind, StoredCredential, digest_of, purpose_of
from intaglio.enrollment.values import Endpoint, Protocol
from intaglio.identity import passwords
from intaglio.x509.certificates import pem, read_certificates
from intaglio.x509.general_names import GeneralNames
from intaglio.x509.names import Name

NewKind = Literal["password", "mac", "eab", "challenge", "one-time", "derived", "webhook"]
#: What each protocol knows.
KINDS: Final[Mapping[Protocol, tuple[NewKind, ...]]] = {
    Protocol.ACME: ("eab",),
    Protocol.EST: ("password",),
    Protocol.SCEP: ("challenge", "one-time", "derived", "webhook"),
    Protocol.CMP: ("mac",),
}
SHORTEST_SECRET: Final = 12
_LONGEST_SECRET: Final = 255
_MOST: Final = 100_000  # of one endpoint
_ONE_TIME_LIFE: Final = timedelta(days=1)
_GENERATED_OCTETS: Final = 20
_NAME: Final = re.compile(r"[\x21-\x7e]([\x20-\x7e]{0,198}[\x21-\x7e])?")
_EAB_OCTETS: Final = 32  # RFC 8555 section 7.3.4: HMAC-SHA-256


class NewCredential(BaseModel):
    """A credential to be made. Without ``secret`` one is generated; of a webhook ``secret`` is the bearer token it
    gets."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: NewKind
    name: str | None = Field(default=None, max_length=200)
    secret: SecretStr | None = None
    bound: Bound = Bound()
    uses: int | None = Field(default=None, ge=1, le=1_000_000)
    not_after: datetime | None = None
    url: str | None = Field(default=None, max_length=1000)
    ca_certificate: str | None = Field(default=None, max_length=65536)


@dataclass(frozen=True)
class MadeCredential:
    """A credential, and its secret this once (empty when the caller has given it)."""

    stored: StoredCredential
    secret: str = field(repr=False)


async def create_credential(
    enrollment: Enrollment, principal: Principal, protocol: Protocol, endpoint: str, wish: NewCredential
) -> MadeCredential:
    """Make a credential. Needs ``enrollment.manage``.

    Raises NotFound, InvalidInput (``credential-kind``, ``credential-secret``, ``credential-name``,
    ``credential-bound``, ``credential-webhook``), StateConflict (``credential-exists``, ``too-many-credentials``).
    """
    async with enrollment.database.read() as view:
        found = await require_endpoint(view, principal, protocol, endpoint, Permission.ENROLLMENT_MANAGE)
    kept = await _kept(enrollment, found, wish)
    async with enrollment.database.transaction() as tx:
        found = await require_endpoint(tx, principal, protocol, endpoint, Permission.ENROLLMENT_MANAGE)
        await _require_room(tx, found, wish, kept)
        not_after = wish.not_after
        if wish.kind == "one-time" and not_after is None:
            not_after = tx.now + _ONE_TIME_LIFE
        values: dict[str, Any] = {
            "id": kept.id,
            "endpoint_id": found.id,
            "kind": wish.kind,
            "name": kept.name,
            "verifier": kept.verifier,
            "digest": kept.digest,
            "sealed": kept.sealed,
            "bound": wish.bound.model_dump(mode="json"),
            "uses_left": wish.uses,
            "transaction": None,
            "not_after": not_after,
            "created_by": principal.name,
            "created_at": tx.now,
            "used_at": None,
        }
        await tx.execute(insert(models.credential).values(**values))
        _record(tx, principal, "create", found, wish.kind, kept.name)
    return MadeCredential(StoredCredential.of(values), kept.shown)


async def list_credentials(
    enrollment: Enrollment, principal: Principal, protocol: Protocol, endpoint: str
) -> Sequence[StoredCredential]:
    """The credentials of an endpoint, by kind and name. Needs ``enrollment.view``. Raises NotFound."""
    c = models.credential.c
    async with enrollment.database.read() as view:
        found = await require_endpoint(view, principal, protocol, endpoint, Permission.ENROLLMENT_VIEW)
        query = select(models.credential).where(c.endpoint_id == found.id, c.kind != "spent")
        return [StoredCredential.of(row) for row in await view.all(query.order_by(c.kind, c.name))]


async def delete_credential(
    enrollment: Enrollment, principal: Principal, protocol: Protocol, endpoint: str, kind: CredentialKind, name: str
) -> None:
    """Delete a credential; it counts no longer at once. Needs ``enrollment.manage``. Raises NotFound."""
    c = models.credential.c
    async with enrollment.database.transaction() as tx:
        found = await require_endpoint(tx, principal, protocol, endpoint, Permission.ENROLLMENT_MANAGE)
        gone = delete(models.credential).where(c.endpoint_id == found.id, c.kind == kind, c.name == name)
        if await tx.scalar(gone.returning(c.id)) is None:
            raise NotFound(
                f'The endpoint "{found.address}" has no {kind} "{name[:100]}".',
                code="enrollment-credential-unknown",
                target="name",
            )
        _record(tx, principal, "delete", found, kind, name)


@dataclass(frozen=True)
class _Kept:
    id: UUID
    name: str
    shown: str = field(repr=False)
    verifier: str | None = field(default=None, repr=False)
    digest: bytes | None = field(default=None, repr=False)
    sealed: bytes | None = field(default=None, repr=False)


async def _kept(enrollment: Enrollment, endpoint: Endpoint, wish: NewCredential) -> _Kept:
    """What is kept of a secret, and what is shown."""
    _check(endpoint, wish)
    credential_id = new_id()
    name = wish.name or (str(credential_id) if wish.kind != "password" else "")
    if not _NAME.fullmatch(name) or (wish.kind == "password" and ":" in name):
        raise InvalidInput(
            "A credential is named by 1 to 200 printable ASCII characters, a user without a colon.",
            code="credential-name",
            remedy="Say --name.",
            target="name",
        )
    given = None if wish.secret is None else wish.secret.get_secret_value()
    if wish.kind == "webhook":
        known = {"url": wish.url, "token": given or "", "ca": _only_certificates(wish.ca_certificate)}
        sealed = enrollment.master_key.seal(json.dumps(known).encode(), purpose=purpose_of(credential_id))
        return _Kept(credential_id, name, "", sealed=sealed)
    secret = given or _generated(wish.kind)
    shown = "" if given else secret
    if wish.kind == "password":
        return _Kept(credential_id, name, shown, verifier=await passwords.hashed(SecretStr(secret)))
    if wish.kind in ("challenge", "one-time"):
        return _Kept(credential_id, name, shown, digest=await digest_of(enrollment, endpoint, secret))
    octets = _eab_octets(secret) if wish.kind == "eab" else secret.encode()
    sealed = enrollment.master_key.seal(octets, purpose=purpose_of(credential_id))
    return _Kept(credential_id, name, shown, sealed=sealed)


def _check(endpoint: Endpoint, wish: NewCredential) -> None:
    allowed = KINDS[endpoint.protocol]
    if wish.kind not in allowed:
        raise InvalidInput(
            f"An endpoint of {endpoint.protocol} knows no credential of the kind {wish.kind}.",
            code="credential-kind",
            remedy=f"Use one of: {', '.join(allowed)}.",
            target="kind",
        )
    if (wish.kind == "webhook") != (wish.url is not None):
        raise InvalidInput(
            "A webhook has an HTTPS URL, and nothing else has one.", code="credential-kind", target="url"
        )
    if wish.url is not None:
        _check_webhook(wish.url, wish.ca_certificate)
    _check_bound(endpoint, wish.bound)
    if wish.secret is not None and not SHORTEST_SECRET <= len(wish.secret.get_secret_value()) <= _LONGEST_SECRET:
        raise InvalidInput(
            f"A secret has {SHORTEST_SECRET} to {_LONGEST_SECRET} characters.",
            code="credential-secret",
            remedy="Leave it out to have one made.",
            target="secret",
        )


def _check_webhook(url: str, ca_certificate: str | None) -> None:
    try:
        parsed = httpx.URL(url)
        if parsed.scheme != "https" or not parsed.host or "%" in parsed.host or parsed.userinfo or parsed.fragment:
            raise ValueError
    except (httpx.InvalidURL, ValueError):
        raise InvalidInput(
            "A webhook is asked at an HTTPS URL without user name.",
            code="credential-webhook",
            remedy="Write it like https://devices.example.com/check.",
            target="url",
        ) from None
    if ca_certificate and not _only_certificates(ca_certificate):
        raise InvalidInput("There is no certificate in it.", code="credential-webhook", target="ca_certificate")


def _only_certificates(text: str | None) -> str:
    """The certificates in a text, without what is written around them."""
    return "".join(pem(each.der) for each in read_certificates(text)) if text else ""


def _check_bound(endpoint: Endpoint, bound: Bound) -> None:
    """What a credential is bound to can be read, and is looked at by the protocol."""
    if bound.subject is not None:
        if endpoint.protocol is Protocol.ACME:  # whose certificates have no subject but their first name
            raise InvalidInput(
                "Accounts of ACME are bound to names, not to a subject.",
                code="credential-bound",
                remedy="Say which names: --san dns=www.example.com.",
                target="bound",
            )
        Name.parse(bound.subject)
    if bound.sans:
        GeneralNames.build(bound.sans)


def _generated(kind: NewKind) -> str:
    octets = secrets.token_bytes(_EAB_OCTETS if kind == "eab" else _GENERATED_OCTETS)
    return base64.urlsafe_b64encode(octets).decode().rstrip("=")


def _eab_octets(text: str) -> bytes:
    """The key of an external account binding, which its user writes in base64url. Source: RFC 8555 section 7.3.4."""
    try:
        octets = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except ValueError:
        octets = b""
    if len(octets) < 16:
        raise InvalidInput(
            "The key of an external account binding is base64url of at least 16 octets.",
            code="credential-secret",
            target="secret",
        )
    return octets


async def _require_room(tx: Transaction, endpoint: Endpoint, wish: NewCredential, kept: _Kept) -> None:
    c = models.credential.c
    mine = c.endpoint_id == endpoint.id
    known = await tx.scalar(select(c.id).where(mine, c.kind == wish.kind, c.name == kept.name))
    if known is None and kept.digest is not None:
        known = await tx.scalar(select(c.id).where(mine, c.digest == kept.digest))
    if known is not None:
        raise StateConflict(
            f'The endpoint "{endpoint.address}" has this {wish.kind} already.',
            code="credential-exists",
            remedy="Choose another name and secret, or delete that one.",
        )
    if int(await tx.scalar(select(func.count()).where(mine))) >= _MOST:
        raise StateConflict(
            f"An endpoint has at most {_MOST} credentials.",
            code="too-many-credentials",
            remedy="Delete those that are not needed.",
        )


def _record(tx: Transaction, principal: Principal, verb: str, endpoint: Endpoint, kind: str, name: str) -> None:
    record(
        tx,
        principal,
        f"enrollment-credential.{verb}",
        "enrollment-credential",
        f"{endpoint.address}/{kind}/{name}",
        organization=endpoint.organization,
    )
