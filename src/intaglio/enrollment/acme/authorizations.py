"""Authorizations: an account's permission to have one name certified (RFC 8555 sections 7.1.4, 7.4.1, 7.5).

What is stored is what happened; whether an authorization has expired follows from the time.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, Literal
from uuid import UUID

from sqlalchemy import func, insert, select, update

from intaglio.core import clock
from intaglio.core.clock import rfc3339
from intaglio.core.errors import RateLimited
from intaglio.core.identifiers import new_id
from intaglio.db.engine import Transaction
from intaglio.enrollment.acme import models
from intaglio.enrollment.acme.accounts import audit, require_standing
from intaglio.enrollment.acme.call import Answer, Call, Links
from intaglio.enrollment.acme.errors import Malformed, RejectedIdentifier, ResourceUnknown
from intaglio.enrollment.acme.identifiers import Identifier, challenges_for, check_policy, read_identifier
from intaglio.enrollment.acme.options import AcmeOptions, later
from intaglio.enrollment.acme.statements import AUTHORIZATION
from intaglio.enrollment.acme.strict_json import encode_base64url

Status = Literal["pending", "valid", "invalid", "deactivated", "expired"]

_Z: Final = models.authorization
_TOKEN_OCTETS: Final = 24  # of randomness; RFC 8555 section 11.3 wants 16
#: A proof that ends this soon is not used for another order.
_STILL_GOOD: Final = timedelta(minutes=10)
RETRY_AFTER: Final = 2  # seconds


@dataclass(frozen=True)
class Authorization:
    """One row of ``acme_authorization``. ``identifier`` is without ``*.``; ``method`` is the challenge taken up."""

    id: UUID
    account_id: UUID
    identifier: Identifier
    wildcard: bool
    stored_status: str
    challenges: tuple[str, ...]
    token: str = field(repr=False)
    expires_at: datetime
    method: str | None
    validated_at: datetime | None
    error: Mapping[str, Any] | None

    @classmethod
    def of(cls, row: Mapping[Any, Any]) -> Authorization:
        return cls(
            row["id"], row["account_id"], Identifier(row["kind"], row["value"]), row["wildcard"], row["status"],
            tuple(row["challenges"]), row["token"], row["expires_at"], row["method"], row["validated_at"], row["error"],
        )  # fmt: skip

    @property
    def covers(self) -> Identifier:
        """The identifier as it is ordered."""
        return Identifier(self.identifier.kind, f"*.{self.identifier.value}") if self.wildcard else self.identifier

    def status(self, now: datetime) -> Status:
        """What it is worth at a moment (RFC 8555 section 7.1.6)."""
        if self.stored_status == "valid" and self.expires_at <= now:
            return "expired"
        if self.stored_status == "pending" and self.expires_at <= now:
            return "invalid"
        return self.stored_status  # type: ignore[return-value]  # the column admits no other

    def document(self, links: Links, now: datetime) -> dict[str, Any]:
        """The authorization object; of one that is decided, the challenge that decided."""
        document: dict[str, Any] = {
            "identifier": self.identifier.document,
            "status": self.status(now),
            "expires": rfc3339(self.expires_at),
            "challenges": [self.challenge(method, links, now) for method in self._shown()],
        }
        if self.wildcard:
            document["wildcard"] = True
        return document

    def challenge(self, method: str, links: Links, now: datetime) -> dict[str, Any]:
        """The challenge object of one method (RFC 8555 section 8)."""
        document: dict[str, Any] = {
            "type": method,
            "url": links.challenge(self.id, method),
            "status": self.challenge_status(method, now),
            "token": self.token,
        }
        if method == self.method:
            if self.validated_at is not None:
                document["validated"] = rfc3339(self.validated_at)
            if self.error is not None:
                document["error"] = dict(self.error)
        return document

    def challenge_status(self, method: str, now: datetime) -> str:
        """pending, processing, valid or invalid."""
        status = self.status(now)
        if method == self.method:
            return {"pending": "processing", "invalid": "invalid"}.get(
                status, "valid" if self.validated_at is not None else "pending"
            )
        return "invalid" if status == "invalid" else "pending"

    def _shown(self) -> Sequence[str]:
        decided = self.method is not None and self.stored_status in ("valid", "invalid")
        return (self.method,) if decided and self.method is not None else self.challenges


async def new_authorization(call: Call) -> Answer:
    """Authorize a name before it is ordered.

    Raises UnsupportedIdentifier, RejectedIdentifier, RateLimited, Malformed.
    """
    if not call.options.pre_authorization:
        raise Malformed("Names are not authorized before they are ordered here.")
    require_standing(call)
    value = call.wish.get("identifier")
    if not isinstance(value, dict) or not isinstance(value.get("type"), str) or not isinstance(value.get("value"), str):
        raise Malformed('A new authorization has an "identifier" with the strings "type" and "value".')
    identifier = read_identifier(value["type"], value["value"][:256])
    if identifier.is_wildcard:  # RFC 8555 section 7.4.1
        raise RejectedIdentifier("A wildcard is not authorized beforehand; order it.")
    check_policy((identifier,), call.options, call.who.bound)
    async with call.acme.enrollment.database.transaction() as tx:
        await require_room(tx, call, 1)
        known = (await usable(tx, call.who.id, (identifier,))).get(identifier)
        if known is not None:
            made = known
        else:
            (made,) = await make(tx, call, (identifier,), later(tx.now, call.options.order_lifetime))
            audit(tx, call.endpoint, call.applicant, "acme-authorization.create", made.id, identifier=identifier.text)
        document = made.document(call.links, tx.now)
    return Answer(document, 200 if known else 201, {"Location": call.links.authorization(made.id)})


async def show_authorization(call: Call, authorization_id: UUID) -> Answer:
    """An authorization; with the payload ``{"status": "deactivated"}`` it is given up (RFC 8555 section 7.5.2)."""
    if call.payload is not None:
        if call.payload.get("status") != "deactivated":
            raise Malformed('An authorization is changed to the status "deactivated" only.')
        return await _deactivate(call, authorization_id)
    return _answer(await look_up(call, authorization_id), call.links, clock.now())


async def look_up(call: Call, authorization_id: UUID) -> Authorization:
    """An authorization of the account that asks, read quickly. Raises ResourceUnknown."""
    row = await call.acme.statements.one(AUTHORIZATION, authorization_id, call.who.id)
    if row is None:
        raise _unknown()
    return Authorization.of(row)


async def load(view: Transaction, account_id: UUID, authorization_id: UUID) -> Authorization:
    """An authorization of an account. Raises ResourceUnknown."""
    row = await view.one_or_none(select(_Z).where(_Z.c.id == authorization_id, _Z.c.account_id == account_id))
    if row is None:
        raise _unknown()
    return Authorization.of(row)


async def load_many(view: Transaction, ids: Sequence[UUID]) -> dict[UUID, Authorization]:
    """Authorizations by id; those that were deleted are missing."""
    return {row["id"]: Authorization.of(row) for row in await view.all(select(_Z).where(_Z.c.id.in_(ids)))}


async def usable(
    tx: Transaction, account_id: UUID, identifiers: Sequence[Identifier]
) -> dict[Identifier, Authorization]:
    """The proofs that the account has given already and that last for a while, the longest by identifier."""
    query = select(_Z).where(
        _Z.c.account_id == account_id,
        _Z.c.value.in_({each.base for each in identifiers}),
        _Z.c.status == "valid",
        _Z.c.expires_at > tx.now + _STILL_GOOD,
    )
    found = [Authorization.of(row) for row in await tx.all(query.order_by(_Z.c.expires_at))]
    return {each.covers: each for each in found}


async def make(
    tx: Transaction, call: Call, identifiers: Sequence[Identifier], expires_at: datetime
) -> list[Authorization]:
    """New pending authorizations. Raises RejectedIdentifier when no challenge can prove one of them."""
    rows = [_row(call.who.id, each, call.options, tx.now, expires_at) for each in identifiers]
    if rows:
        await tx.execute(insert(_Z), rows)
    return [Authorization.of({"method": None, "validated_at": None, "error": None, **row}) for row in rows]


async def require_room(tx: Transaction, call: Call, wanted: int) -> None:
    """Raise RateLimited when the account would have too many authorizations that wait."""
    most = call.options.rates.pending_authorizations
    if most is None:
        return
    query = select(func.count().label("waiting"), func.min(_Z.c.expires_at).label("first")).where(
        _Z.c.account_id == call.who.id, _Z.c.status == "pending", _Z.c.expires_at > tx.now
    )
    (row,) = await tx.all(query)
    count, first = int(row["waiting"]), row["first"]
    if count + wanted > most:
        wait = 60 if first is None else max(1, min(3600, int((first - tx.now).total_seconds())))
        raise RateLimited(
            f"{count} authorizations of this account wait already.",
            code="too-many-requests",
            remedy="Answer their challenges, or deactivate them.",
            retry_after=wait,
        )


async def _deactivate(call: Call, authorization_id: UUID) -> Answer:
    async with call.acme.enrollment.database.transaction() as tx:
        found = await load(tx, call.who.id, authorization_id)
        status = found.status(tx.now)
        if status not in ("pending", "valid"):
            raise Malformed(f"The authorization is {status}.")
        row = await tx.one_or_none(
            update(_Z)
            .where(_Z.c.id == authorization_id, _Z.c.status == found.stored_status)
            .values(status="deactivated", holder=None, held_until=None)
            .returning(_Z)
        )
        if row is None:
            raise Malformed("The authorization was decided at this moment.")
        facts = {"identifier": found.covers.text}
        audit(tx, call.endpoint, call.applicant, "acme-authorization.deactivate", found.id, **facts)
        return _answer(Authorization.of(row), call.links, tx.now)


def _answer(found: Authorization, links: Links, now: datetime) -> Answer:
    waiting = found.status(now) == "pending" and found.method is not None
    return Answer(found.document(links, now), headers={"Retry-After": str(RETRY_AFTER)} if waiting else {})


def _unknown() -> ResourceUnknown:
    return ResourceUnknown("This account has no authorization with this URL.")


def _row(
    account_id: UUID, identifier: Identifier, options: AcmeOptions, now: datetime, expires_at: datetime
) -> dict[str, Any]:
    return {
        "id": new_id(),
        "account_id": account_id,
        "kind": identifier.kind,
        "value": identifier.base,
        "wildcard": identifier.is_wildcard,
        "status": "pending",
        "challenges": challenges_for(identifier, options),
        "token": encode_base64url(secrets.token_bytes(_TOKEN_OCTETS)),
        "created_at": now,
        "expires_at": expires_at,
    }
