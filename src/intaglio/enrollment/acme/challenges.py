"""Challenges: taken up by their account, validated beside the requests, decided once (RFC 8555 sections 7.5.1, 8).

Whoever takes a challenge up writes down that he validates it, with a lease; the result is written by the process that
has the lease. So every challenge is decided exactly once, and what a process left unfinished another one begins anew.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import update

from intaglio.core import clock
from intaglio.core.errors import IntaglioError, TimedOut, Unavailable
from intaglio.core.logging import get_logger
from intaglio.db.engine import Transaction
from intaglio.enrollment.acme import models
from intaglio.enrollment.acme.accounts import audit, audit_row
from intaglio.enrollment.acme.authorizations import RETRY_AFTER, Authorization, load, look_up
from intaglio.enrollment.acme.call import Account, Answer, Call, Links
from intaglio.enrollment.acme.context import Acme, options_of
from intaglio.enrollment.acme.errors import Malformed, ResourceUnknown, problem
from intaglio.enrollment.acme.leases import held_until
from intaglio.enrollment.acme.options import later
from intaglio.enrollment.acme.statements import PROVE, TAKE_UP, audit_parameters
from intaglio.enrollment.acme.validation import Target, ValidationFailed
from intaglio.enrollment.limits import count_one
from intaglio.enrollment.values import Applicant, Endpoint

log = get_logger(__name__)

_Z: Final = models.authorization
_HOUR: Final = timedelta(hours=1)
_VALIDATE: Final = "acme-authorization.validate"
_ANY_NUMBER: Final = 2**31 - 1


async def respond(call: Call, authorization_id: UUID, method: str) -> Answer:
    """A challenge; with a payload its account is ready, and validation begins.

    Asking again changes nothing. Raises ResourceUnknown, Malformed (another challenge of the authorization was taken
    up, or it is no longer pending), RateLimited (too many failures for this name).
    """
    found, now = await look_up(call, authorization_id), clock.now()
    if method not in found.challenges:
        raise ResourceUnknown(f'The authorization has no challenge "{method[:40]}".')
    if call.payload is not None and found.method is None:
        if found.status(now) != "pending":
            raise Malformed(f"The authorization is {found.status(now)}.")
        found = await _take_up(call, found, method)
    elif call.payload is not None and found.method != method:
        raise Malformed(f"The challenge {found.method} of this authorization was taken up.")
    headers = {"Retry-After": str(RETRY_AFTER)} if found.challenge_status(method, now) == "processing" else {}
    up = (call.links.authorization(found.id), "up")
    return Answer(found.challenge(method, call.links, now), headers=headers, links=(up,))


async def resume(acme: Acme, tx: Transaction, authorization_id: UUID, account: Account, endpoint: Endpoint,
                 links: Links) -> None:  # fmt: skip
    """Take over the validation of a challenge from a process that is gone, in the transaction that took the lease."""
    found = await load(tx, account.id, authorization_id)
    tx.after_commit(lambda: _start(acme, endpoint, links, account, found))


async def _take_up(call: Call, found: Authorization, method: str) -> Authorization:
    acme, most, now = call.acme, call.options.rates.failures_per_name, clock.now()
    failures = _failures(call.endpoint, call.who.id, found)
    lease = method, acme.holder, held_until()
    row = await acme.statements.one(TAKE_UP, *lease, found.id, now, failures, most or _ANY_NUMBER, now)
    if row is None:  # there were too many failures, or another request was faster
        if most is not None:
            await acme.enrollment.limits.require_below(failures, most)
        return await look_up(call, found.id)
    taken = Authorization.of(row)
    _start(acme, call.endpoint, call.links, call.who, taken)
    return taken


def _start(acme: Acme, endpoint: Endpoint, links: Links, account: Account, taken: Authorization) -> None:
    async def work() -> None:
        await _validate(acme, endpoint, links, account, taken)

    acme.running.start(_Z, taken.id, account.id, work)


async def _validate(acme: Acme, endpoint: Endpoint, links: Links, account: Account, taken: Authorization) -> None:
    """Have control proven and write down what came of it. Raises Unavailable, TimedOut: another try decides."""
    target = Target(
        taken.identifier.kind,
        taken.identifier.value,
        taken.wildcard,
        taken.token,
        f"{taken.token}.{account.jwk.thumbprint_text}",
        links.account(account.id),
        taken.method or "",
    )
    validator = await acme.validator(endpoint)
    failure: IntaglioError | None = None
    try:
        await validator.validate(target)
    except ValidationFailed as error:
        failure = error
    except (Unavailable, TimedOut):
        raise
    except Exception as error:
        log.exception("a validation failed unexpectedly", identifier=taken.covers.text, method=taken.method)
        failure = Unavailable(f"The validation of {taken.covers.value} could not be done.", code="acme-validation")
        failure.__cause__ = error
    await _decide(acme, endpoint, account, taken, failure)


async def _decide(
    acme: Acme, endpoint: Endpoint, account: Account, taken: Authorization, failure: IntaglioError | None
) -> None:
    applicant = Applicant(f"acme:{account.id}", "account", "")
    facts: dict[str, Any] = {"identifier": taken.covers.text, "method": taken.method}
    if failure is None:
        now = clock.now().replace(microsecond=0)
        expires_at = later(now, options_of(endpoint).authorization_lifetime)
        record = audit_parameters(audit_row(now, endpoint, applicant, _VALIDATE, taken.id, **facts))
        await acme.statements.one(PROVE, now, expires_at, taken.id, acme.holder, *record)
        return  # or it was deactivated meanwhile, or is in the hands of another process
    facts |= {"reason": failure.detail, "outcome": "failed"}
    async with acme.enrollment.database.transaction() as tx:
        done = await tx.scalar(
            update(_Z)
            .where(_Z.c.id == taken.id, _Z.c.status == "pending", _Z.c.holder == acme.holder)
            .values(status="invalid", error=_problem(failure, taken), holder=None, held_until=None)
            .returning(_Z.c.id)
        )
        if done is None:
            return
        if options_of(endpoint).rates.failures_per_name is not None:
            await count_one(tx, _failures(endpoint, account.id, taken), _HOUR)
        audit(tx, endpoint, applicant, _VALIDATE, taken.id, **facts)


def _problem(failure: IntaglioError, taken: Authorization) -> dict[str, Any]:
    document = problem(failure)
    # The number that clients know from other servers; nobody was answered with it.
    document["status"] = 403 if failure.status < 500 else failure.status
    document["identifier"] = taken.covers.document
    return document


def _failures(endpoint: Endpoint, account_id: UUID, found: Authorization) -> str:
    return f"acme-failed:{endpoint.id}:{account_id}:{found.identifier.value}"
