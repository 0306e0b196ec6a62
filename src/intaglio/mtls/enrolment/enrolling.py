"""From a request in a session to a certificate: one code, one certificate, whatever dies in between.

1. read and check the request outside of any transaction   2. claim: under the locks of session and code the request
becomes the one of its session, and nobody else issues for the code meanwhile   3. issue, with the session as
idempotency key   4. conclude: the code is used up, in one transaction with the state of the session.

A process that dies between 3 and 4 leaves a claimed session. The same request gets the same certificate then; another
session of the same code finds the certificate by the key, counts it, and gets none. A process that was asleep for so
long that another session took over revokes what it has issued.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import func, select, update

from intaglio.authority import models as authority_models
from intaglio.authority.certificates import RevocationReason
from intaglio.authority.directory import Snapshot
from intaglio.authority.revocation import change_status_in, revocation
from intaglio.core.errors import IntaglioError, NotFound, StateConflict
from intaglio.core.principal import SYSTEM
from intaglio.db.engine import Row, Transaction
from intaglio.mtls.context import Mtls
from intaglio.mtls.enrolment import errors, limits, record_store
from intaglio.mtls.enrolment.code_rows import Code, CodeState, codes_query
from intaglio.mtls.enrolment.csr_checks import Expected, read_csr
from intaglio.mtls.enrolment.models import code as code_table
from intaglio.mtls.enrolment.models import session as table
from intaglio.mtls.enrolment.policy import lifetime_of
from intaglio.mtls.enrolment.sessions import OPEN, Visitor, load_session, note, session_unknown, set_session
from intaglio.mtls.enrolment.settings import EnrolmentSettings
from intaglio.mtls.identities import models as identity_models
from intaglio.mtls.identities import registry
from intaglio.mtls.identities.issuing import issue_identity
from intaglio.mtls.identities.names import email_address
from intaglio.mtls.identities.registration import require_address_free
from intaglio.mtls.identities.values import Channel, Identity, IssuedIdentity, Kind
from intaglio.platform import live_settings
from intaglio.x509.requests import CertificateRequest

#: How long one process issues for a session without another one taking over; longer than any request may take.
_LEASE = timedelta(seconds=60)
_GIVEN_UP = ("failed", "timed-out")


async def submit_request(mtls: Mtls, token: str, csr: bytes | str, visitor: Visitor) -> IssuedIdentity:
    """Certify the request of a session.

    The same request again gets the same certificate. Raises NotFound (``session-unknown``), InvalidInput
    (``csr_malformed``, ``csr_signature``, ``csr_key_type``, ``csr_mismatch``), StateConflict (``code_used``,
    ``key_reused``, ``enrolment-in-progress``, ``email-taken``), Forbidden (code revoked meanwhile, identity
    suspended), Unavailable (``ca_unavailable``: the session stays open and the code good), RateLimited.
    """
    async with mtls.database.read() as view:
        settings = await live_settings.current(view, EnrolmentSettings)
    await limits.count_request(mtls.database, visitor.source, settings.requests_per_minute, kind="request")
    async with mtls.database.read() as view:
        row = await load_session(view, token)
    request = read_csr(csr, Expected(row["identity"], row["email"], row["nonce"], settings.key_algorithms))
    claim = await _claim(mtls, token, request, settings, visitor)
    if isinstance(claim, IntaglioError):
        raise claim
    return await _issue(mtls, claim, request, visitor)


async def session_owner(mtls: Mtls, token: str) -> Identity | None:
    """Whose session a token opens; None for one that opens none."""
    async with mtls.database.read() as view:
        try:
            row = await load_session(view, token)
        except NotFound:
            return None
        return await registry.load_identity(view, row["identity_id"])


@dataclass(frozen=True)
class _Claim:
    """The right to issue for a session."""

    session: Row
    identity: Identity
    lifetime: timedelta
    settings: EnrolmentSettings


async def _claim(
    mtls: Mtls, token: str, request: CertificateRequest, settings: EnrolmentSettings, visitor: Visitor
) -> _Claim | IntaglioError:
    """Make the request the one of its session. A refusal that changed something is returned, to be committed."""
    digest = hashlib.sha256(request.der).digest()
    async with mtls.database.transaction() as tx:
        # The code is always locked before its sessions, or two of them could wait for each other.
        code = await lock_code(tx, await load_session(tx, token))
        row = await load_session(tx, token, lock=True)
        if row["state"] not in OPEN and row["csr_sha256"] != digest and row["code_id"] is not None:
            raise errors.code_used()
        if row["csr_sha256"] not in (None, digest):
            raise errors.csr_mismatch(
                "This session has received another request before.", "Send that one again, or begin anew."
            )
        identity = await registry.load_identity(tx, row["identity_id"])
        registry.require_active(identity)
        if row["state"] in OPEN and code is not None:
            if (refusal := await _settle_others(tx, row, code, identity, visitor)) is not None:
                return refusal
            identity = await _with_address(tx, identity, row["email"], visitor, row)
        if row["state"] == "details":
            note(tx, identity, visitor, "request", row, csr_sha256=digest.hex())
        state = row["state"] if row["state"] not in OPEN else "csr-received"
        await set_session(tx, row["id"], state=state, csr_sha256=digest, working_until=tx.now + _LEASE)
    days = None if code is None else code.validity_days
    return _Claim(row, identity, lifetime_of(identity.domain, identity.kind, settings, days), settings)


async def lock_code(tx: Transaction, session: Row) -> Code | None:
    """The code of a session, nobody else spending it until the end; None for a renewal."""
    if session["code_id"] is None:
        return None
    row = await tx.one_or_none(codes_query(tx.now).where(code_table.c.id == session["code_id"]).with_for_update())
    if row is None:
        raise session_unknown()
    return Code.of(row)


async def _settle_others(
    tx: Transaction, session: Row, code: Code, identity: Identity, visitor: Visitor
) -> IntaglioError | None:
    """Make sure that no other session spends, or has spent, the last use of the code.

    Another one may be at work on another process, or may have lost its process after the certificate was recorded.
    """
    if code.state is CodeState.REVOKED:
        raise errors.code_revoked()
    if code.state is CodeState.LOCKED:
        raise errors.code_locked(24 * 3600)
    claimed = await tx.all(
        select(table)
        .where(table.c.code_id == code.id, table.c.state == "csr-received", table.c.id != session["id"])
        .with_for_update()
    )
    uses, running = code.uses, 0
    for other in claimed:
        if await was_issued(tx, other, identity):
            uses += 1
            await set_session(tx, other["id"], state="issued", finished_at=tx.now)
            await count_use(tx, code)
            note(tx, identity, visitor, "recover", other)
        elif other["working_until"] is not None and other["working_until"] > tx.now:
            running += 1
    if uses >= code.max_uses:
        return errors.code_used()
    if uses + running >= code.max_uses:
        raise StateConflict(
            "Another enrolment with this security code is under way.",
            code="enrolment-in-progress",
            remedy="Wait a minute and send the request again.",
            retry_after=int(_LEASE.total_seconds()),
        )
    # What is left of other claims never got a certificate and must not come back for one.
    stale = [other["id"] for other in claimed if other["working_until"] is None or other["working_until"] <= tx.now]
    if stale:
        over = (table.c.id.in_(stale)) & (table.c.state == "csr-received")
        await tx.execute(update(table).where(over).values(state="failed", reason="overtaken", finished_at=tx.now))
    return None


async def was_issued(tx: Transaction, session: Row, identity: Identity) -> bool:
    """Whether a certificate was recorded for a session, whatever became of the process that asked for it."""
    i = authority_models.idempotency.c
    found = select(i.certificate_id).where(
        i.caller == f"identity:{identity.uri}", i.key == idempotency_key(session)
    )
    return await tx.scalar(found) is not None


async def _with_address(
    tx: Transaction, identity: Identity, email: str, visitor: Visitor, session: Row
) -> Identity:
    """A user whose code allows several addresses has the one he entered from now on.

    Raises StateConflict (``email-taken``), Refused (``email-outside-domain``).
    """
    if identity.kind is not Kind.USER or identity.email.lower() == email:
        return identity
    email_address(email, identity.domain.email_domains)
    i = identity_models.identity
    # The identity before its address, as everywhere, or two could wait for each other.
    await tx.scalar(select(i.c.id).where(i.c.id == identity.id).with_for_update())
    await require_address_free(tx, identity, email)
    await tx.execute(update(i).where(i.c.id == identity.id).values(email=email, changed_at=tx.now))
    note(tx, identity, visitor, "choose-address", session)
    return await registry.load_identity(tx, identity.id)


async def _issue(mtls: Mtls, claim: _Claim, request: CertificateRequest, visitor: Visitor) -> IssuedIdentity:
    row, identity = claim.session, claim.identity
    try:
        await record_store.require_available(mtls, claim.settings)
        issued = await issue_identity(
            mtls,
            identity.principal(visitor.source),
            identity,
            request,
            channel=Channel.PAGE if row["renews"] is None else Channel.RENEWAL,
            lifetime=claim.lifetime,
            source=visitor.source,
            user_agent=visitor.user_agent,
            code_id=row["code_id"],
            renews=row["renews"],
            idempotency_key=idempotency_key(row),
        )
        await record_store.keep(mtls, claim.settings, issued, row["email"], visitor)
    except IntaglioError as error:
        raise await _not_issued(mtls, row, error, visitor) from error
    if not await _conclude(mtls, row, issued, visitor):
        raise session_unknown()
    return issued


async def _not_issued(mtls: Mtls, row: Row, error: IntaglioError, visitor: Visitor) -> IntaglioError:
    """What to answer. A request that was refused frees its session for another one; trouble of ours leaves it."""
    trouble = error.status >= 500
    async with mtls.database.transaction() as tx:
        current = await tx.one_or_none(select(table).where(table.c.id == row["id"]).with_for_update())
        if current is not None and current["state"] == "csr-received":
            identity = await registry.load_identity(tx, row["identity_id"])
            # What was refused now may have been issued before (the policy changed between two attempts).
            bound = trouble or await was_issued(tx, row, identity)
            freed = {} if bound else {"state": "details", "csr_sha256": None}
            await set_session(tx, row["id"], working_until=None, reason=error.code, **freed)
            note(tx, identity, visitor, "fail", row, code=error.code, reason=error.detail)
    return errors.ca_unavailable(error.detail) if trouble else error


async def _conclude(mtls: Mtls, row: Row, issued: IssuedIdentity, visitor: Visitor) -> bool:
    """Use up the code. Idempotent: the answer to a repeated request counts nothing.

    Returns whether the certificate may be handed out: when its session was given up meanwhile, it is revoked instead.
    """
    try:
        snapshot = await mtls.authority.snapshot()
        async with mtls.database.transaction() as tx:
            code = await lock_code(tx, row)
            state = await tx.scalar(select(table.c.state).where(table.c.id == row["id"]).with_for_update())
            if state in _GIVEN_UP:
                await _take_back(tx, snapshot, issued)
                note(tx, issued.identity, visitor, "take-back", row, serial=issued.serial.hex().upper())
            if state not in OPEN:
                return state not in _GIVEN_UP
            await set_session(
                tx, row["id"], state="issued", binding_id=issued.binding_id, working_until=None, reason=None,
                finished_at=tx.now,
            )  # fmt: skip
            await count_use(tx, code)
            note(tx, issued.identity, visitor, "issue", row, serial=issued.serial.hex().upper())
            return True
    except IntaglioError as error:
        # The certificate is recorded, and so is its session as claimed: the same request completes it.
        raise errors.ca_unavailable(error.detail) from error


async def _take_back(tx: Transaction, snapshot: Snapshot, issued: IssuedIdentity) -> None:
    b = identity_models.binding.c
    ca_id = await tx.scalar(select(b.ca_id).where(b.id == issued.binding_id))
    change = revocation(RevocationReason.SUPERSEDED)
    await change_status_in(tx, SYSTEM, snapshot.cas[ca_id], issued.serial, change)


async def count_use(tx: Transaction, code: Code | None) -> None:
    """One more certificate was issued with a code, which is locked; None (a renewal) needs none."""
    if code is None:
        return
    await tx.execute(
        update(code_table)
        .where(code_table.c.id == code.id)
        .values(uses=code_table.c.uses + 1, used_at=func.coalesce(code_table.c.used_at, tx.now))
    )


def idempotency_key(session: Row) -> str:
    """What makes issuing for a session happen once."""
    return f"enrolment:{session['id']}"
