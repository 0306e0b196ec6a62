"""Orders: what an account wants certified, and how far it has got (RFC 8555 sections 7.1.3, 7.1.6, 7.4).

Stored is what was done: an order is open until it is finalized. Whether an open one is pending, ready or invalid
follows from its authorizations and the time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, Literal
from uuid import UUID

from sqlalchemy import insert, select, text

from intaglio.authority.certificates import StoredCertificate
from intaglio.authority.directory import CaView
from intaglio.core import clock
from intaglio.core.clock import rfc3339
from intaglio.core.errors import InvalidInput, NotFound
from intaglio.core.identifiers import new_id
from intaglio.db.engine import Transaction
from intaglio.enrollment.acme import models
from intaglio.enrollment.acme.accounts import audit, require_standing
from intaglio.enrollment.acme.authorizations import Authorization, load_many, make, require_room, usable
from intaglio.enrollment.acme.call import Answer, Call, Links
from intaglio.enrollment.acme.errors import (
    PREFIX,
    AlreadyReplaced,
    InvalidProfile,
    Malformed,
    OrderNotReady,
    ResourceUnknown,
)
from intaglio.enrollment.acme.identifiers import Identifier, check_policy, read_identifiers
from intaglio.enrollment.acme.options import later
from intaglio.enrollment.acme.replacement import names_of, replaced_certificate
from intaglio.enrollment.acme.statements import AUTHORIZATIONS, ORDER
from intaglio.enrollment.limits import count_one, too_many
from intaglio.gateway.validity import parse_moment

Status = Literal["pending", "ready", "processing", "valid", "invalid"]

_O: Final = models.order
_COUNTED: Final = timedelta(hours=3)
_MOST_REPLACING: Final = 10  # orders for one certificate, while they come to nothing
_WEEK: Final = timedelta(days=7)
PROCESSING_RETRY: Final = 2  # seconds
APPROVAL_RETRY: Final = 30


@dataclass(frozen=True)
class AcmeOrder:
    """One row of ``acme_order``."""

    id: UUID
    account_id: UUID
    state: str
    identifiers: tuple[Identifier, ...]
    authorizations: tuple[UUID, ...]
    profile: str
    not_before: datetime | None
    not_after: datetime | None
    replaces: UUID | None
    expires_at: datetime
    request: bytes | None = field(repr=False)
    source: str
    waits: bool
    error: Mapping[str, Any] | None
    certificate_id: UUID | None

    @classmethod
    def of(cls, row: Mapping[Any, Any]) -> AcmeOrder:
        return cls(
            row["id"], row["account_id"], row["state"], tuple(map(Identifier.of, row["identifiers"])),
            tuple(row["authorizations"]), row["profile"], row["not_before"], row["not_after"], row["replaces"],
            row["expires_at"], row["request"], row["source"], row["waits"], row["error"], row["certificate_id"],
        )  # fmt: skip

    @property
    def needs_proofs(self) -> bool:
        """Whether its status, or the reason for it, follows from its authorizations."""
        return self.state in ("open", "invalid")

    def status(self, proofs: Mapping[UUID, Authorization], now: datetime) -> Status:
        """What it has come to, given its authorizations (RFC 8555 section 7.1.6)."""
        if self.state != "open":
            return self.state  # type: ignore[return-value]  # the column admits no other
        if self.expires_at <= now:
            return "invalid"
        states = {
            proofs[each].status(now) if each in proofs else "expired" for each in self.authorizations
        }
        if states == {"valid"}:
            return "ready"
        return "pending" if states <= {"valid", "pending"} else "invalid"

    def problem(self, proofs: Mapping[UUID, Authorization], now: datetime) -> Mapping[str, Any] | None:
        """Why it is invalid; None while it is not."""
        if self.error is not None:
            return self.error
        if self.status(proofs, now) != "invalid":
            return None
        if self.expires_at <= now:
            return _error("malformed", "The order was not finalized in time.")
        for each in self.authorizations:
            proof = proofs.get(each)
            if proof is not None and proof.error is not None:
                return proof.error
        return _error("unauthorized", "An authorization of the order was deactivated or has expired.")

    def document(self, links: Links, proofs: Mapping[UUID, Authorization], now: datetime) -> dict[str, Any]:
        """The order object."""
        status = self.status(proofs, now)
        document: dict[str, Any] = {
            "status": status,
            "expires": rfc3339(self.expires_at),
            "identifiers": [each.document for each in self.identifiers],
            "authorizations": [links.authorization(each) for each in self.authorizations],
            "finalize": links.finalize(self.id),
            "profile": self.profile,
        }
        for name, moment in (("notBefore", self.not_before), ("notAfter", self.not_after)):
            if moment is not None:
                document[name] = rfc3339(moment)
        if (problem := self.problem(proofs, now)) is not None:
            document["error"] = dict(problem)
        if status == "valid":
            document["certificate"] = links.certificate(self.id)
        return document

    def answer(self, links: Links, proofs: Mapping[UUID, Authorization], now: datetime, *, status: int = 200) -> Answer:
        """The order as it is answered, with when to ask again while it is under way."""
        headers = {"Location": links.order(self.id)}
        if self.state == "processing":
            headers["Retry-After"] = str(APPROVAL_RETRY if self.waits else PROCESSING_RETRY)
        return Answer(self.document(links, proofs, now), status, headers)


async def new_order(call: Call) -> Answer:
    """Order a certificate; proofs that the account has given before count.

    Raises Malformed, UnsupportedIdentifier, RejectedIdentifier, InvalidProfile, AlreadyReplaced, UserActionRequired,
    RateLimited.
    """
    wish, options = call.wish, call.options
    require_standing(call)
    identifiers = read_identifiers(wish.get("identifiers"), options.identifiers_per_order)
    check_policy(identifiers, options, call.who.bound)
    ca = (await call.acme.enrollment.gateway.snapshot()).ca(call.endpoint.ca)
    profile = _profile(call, ca)
    replaces = wish.get("replaces")
    replaced = None if replaces is None else await replaced_certificate(call, ca, replaces, identifiers)
    async with call.acme.enrollment.database.transaction() as tx:
        await _count(tx, call, identifiers, replaced)
        not_before, not_after = _dates(call, ca, profile, tx.now)
        if replaced is not None:
            await _require_not_replaced(tx, replaced.id)
        proofs = await usable(tx, call.who.id, identifiers)
        missing = [each for each in identifiers if each not in proofs]
        if missing:
            await require_room(tx, call, len(missing))
        expires_at = later(tx.now, options.order_lifetime)
        for made in await make(tx, call, missing, expires_at):
            proofs[made.covers] = made
        used = [proofs[each] for each in identifiers]
        row: dict[str, Any] = {
            "id": new_id(),
            "account_id": call.who.id,
            "state": "open",
            "identifiers": [each.text for each in identifiers],
            "authorizations": [each.id for each in used],
            "profile": profile,
            "not_before": not_before,
            "not_after": not_after,
            "replaces": None if replaced is None else replaced.id,
            "created_at": tx.now,
            "expires_at": min([expires_at, *(each.expires_at for each in used)]),
            "waits": False,
        }
        await tx.execute(insert(_O).values(**row))
        facts = {"identifiers": row["identifiers"], "profile": profile}
        audit(tx, call.endpoint, call.applicant, "acme-order.create", row["id"], **facts)
        order = AcmeOrder.of({"request": None, "source": "", "error": None, "certificate_id": None, **row})
        return order.answer(call.links, {each.id: each for each in used}, tx.now, status=201)


async def show_order(call: Call, order_id: UUID) -> Answer:
    """An order as it is now. Raises ResourceUnknown, Malformed for a request that wants it changed."""
    if call.payload is not None:
        raise Malformed("An order cannot be changed; ask for it without payload.")
    order, proofs = await look_up(call, order_id)
    return order.answer(call.links, proofs, clock.now())


async def look_up(call: Call, order_id: UUID) -> tuple[AcmeOrder, dict[UUID, Authorization]]:
    """An order of the account that asks, with its authorizations where they matter. Raises ResourceUnknown."""
    statements = call.acme.statements
    row = await statements.one(ORDER, order_id, call.who.id)
    if row is None:
        raise ResourceUnknown("This account has no order with this URL.")
    order = AcmeOrder.of(row)
    if not order.needs_proofs:
        return order, {}
    rows = await statements.all(AUTHORIZATIONS, list(order.authorizations))
    return order, {each["id"]: Authorization.of(each) for each in rows}


def require_ready(order: AcmeOrder, proofs: Mapping[UUID, Authorization], now: datetime) -> None:
    """Raise OrderNotReady unless the order can be finalized."""
    status = order.status(proofs, now)
    if status != "ready":
        raise OrderNotReady(
            f"The order is {status}.",
            remedy="Answer the challenges of its authorizations." if status == "pending" else "Make a new order.",
        )


async def _require_not_replaced(tx: Transaction, certificate_id: UUID) -> None:
    """Raise AlreadyReplaced when another order that has not come to nothing replaces the certificate."""
    # Whoever replaces the same one at the same time waits until this order is there to be seen.
    await tx.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": certificate_id.int & (1 << 62) - 1})
    query = select(_O).where(_O.c.replaces == certificate_id, _O.c.state != "invalid")
    for row in await tx.all(query):
        order = AcmeOrder.of(row)
        if order.status(await load_many(tx, order.authorizations), tx.now) != "invalid":
            raise AlreadyReplaced("Another order replaces this certificate.", remedy="Order without replaces.")


def _profile(call: Call, ca: CaView) -> str:
    """The profile of the certificate: the endpoint's, or a further one that the order names."""
    wanted = call.wish.get("profile")
    offered = (call.endpoint.profile, *call.options.profiles)
    if wanted is not None and wanted not in offered:
        raise InvalidProfile(
            f'The profile "{str(wanted)[:80]}" is not offered here.', remedy=f"Offered: {', '.join(offered)}."
        )
    try:
        return ca.profile(wanted or call.endpoint.profile).id
    except NotFound as error:
        raise InvalidProfile(error.detail) from None


