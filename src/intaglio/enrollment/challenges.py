"""Challenges: secrets that a client puts into its request (challengePassword, RFC 2985 section 5.4.1).

Static ones serve many clients; a one-time challenge belongs to the first transaction that shows it, which may repeat
it; a derived one is made by whoever shares a key with us, without asking us; and a webhook asks somebody else.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import re
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

import httpx
from sqlalchemy import and_, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from intaglio.core.errors import IntaglioError, Unavailable
from intaglio.core.identifiers import new_id
from intaglio.core.logging import get_logger
from intaglio.db.engine import Transaction
from intaglio.enrollment import models
from intaglio.enrollment.context import Enrollment
from intaglio.enrollment.credentials import (
    FAILURE_PERIOD,
    MOST_FAILURES,
    Bound,
    CredentialKind,
    StoredCredential,
    credential_unknown,
    digest_of,
    opened,
)
from intaglio.enrollment.limits import source_network, too_many
from intaglio.enrollment.values import Endpoint
from intaglio.platform.outgoing import guard_of, http_client

log = get_logger(__name__)

LONGEST: Final = 255
#: How long the transaction that used a one-time challenge may repeat it: less than transactions are remembered.
REPEATED_WITHIN: Final = timedelta(days=14)
_DERIVED = re.compile(r"([0-9]{9,11})-([0-9a-f]{64})")
_WEBHOOK_SECONDS = 5.0
_LARGEST_ANSWER = 4096
#: What goes wrong with a webhook, or with what it answers; OSError is TLS, too, and that it takes too long.
_UNANSWERED = (
    httpx.HTTPError, httpx.InvalidURL, IntaglioError, OSError, ValueError, AttributeError, RecursionError,
)  # fmt: skip


@dataclass(frozen=True)
class Redeemed:
    """A challenge that was right."""

    id: UUID
    kind: CredentialKind
    bound: Bound


async def redeem(
    enrollment: Enrollment,
    endpoint: Endpoint,
    challenge: str,
    *,
    transaction: str,
    subject: str,
    source: str = "",
) -> Redeemed:
    """What a challenge is good for, for the request of ``transaction`` with this subject (RFC 4514).

    Raises Unauthenticated (``credential-unknown``), RateLimited after too many failures of one source, Unavailable
    when nobody can be asked.
    """
    failures = f"challenge:{endpoint.id}:{source_network(source)}"
    digest = await digest_of(enrollment, endpoint, challenge)
    looked = await enrollment.challenges.look(endpoint.id, digest, failures, MOST_FAILURES)
    if looked.wait is not None:
        raise too_many(looked.wait)
    found = None
    if looked.credential is not None and looked.credential.kind == "challenge":
        found = Redeemed(looked.credential.id, looked.credential.kind, looked.credential.bound)
    elif 0 < len(challenge) <= LONGEST:
        found = await _find(enrollment, endpoint, challenge, digest, transaction, subject, source)
    if found is None:
        await enrollment.limits.take(failures, MOST_FAILURES, FAILURE_PERIOD)
        raise credential_unknown()
    return found


def derived(key: bytes, endpoint: str, not_after: datetime, subject: str = "") -> str:
    """A challenge made with a shared key for an endpoint (its name), good until ``not_after``, for one subject
    (RFC 4514) or any: the seconds since 1970, a dash, and in hexadecimal the HMAC-SHA-256 over endpoint, seconds and
    subject, with a line feed between them."""
    seconds = int(not_after.timestamp())
    return f"{seconds}-{_derived_mac(key, endpoint, seconds, subject)}"


def _derived_mac(key: bytes, endpoint: str, seconds: int, subject: str) -> str:
    return hmac.digest(key, f"{endpoint}\n{seconds}\n{subject}".encode(), hashlib.sha256).hex()


async def _find(
    enrollment: Enrollment,
    endpoint: Endpoint,
    challenge: str,
    digest: bytes,
    transaction: str,
    subject: str,
    source: str,
) -> Redeemed | None:
    """One of the challenges that not everybody may use, or that somebody else knows."""
    async with enrollment.database.transaction() as tx:
        found = await _stored(tx, endpoint, digest, transaction)
        others = [] if found is not None else await _asked(tx, endpoint)
    if found is not None:
        return None if found.kind == "spent" else Redeemed(found.id, found.kind, found.bound)
    for credential in others:
        if credential.kind == "derived":
            until = _derived_until(opened(enrollment.master_key, credential), endpoint, challenge, subject)
            if until is not None and await _spent_by(enrollment, endpoint, digest, transaction, until):
                return Redeemed(credential.id, credential.kind, credential.bound)
        elif await _webhook_allows(enrollment, endpoint, credential, challenge, transaction, subject, source):
            return Redeemed(credential.id, credential.kind, credential.bound)
    return None


async def _stored(tx: Transaction, endpoint: Endpoint, digest: bytes, transaction: str) -> StoredCredential | None:
    """The static or one-time challenge with this digest, if this transaction may use it; a one-time one is its from now
    on."""
    c = models.credential.c
    row = await tx.one_or_none(
        select(models.credential).where(c.endpoint_id == endpoint.id, c.digest == digest, c.kind != "spent")
    )
    if row is None or not (found := StoredCredential.of(row)).is_usable(tx.now):
        return None
    if found.kind == "one-time":
        again = and_(c.transaction == transaction, c.used_at > tx.now - REPEATED_WITHIN)
        mine = update(models.credential).where(c.id == found.id, or_(c.transaction.is_(None), again))
        first = func.coalesce(c.used_at, tx.now)
        if await tx.scalar(mine.values(transaction=transaction, used_at=first).returning(c.id)) is None:
            return None
    return found


async def _asked(view: Transaction, endpoint: Endpoint) -> Sequence[StoredCredential]:
    c = models.credential.c
    rows = await view.all(
        select(models.credential)
        .where(c.endpoint_id == endpoint.id, c.kind.in_(("derived", "webhook")))
        .order_by(c.kind, c.name)
    )
    return [each for each in map(StoredCredential.of, rows) if each.is_usable(view.now)]


def _derived_until(key: bytes, endpoint: Endpoint, challenge: str, subject: str) -> datetime | None:
    """Until when a derived challenge is good; None when it is none of this key, or not for this subject."""
    match = _DERIVED.fullmatch(challenge)
    if match is None:
        return None
    seconds = int(match[1])
    right = [hmac.compare_digest(_derived_mac(key, endpoint.name, seconds, each), match[2]) for each in (subject, "")]
    if True not in right:
        return None
    return datetime.fromtimestamp(seconds, UTC)


async def _spent_by(
    enrollment: Enrollment, endpoint: Endpoint, digest: bytes, transaction: str, until: datetime
) -> bool:
    """Whether a derived challenge is still good, and this transaction is the first to show it, or was."""
    table = models.credential
    async with enrollment.database.transaction() as tx:
        if until <= tx.now:
            return False
        values = {
            "id": new_id(),
            "endpoint_id": endpoint.id,
            "kind": "spent",
            "name": digest.hex(),
            "digest": digest,
            "bound": {},
            "transaction": transaction,
            "not_after": until,
            "created_by": "derived",
            "created_at": tx.now,
        }
        await tx.execute(upsert(table).values(**values).on_conflict_do_nothing())
        query = select(table.c.transaction).where(
            table.c.endpoint_id == endpoint.id,
            table.c.digest == digest,
            table.c.created_at > tx.now - REPEATED_WITHIN,
        )
        return bool(await tx.scalar(query) == transaction)


async def _webhook_allows(
    enrollment: Enrollment,
    endpoint: Endpoint,
    credential: StoredCredential,
    challenge: str,
    transaction: str,
    subject: str,
    source: str,
) -> bool:
    """Ask whoever knows. Raises Unavailable when he does not answer, or not with 200 or 403."""
    known = json.loads(opened(enrollment.master_key, credential))
    question = {
        "endpoint": endpoint.address,
        "transaction": transaction,
        "subject": subject,
        "challenge": challenge,
        "source": source,
    }
    async with enrollment.database.read() as view:
        guard = await guard_of(view)
    headers = {"authorization": f"Bearer {known['token']}"} if known.get("token") else {}
    try:
        tls = ssl.create_default_context(cadata=known.get("ca") or None)
        async with (
            asyncio.timeout(2 * _WEBHOOK_SECONDS),  # of all of it; that of the client is for each of its steps
            http_client(guard, tls, timeout=_WEBHOOK_SECONDS) as client,
            client.stream("POST", known["url"], json=question, headers=headers) as answer,
        ):
            if answer.status_code == 403:
                return False
            if answer.status_code == 200:
                return json.loads(await _text(answer)).get("allow") is True
    except _UNANSWERED as error:
        log.warning("a webhook for challenges did not answer", endpoint=endpoint.address, reason=str(error))
    raise Unavailable(
        "Nobody can say at the moment whether the challenge is right.",
        code="challenge-webhook-failed",
        remedy="Try again later; the administrator finds the reason in the log.",
        retry_after=30,
    )


async def _text(answer: httpx.Response) -> bytes:
    """The body of an answer. Raises ValueError when it is too long."""
    body = b""
    async for part in answer.aiter_raw():
        body += part
        if len(body) > _LARGEST_ANSWER:
            raise ValueError("the answer is too long")
    return body
