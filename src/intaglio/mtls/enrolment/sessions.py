"""Enrolment sessions: a security code and an e-mail address are exchanged for ten minutes in which to send a request.

Whoever guesses learns nothing: a code that is unknown, mistyped or wrong gives the same answer in the same time, counts
in the same way and is locked after the same number of failures. Only with the right code does an answer say more.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import func, insert, select, update

from intaglio.audit import record as audit
from intaglio.core.errors import Forbidden, IntaglioError, NotFound, RateLimited
from intaglio.core.identifiers import new_id
from intaglio.core.principal import ANONYMOUS, SYSTEM, Principal
from intaglio.db.engine import Row, Transaction
from intaglio.mtls.context import Mtls
from intaglio.mtls.enrolment import errors, limits
from intaglio.mtls.enrolment.code_rows import CodeState, codes_query
from intaglio.mtls.enrolment.code_text import SecurityCode, code_hash, read_code
from intaglio.mtls.enrolment.codes import SERVER_KEY
from intaglio.mtls.enrolment.models import code as code_table
from intaglio.mtls.enrolment.models import session as table
from intaglio.mtls.enrolment.settings import EnrolmentSettings
from intaglio.mtls.identities import registry
from intaglio.mtls.identities.registration import require_address_free
from intaglio.mtls.identities.secrets import server_secret
from intaglio.mtls.identities.values import Identity
from intaglio.platform import live_settings

_NOBODY = UUID(int=0)
_LONGEST_EMAIL = 254
_LONGEST_AGENT = 400
_LONGEST_TOKEN = 100
#: States in which a session can still lead to a certificate.
OPEN = ("details", "csr-received")


@dataclass(frozen=True)
class OpenSession:
    """A session just begun. ``token`` opens it; ``nonce`` goes into the request as challengePassword."""

    token: str = field(repr=False)
    identity: Identity
    email: str
    nonce: str = field(repr=False)
    expires_at: datetime


@dataclass(frozen=True)
class Visitor:
    """Where a request comes from: network address and browser."""

    source: str
    user_agent: str = ""

    @property
    def principal(self) -> Principal:
        return Principal(ANONYMOUS.kind, ANONYMOUS.name, source=self.source)


@dataclass(frozen=True)
class Denied:
    """An attempt that failed: what to answer, and for the audit trail which code it was and whether it is locked now.

    It is returned, not raised, so that what was counted gets committed.
    """

    refusal: IntaglioError
    code_id: UUID | None = None
    locked: bool = False


async def begin_session(mtls: Mtls, code: str, email: str, visitor: Visitor) -> OpenSession:
    """Exchange a code and an address of its list for a session.

    Raises Forbidden (``code_invalid``, ``code_expired``, ``code_revoked``, ``email_not_allowed``,
    ``code-not-approved``, ``identity-suspended`` ...), StateConflict (``code_used``, ``email-taken``), RateLimited
    (``code_locked``, ``rate_limited``, ``too-many-sessions``).
    """
    async with mtls.database.read() as view:
        settings = await live_settings.current(view, EnrolmentSettings)
    await limits.count_request(mtls.database, visitor.source, settings.requests_per_minute)
    async with mtls.database.transaction() as tx:
        found = await examine_code(tx, mtls, code, email, settings)
        if not isinstance(found, Denied):
            return await _open(tx, found, plain_email(email), settings, visitor)
    note_denied(mtls, visitor, found)
    raise found.refusal


async def examine_code(
    tx: Transaction, mtls: Mtls, text: str, email: str, settings: EnrolmentSettings
) -> Row | Denied:
    """The row of a good code, locked until the end, or why it is not. Raises RateLimited (``code_locked``)."""
    code = read_code(text)
    if code is None:
        return Denied(errors.code_invalid())
    await limits.require_unlocked(tx, code.handle, settings.max_attempts)
    query = codes_query(tx.now).where(code_table.c.handle == code.handle).with_for_update()
    row = await tx.one_or_none(query)
    if not await _is_right(tx, mtls, code, row):
        return await _failed(tx, code, row, errors.code_invalid(), settings)
    assert row is not None
    if (refusal := _refusal(row)) is not None:
        return Denied(refusal, row["id"])
    if plain_email(email) not in row["emails"]:
        return await _failed(tx, code, row, errors.email_not_allowed(), settings)
    return row


async def load_session(tx: Transaction, token: str, *, lock: bool = False) -> Row:
    """The session that ``token`` opens. Raises NotFound (``session-unknown``), also for one that is over."""
    query = select(table).where(table.c.token_hash == token_hash(token))
    row = await tx.one_or_none(query.with_for_update() if lock else query)
    if row is None or row["expires_at"] <= tx.now or row["state"] in ("failed", "timed-out"):
        raise session_unknown()
    return row


async def new_session(
    tx: Transaction,
    identity: Identity,
    email: str,
    visitor: Visitor,
    minutes: int,
    *,
    code_id: UUID | None = None,
    renews: UUID | None = None,
) -> OpenSession:
    """A session for an identity, by a security code or for the renewal of a binding."""
    nonce = secrets.token_urlsafe(18)
    token = secrets.token_urlsafe(24) if renews is None else renewal_token(renews, nonce)
    expires_at = tx.now + timedelta(minutes=minutes)
    await tx.execute(
        insert(table).values(
            id=new_id(),
            token_hash=token_hash(token),
            code_id=code_id,
            renews=renews,
            identity_id=identity.id,
            identity=identity.name,
            email=email,
            nonce=nonce,
            state="details",
            source=visitor.source[:64],
            user_agent=visitor.user_agent[:_LONGEST_AGENT],
            created_at=tx.now,
            expires_at=expires_at,
        )
    )
    return OpenSession(token, identity, email, nonce, expires_at)


async def set_session(tx: Transaction, session_id: UUID, **values: Any) -> None:
    """Change columns of a session."""
    await tx.execute(update(table).where(table.c.id == session_id).values(**values))


async def note_download(mtls: Mtls, token: str, visitor: Visitor) -> None:
    """Note that the browser has handed the file to its user. Idempotent. Raises NotFound (``session-unknown``)."""
    async with mtls.database.transaction() as tx:
        row = await load_session(tx, token, lock=True)
        if row["state"] == "downloaded":
            return
        if row["state"] != "issued":
            raise session_unknown()
        identity = await registry.load_identity(tx, row["identity_id"])
        await set_session(tx, row["id"], state="downloaded")
        note(tx, identity, visitor, "download", row)


def note(
    tx: Transaction, identity: Identity, visitor: Visitor | None, verb: str, row: Row, **facts: Any
) -> None:
    """Record a step of a session in the name of the identity that its code stands for; without a visitor in our own."""
    if row.get("code_id") is not None:
        facts["code"] = str(row["code_id"])
    principal = SYSTEM if visitor is None else identity.principal(visitor.source)
    audit.record(
        tx, principal, f"enrolment.{verb}", "identity", identity.uri, organization=identity.domain.organization, **facts
    )


def token_hash(token: str) -> bytes:
    """What is stored of a session token. It is random, so a plain hash is enough."""
    return hashlib.sha256(token[:_LONGEST_TOKEN].encode("utf-8", "replace")).digest()


def renewal_token(binding_id: UUID, nonce: str) -> str:
    """What opens the session of a renewal: the certificate one comes with, and the nonce in the request."""
    return f"{binding_id} {nonce}"


def session_unknown() -> NotFound:
    return NotFound(
        "There is no such enrolment, or its time is over.",
        code="session-unknown",
        remedy="Begin again; the security code is still good unless a certificate was issued.",
    )


def note_denied(mtls: Mtls, visitor: Visitor, denied: Denied) -> None:
    """For the audit trail: which code somebody failed with, if there is one. Costs the same if there is none."""
    if mtls.refusals is None:
        return
    name = str(denied.code_id) if denied.code_id else "(unknown)"
    mtls.refusals.record(visitor.principal, "enrolment.begin", "security-code", name, denied.refusal)
    if denied.locked:
        mtls.refusals.record(visitor.principal, "security-code.lock", "security-code", name, errors.code_locked(1))


# ---- steps -----------------------------------------------------------------------------------------------------------


async def _open(
    tx: Transaction, row: Row, email: str, settings: EnrolmentSettings, visitor: Visitor
) -> OpenSession:
    identity = await registry.load_identity(tx, row["identity_id"])
    registry.require_active(identity)
    await require_address_free(tx, identity, email)  # before a key is made; it is looked at again when it is taken
    begun = await tx.scalar(select(func.count()).where(table.c.code_id == row["id"]))
    if begun >= settings.sessions_per_code:
        raise RateLimited(
            "The security code was used to begin too many enrolments.",
            code="too-many-sessions",
            remedy="Ask your administrator for a new one.",
            retry_after=3600,
        )
    opened = await new_session(tx, identity, email, visitor, settings.session_minutes, code_id=row["id"])
    note(tx, identity, visitor, "begin", {"code_id": row["id"]}, handle=row["handle"])
    return opened


async def _is_right(tx: Transaction, mtls: Mtls, code: SecurityCode, row: Row | None) -> bool:
    """Compare the keyed hash, of a code that does not exist too, in constant time."""
    server_key = await server_secret(tx, mtls.master_key, SERVER_KEY)
    given = code_hash(server_key, row["id"] if row is not None else _NOBODY, code)
    stored = bytes(row["code_hash"]) if row is not None else bytes(32)
    return hmac.compare_digest(given, stored) and row is not None


async def _failed(
    tx: Transaction, code: SecurityCode, row: Row | None, refusal: Forbidden, settings: EnrolmentSettings
) -> Denied:
    """Count a failure; the last one that is allowed locks the code. The same statements run for an unknown one."""
    locked = await limits.count_failure(tx, code.handle) >= settings.max_attempts
    if locked:
        open_one = (code_table.c.handle == code.handle) & code_table.c.locked_at.is_(None)
        await tx.execute(update(code_table).where(open_one).values(locked_at=tx.now))
    return Denied(refusal, None if row is None else row["id"], locked)


def _refusal(row: Row) -> IntaglioError | None:
    """Why a code that was entered rightly is good for nothing."""
    match CodeState(row["state"]):
        case CodeState.REVOKED:
            return errors.code_revoked()
        case CodeState.USED:
            return errors.code_used()
        case CodeState.LOCKED:
            return errors.code_locked(24 * 3600)
        case CodeState.EXPIRED:
            return errors.code_expired()
        case CodeState.AWAITING_APPROVAL:
            return errors.code_not_approved()
        case _:
            return None


def plain_email(email: str) -> str:
    """How addresses are compared."""
    return email[:_LONGEST_EMAIL].strip().lower()