def _dates(call: Call, ca: CaView, profile: str, now: datetime) -> tuple[datetime | None, datetime | None]:
    """The validity asked for. Raises Malformed for one that could not be kept to (RFC 8555 section 7.4)."""
    found: list[datetime | None] = []
    for name in ("notBefore", "notAfter"):
        value = call.wish.get(name)
        try:
            found.append(None if value is None else parse_moment(str(value), target=name))
        except InvalidInput as error:
            raise Malformed(f'"{name}" is not a time: {error.detail}') from None
    not_before, not_after = found
    if not_before is None and not_after is None:
        return None, None
    if not call.options.requested_dates:
        raise Malformed("The validity follows from the profile here.", remedy="Leave notBefore and notAfter out.")
    latest = min(ca.profile(profile).validity.default.after(now), ca.certificate.not_after)
    start = not_before or now
    if not_after is not None and not max(start, now) < not_after <= latest:
        raise Malformed(f"notAfter lies after notBefore and now, and at the latest at {rfc3339(latest)}.")
    if not_before is not None and not now - timedelta(minutes=5) <= not_before < latest:
        raise Malformed("notBefore lies neither in the past nor beyond the longest validity.")
    return not_before, not_after


async def _count(
    tx: Transaction, call: Call, identifiers: tuple[Identifier, ...], replaced: StoredCertificate | None
) -> None:
    """Count the order, if it comes to be; of one that replaces a certificate the names that it adds. Raises
    RateLimited."""
    rates = call.options.rates
    counted = [(f"acme-order:{call.who.id}", rates.orders_per_account, _COUNTED)]
    if replaced is not None:  # renewing is not what rates are against; beginning over and over is
        counted = [(f"acme-replace:{replaced.id}", _MOST_REPLACING, _COUNTED)]
    if rates.certificates_per_domain is not None:
        known = set() if replaced is None else names_of(replaced)
        for domain in sorted({each.registered_domain for each in identifiers if each not in known}):
            counted.append((f"acme-domain:{call.endpoint.id}:{domain}", rates.certificates_per_domain, _WEEK))
    for name, most, period in counted:
        if most is not None:
            count, left = await count_one(tx, name, period)
            if count > most:
                raise too_many(left)


def _error(kind: str, detail: str) -> dict[str, Any]:
    return {"type": PREFIX + kind, "detail": detail, "status": 403}
