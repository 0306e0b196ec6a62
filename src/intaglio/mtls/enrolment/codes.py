"""Security codes: made, approved, handed over, withdrawn by administrators.

The code is shown once, to whoever makes it, or sent by mail to the person it is for; only a keyed hash is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import insert, select, update

from intaglio.audit import record as audit
from intaglio.authority import models as authority_models
from intaglio.authority.access import memberships_of, require_organization, sees_all
from intaglio.core.clock import rfc3339
from intaglio.core.errors import Forbidden, InvalidInput, Refused, StateConflict, Unavailable
from intaglio.core.identifiers import new_id
from intaglio.core.principal import Permission, Principal
from intaglio.db.engine import Transaction
from intaglio.db.listing import Listing, ListQuery, Page
from intaglio.mtls.context import Mtls
from intaglio.mtls.enrolment import limits, mail, messages
from intaglio.mtls.enrolment.code_rows import OPEN, Code, CodeState, codes_query, load_code, lower_emails, state_at
from intaglio.mtls.enrolment.code_text import SecurityCode, code_hash, new_code
from intaglio.mtls.enrolment.models import code as table
from intaglio.mtls.enrolment.policy import page_url
from intaglio.mtls.enrolment.settings import EnrolmentSettings
from intaglio.mtls.identities import names
from intaglio.mtls.identities.secrets import server_secret
from intaglio.mtls.identities.values import Identity, Kind
from intaglio.platform import live_settings

SERVER_KEY = "enrolment-codes"
ENROLLABLE = frozenset({Kind.USER, Kind.DEVICE})
_MOST_EMAILS = 10
_LONGEST_NOTE = 500
_TRIES = 20


@dataclass(frozen=True)
class NewCode:
    """What a code shall be good for.

    ``emails`` are the addresses that may use it, by default that of the identity; one of them goes into the
    certificate. ``validity_days`` is the life of the certificate, ``ttl_hours`` that of the code; None: as the settings
    say. ``deliver`` sends the code by mail to the first address instead of showing it.
    """

    identity: Identity
    emails: Sequence[str] = ()
    validity_days: int | None = None
    max_uses: int | None = None
    ttl_hours: int | None = None
    note: str = ""
    deliver: bool = False


@dataclass(frozen=True)
class CreatedCode:
    """A code just made. ``text`` is shown this once; None when it went, or will go, by mail."""

    code: Code
    text: str | None = field(default=None, repr=False)


async def create_code(mtls: Mtls, principal: Principal, wanted: NewCode) -> CreatedCode:
    """Make a code for a user or device. Needs ``mtls.enrol`` in the organization of its trust domain.

    Where the settings ask for the approval of a second person, the code is good for nothing until then, and mail waits
    for it. An address that the registry does not have for a user is put there when the code is used, so it needs
    ``mtls.identities``, too. Raises Forbidden (``email-not-registered``), NotFound, InvalidInput, Refused
    (``lifetime-above-ceiling``, ``identity-not-enrollable``), StateConflict (``mail-not-configured``), Unavailable
    (``mail-unavailable``: the code exists, to be sent again).
    """
    identity = wanted.identity
    async with mtls.database.transaction() as tx:
        await require_organization(tx, principal, identity.domain.organization, Permission.MTLS_ENROL)
        settings = await live_settings.current(tx, EnrolmentSettings)
        values = _checked(wanted, settings)
        _require_registered(principal, identity, wanted.emails)
        if wanted.deliver and not await mail.is_configured(tx):
            raise _mail_not_configured()
        made = await _insert(tx, mtls, principal, identity, values, approved=not settings.approval)
        code = await load_code(tx, principal, made[0], Permission.MTLS_ENROL)
        _note(tx, principal, "create", code, expires_at=rfc3339(code.expires_at), max_uses=code.max_uses)
    if not wanted.deliver:
        return CreatedCode(code, made[1].text)
    if code.state is CodeState.AWAITING_APPROVAL:
        return CreatedCode(code)
    return CreatedCode(await send_code(mtls, principal, code.id))


async def get_code(mtls: Mtls, principal: Principal, code_id: UUID) -> Code:
    """One code, without the code. Needs ``mtls.enrol``. Raises NotFound."""
    async with mtls.database.read() as view:
        return await load_code(view, principal, code_id, Permission.MTLS_ENROL)


async def list_codes(mtls: Mtls, principal: Principal, asked: ListQuery) -> Page:
    """Codes of the organizations that the principal sees, newest first. Needs ``mtls.enrol``."""
    principal.require(Permission.MTLS_ENROL)
    async with mtls.database.read() as view:
        query = codes_query(view.now)
        if not sees_all(principal):
            o = authority_models.organization.c
            mine = select(o.name).where(o.id.in_(memberships_of(principal.name)), o.deleted_at.is_(None))
            query = query.where(table.c.organization.in_(mine) if principal.kind == "user" else False)
        columns = {
            "id": table.c.id,
            "handle": table.c.handle,
            "state": state_at(view.now).element,
            "organization": table.c.organization,
            "domain": table.c.domain,
            "identity": table.c.identity,
            "emails": lower_emails(),
            "created_by": table.c.created_by,
            "created_at": table.c.created_at,
            "expires_at": table.c.expires_at,
        }
        return await Listing(query, columns, table.c.id, "-created_at").page(view, asked)


async def approve_code(mtls: Mtls, principal: Principal, code_id: UUID) -> Code:
    """Approve a code that another person made; a code that goes by mail is sent now. Needs ``mtls.enrol``.

    Raises NotFound, Forbidden (``second-person-required``), StateConflict (``code-not-waiting``), Unavailable
    (``mail-unavailable``: it is approved, to be sent again).
    """
    async with mtls.database.transaction() as tx:
        code = await load_code(tx, principal, code_id, Permission.MTLS_ENROL, lock=True)
        if code.state is not CodeState.AWAITING_APPROVAL:
            raise StateConflict(
                f"The security code is {code.state.value} and waits for no approval.", code="code-not-waiting"
            )
        if principal.name == code.created_by:
            raise Forbidden(
                "Whoever made a security code cannot approve it.",
                code="second-person-required",
                remedy="Ask a second person with mtls.enrol.",
            )
        await _set(tx, code_id, approved_at=tx.now, approval_by=principal.name)
        by_mail = await tx.scalar(select(table.c.by_mail).where(table.c.id == code_id))
        _note(tx, principal, "approve", code)
    if by_mail:
        return await send_code(mtls, principal, code_id, to=by_mail)
    return await get_code(mtls, principal, code_id)


async def send_code(mtls: Mtls, principal: Principal, code_id: UUID, *, to: str | None = None) -> Code:
    """Send a code by mail to ``to``, one of its addresses (default: the first). Needs ``mtls.enrol``.

    As no code is kept, the row gets a new one, and what was shown or sent before is good no more. Raises NotFound,
    StateConflict (``code-not-open``, ``mail-not-configured``), Forbidden (``code-not-approved``), Refused
    (``email-not-of-code``), Unavailable (``mail-unavailable``: nothing has changed).
    """
    async with mtls.database.transaction() as tx:
        before = await load_code(tx, principal, code_id, Permission.MTLS_ENROL)
        address = _address(before, to)
        server_key = await server_secret(tx, mtls.master_key, SERVER_KEY)
        settings = await live_settings.current(tx, EnrolmentSettings)
    fresh = new_code()
    await mail.send(mtls, messages.security_code(before, fresh.text, address, page_url(mtls.settings, settings)))
    async with mtls.database.transaction() as tx:
        code = await load_code(tx, principal, code_id, Permission.MTLS_ENROL, lock=True)
        _address(code, to)  # still open
        await _set(
            tx, code_id, handle=fresh.handle, code_hash=code_hash(server_key, code_id, fresh), delivered_at=tx.now
        )
        _note(tx, principal, "deliver", code, to=address, handle=fresh.handle)
    return await get_code(mtls, principal, code_id)


async def mark_delivered(mtls: Mtls, principal: Principal, code_id: UUID) -> Code:
    """Say that a code that was shown has reached its person. Needs ``mtls.enrol``. Raises NotFound, StateConflict."""
    async with mtls.database.transaction() as tx:
        code = await load_code(tx, principal, code_id, Permission.MTLS_ENROL, lock=True)
        _require_open(code)
        await _set(tx, code_id, delivered_at=tx.now)
        _note(tx, principal, "deliver", code, to="in person")
    return await get_code(mtls, principal, code_id)


async def revoke_code(mtls: Mtls, principal: Principal, code_id: UUID) -> Code:
    """Withdraw a code; what was issued with it stays. Idempotent. Needs ``mtls.enrol``.

    Raises NotFound, StateConflict (``code-not-open``) for one that is used up.
    """
    async with mtls.database.transaction() as tx:
        code = await load_code(tx, principal, code_id, Permission.MTLS_ENROL, lock=True)
        if code.state is CodeState.USED:
            raise _not_open(code)
        if code.state is not CodeState.REVOKED:
            await _set(tx, code_id, revoked_at=tx.now)
            _note(tx, principal, "revoke", code)
    return await get_code(mtls, principal, code_id)


# ---- steps -----------------------------------------------------------------------------------------------------------


def _checked(wanted: NewCode, settings: EnrolmentSettings) -> dict[str, object]:
    """The columns that were asked for. Raises InvalidInput, Refused."""
    identity = wanted.identity
    if identity.kind not in ENROLLABLE or identity.state != "active":
        raise Refused(
            f'"{identity.name}" is {"a " + identity.kind.value if identity.state == "active" else identity.state}.',
            code="identity-not-enrollable",
            remedy="Security codes are for active users and devices; everything else enrols by itself.",
        )
    # Only users are certified with the address they enter.
    within = identity.domain.email_domains if identity.kind is Kind.USER else ()
    given = [address.strip().lower() for address in wanted.emails or [identity.email] if address]
    emails = [names.email_address(address, within) for address in given]
    if not 0 < len(emails) <= _MOST_EMAILS:
        raise InvalidInput(f"A security code is for 1 to {_MOST_EMAILS} e-mail addresses.", target="emails")
    ceiling = identity.domain.ceilings[identity.kind]
    if wanted.validity_days is not None and not timedelta(0) < timedelta(days=wanted.validity_days) <= ceiling:
        raise Refused(
            f"{wanted.validity_days} days are outside of what {identity.domain.name} permits "
            f"({ceiling.total_seconds() / 86400:g} days).",
            code="lifetime-above-ceiling",
            remedy="Ask for less, or have the ceiling of the trust domain raised.",
            target="validity_days",
        )
    if len(wanted.note) > _LONGEST_NOTE or not wanted.note.isprintable():
        raise InvalidInput(f"A note has at most {_LONGEST_NOTE} printable characters.", target="note")
    hours = settings.code_ttl_hours if wanted.ttl_hours is None else wanted.ttl_hours
    uses = settings.code_uses if wanted.max_uses is None else wanted.max_uses
    _require_between(hours, 1, 24 * 90, "ttl_hours")
    _require_between(uses, 1, 20, "max_uses")
    return {
        "emails": list(dict.fromkeys(emails)),
        "validity_days": wanted.validity_days,
        "max_uses": uses,
        "ttl": timedelta(hours=hours),
        "note": wanted.note,
        "by_mail": emails[0] if wanted.deliver else "",
    }


def _require_registered(principal: Principal, identity: Identity, emails: Sequence[str]) -> None:
    """Raise Forbidden for addresses that only whoever keeps the registry may give to a user."""
    foreign = [address for address in emails if address and address.strip().lower() != identity.email.lower()]
    if identity.kind is Kind.USER and foreign and not principal.may(Permission.MTLS_IDENTITIES):
        raise Forbidden(
            f'The registry has another address for "{identity.name}" than {foreign[0][:80]}.',
            code="email-not-registered",
            remedy="Leave the addresses out, or have somebody with mtls.identities change the one in the registry.",
        )


async def _insert(
    tx: Transaction, mtls: Mtls, principal: Principal, identity: Identity, values: dict[str, object], *, approved: bool
) -> tuple[UUID, SecurityCode]:
    code_id, ttl = new_id(), values.pop("ttl")
    assert isinstance(ttl, timedelta)
    server_key = await server_secret(tx, mtls.master_key, SERVER_KEY)
    fresh = await _free_code(tx)
    await tx.execute(
        insert(table).values(
            id=code_id,
            handle=fresh.handle,
            code_hash=code_hash(server_key, code_id, fresh),
            organization=identity.domain.organization,
            domain=identity.domain.name,
            identity_id=identity.id,
            identity=identity.name,
            created_by=principal.name,
            created_at=tx.now,
            expires_at=tx.now + ttl,
            approved_at=tx.now if approved else None,
            **values,
        )
    )
    await limits.forget(tx, fresh.handle)
    return code_id, fresh


async def _free_code(tx: Transaction) -> SecurityCode:
    """A code whose first symbols are in no other row; 33 million of them are never all taken."""
    for _ in range(_TRIES):
        fresh = new_code()
        if await tx.scalar(select(table.c.id).where(table.c.handle == fresh.handle)) is None:
            return fresh
    raise Unavailable("No free security code was found.", code="codes-exhausted", remedy="Remove old codes.")


def _address(code: Code, to: str | None) -> str:
    """Where a code may be sent. Raises StateConflict, Forbidden, Refused."""
    if code.state is CodeState.AWAITING_APPROVAL:
        raise Forbidden(
            "The security code waits for the approval of a second person.",
            code="code-not-approved",
            remedy="Have it approved first.",
        )
    _require_open(code)
    address = (to or code.emails[0]).strip().lower()
    if address not in code.emails:
        raise Refused(
            "The security code is not for this e-mail address.",
            code="email-not-of-code",
            remedy=f"Send it to one of: {', '.join(code.emails)}.",
            target="to",
        )
    return address


def _require_open(code: Code) -> None:
    if code.state not in OPEN:
        raise _not_open(code)


def _not_open(code: Code) -> StateConflict:
    return StateConflict(
        f"The security code is {code.state.value}.", code="code-not-open", remedy="Make a new one."
    )


def _require_between(value: int, least: int, most: int, target: str) -> None:
    if not least <= value <= most:
        raise InvalidInput(f"{target} is {least} to {most}.", target=target)


async def _set(tx: Transaction, code_id: UUID, **values: object) -> None:
    await tx.execute(update(table).where(table.c.id == code_id).values(**values))


def _note(tx: Transaction, principal: Principal, verb: str, code: Code, **more: Any) -> None:
    facts: dict[str, Any] = {"identity": code.identity, "domain": code.domain, "handle": code.handle, **more}
    audit.record(
        tx, principal, f"security-code.{verb}", "security-code", str(code.id), organization=code.organization, **facts
    )


def _mail_not_configured() -> StateConflict:
    return StateConflict(
        "No mail server is configured.",
        code="mail-not-configured",
        remedy="Set it: `intaglio settings set mail.host=... mail.sender=...`, or have the code shown.",
    )
