"""Finalization: from an order that is ready to a certificate, exactly one (RFC 8555 section 7.4).

The request for the certificate is written down with the order first. From then on the certificate is on its way,
whatever becomes of the client and of this process: the order is the key under which it is issued, so a second try gets
the same one. While somebody has to approve, the order stays in processing and is looked at again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import update

from intaglio.core import clock
from intaglio.core.errors import (
    IntaglioError,
    InvalidInput,
    RateLimited,
    Refused,
    StateConflict,
    TimedOut,
    Unavailable,
)
from intaglio.core.logging import get_logger
from intaglio.db.engine import Transaction
from intaglio.enrollment import approvals
from intaglio.enrollment.acme import models
from intaglio.enrollment.acme.accounts import audit, require_bound
from intaglio.enrollment.acme.authorizations import Authorization
from intaglio.enrollment.acme.call import Account, Answer, Call, Links
from intaglio.enrollment.acme.context import Acme, options_of
from intaglio.enrollment.acme.errors import AcmeProblem, BadCsr, InvalidProfile, OrderNotReady, Unauthorized, problem
from intaglio.enrollment.acme.identifiers import check_policy
from intaglio.enrollment.acme.leases import held_until
from intaglio.enrollment.acme.orders import APPROVAL_RETRY, AcmeOrder, look_up, require_ready
from intaglio.enrollment.acme.requests import check_names, read_csr, require_other_key, subject_for
from intaglio.enrollment.acme.statements import AUTHORIZATIONS, FINISH_ORDER, TAKE_ORDER
from intaglio.enrollment.acme.validation import ValidationFailed
from intaglio.enrollment.pipeline import apply
from intaglio.enrollment.values import Applicant, Application, Endpoint, Granted
from intaglio.profiles.engine import RequestedValidity
from intaglio.x509.requests import CertificateRequest, parse_request

log = get_logger(__name__)

_O: Final = models.order
_Outcome = AcmeOrder | IntaglioError | None
#: Seconds a client waits for its certificate before it is told to ask again.
_PATIENCE: Final = 10.0
#: Hours after which CAA records are looked at again (RFC 8659 section 7; CA/Browser Forum BR 3.2.2.8).
_CAA_SECONDS: Final = 8 * 3600


async def finalize(call: Call, order_id: UUID) -> Answer:
    """Have the certificate of an order issued; the order, valid when it could be issued at once.

    Raises ResourceUnknown, OrderNotReady, BadCsr, ValidationFailed (CAA).
    """
    require_bound(call)
    request = read_csr(call.wish)
    await _judge(call, order_id, request)
    order = await _take(call, order_id, request)
    task = _start(call.acme, call.endpoint, call.who, order, asked=True)
    await asyncio.wait([task], timeout=_PATIENCE)
    outcome = task.result() if task.done() else None
    if isinstance(outcome, IntaglioError):
        raise outcome
    return (outcome or order).answer(call.links, {}, clock.now())


def resume(
    acme: Acme, tx: Transaction, order: AcmeOrder, account: Account, endpoint: Endpoint, links: Links
) -> None:
    """Take over the issuing of an order from a process that is gone, or look whether it was approved; called in the
    transaction that took the lease."""

    async def work() -> _Outcome:
        return await _resume(acme, endpoint, account, order, links)

    def start() -> None:
        acme.running.start(_O, order.id, account.id, work)

    tx.after_commit(start)


async def _judge(call: Call, order_id: UUID, request: CertificateRequest) -> None:
    """Raise unless the order can be finalized with this request. Nothing is written down before: what is in processing
    is issued, by whichever process."""
    now = clock.now()
    order, proofs = await look_up(call, order_id)
    require_ready(order, proofs, now)
    _check_offered(call.endpoint, call.who, order)
    check_names(request, order.identifiers)
    await require_other_key(call, request)
    await _check_caa(call.acme, call.endpoint, call.links.account(call.who.id), order, proofs, now)


async def _take(call: Call, order_id: UUID, request: CertificateRequest) -> AcmeOrder:
    """Write the request down with its order."""
    acme, now = call.acme, clock.now()
    lease = acme.holder, held_until()
    row = await acme.statements.one(TAKE_ORDER, request.der, call.source, *lease, order_id, now, now)
    if row is None:  # another request was faster, or a proof was given up
        require_ready(*await look_up(call, order_id), now)
        raise OrderNotReady("The order was changed at this moment.", remedy="Look at it again.")
    return AcmeOrder.of(row)


def _check_offered(endpoint: Endpoint, account: Account, order: AcmeOrder) -> None:
    """Raise RejectedIdentifier, InvalidProfile for what the endpoint, which may have been changed since it was ordered,
    does not certify any more."""
    options = options_of(endpoint)
    check_policy(order.identifiers, options, account.bound)
    if order.profile not in (endpoint.profile, *options.profiles):
        raise InvalidProfile(f'The profile "{order.profile}" is not offered here any more.', remedy="Make a new order.")


async def _check_caa(
    acme: Acme,
    endpoint: Endpoint,
    account_uri: str,
    order: AcmeOrder,
    proofs: Mapping[UUID, Authorization],
    now: datetime,
) -> None:
    """Look at the CAA records again of names that were proven long ago. Takes no longer than a validation may. Raises
    ValidationFailed."""
    by_name = {each.covers: each for each in proofs.values()}
    old = [each for each in order.identifiers if each.kind == "dns" and _is_old(by_name.get(each), now)]
    validator, patience = await acme.validator(endpoint), options_of(endpoint).validation.total_timeout
    try:
        async with asyncio.timeout(patience):
            for identifier in old:
                proof = by_name.get(identifier)
                method = "" if proof is None else proof.method or ""
                await validator.check_caa(
                    identifier.base, wildcard=identifier.is_wildcard, method=method, account_uri=account_uri
                )
    except TimeoutError:
        detail = f"The CAA records of all names could not be looked up within {patience:g} s."
        raise ValidationFailed("caa", detail) from None


def _start(
    acme: Acme, endpoint: Endpoint, account: Account, order: AcmeOrder, *, asked: bool
) -> asyncio.Task[_Outcome]:
    async def work() -> _Outcome:
        return await _issue(acme, endpoint, account, order, asked=asked)

    return acme.running.start(_O, order.id, account.id, work)


async def _resume(acme: Acme, endpoint: Endpoint, account: Account, order: AcmeOrder, links: Links) -> _Outcome:
    """Like :func:`_issue`, some time after the order was finalized: what was true then is asked again."""
    if await _is_undecided(acme, endpoint, order):
        return await _put_off(acme, order, APPROVAL_RETRY)
    try:
        if account.status != "valid":
            raise Unauthorized(f"The account is {account.status}.")
        _check_offered(endpoint, account, order)
        rows = await acme.statements.all(AUTHORIZATIONS, list(order.authorizations))
        proofs = {row["id"]: Authorization.of(row) for row in rows}
        await _check_caa(acme, endpoint, links.account(account.id), order, proofs, clock.now())
    except (Unavailable, TimedOut):
        raise
    except IntaglioError as error:
        return await _fail(acme, endpoint, Applicant(f"acme:{account.id}", "account", order.source), order, error)
    return await _issue(acme, endpoint, account, order, asked=False)


async def _is_undecided(acme: Acme, endpoint: Endpoint, order: AcmeOrder) -> bool:
    """Whether somebody still has to approve."""
    async with acme.enrollment.database.read() as view:
        request = await approvals.find(view, endpoint, str(order.id))
    return request is not None and request.state == "pending"


async def _issue(acme: Acme, endpoint: Endpoint, account: Account, order: AcmeOrder, *, asked: bool) -> _Outcome:
    """Get the certificate and write down what came of it; the order as it is then, None when it is another's by now.

    What is wrong with the request is for whoever ``asked``, and the order stays ready; when nobody is there to be told,
    the order is invalid. Raises Unavailable, TimedOut: another try decides.
    """
    applicant = Applicant(f"acme:{account.id}", "account", order.source)
    try:
        outcome = await apply(acme.enrollment, await _application(acme, endpoint, applicant, order))
    except (Unavailable, TimedOut):
        raise
    except RateLimited as error:
        return await _put_off(acme, order, error.retry_after or APPROVAL_RETRY)
    except IntaglioError as error:
        refusal = _as_problem(error)
        if asked and isinstance(refusal, BadCsr):
            return await _give_back(acme, order, refusal)
        return await _fail(acme, endpoint, applicant, order, refusal)
    if not isinstance(outcome, Granted):
        return await _put_off(acme, order, outcome.retry_after)
    row = await acme.statements.one(FINISH_ORDER, outcome.id, order.id, acme.holder)
    return None if row is None else AcmeOrder.of(row)


async def _application(acme: Acme, endpoint: Endpoint, applicant: Applicant, order: AcmeOrder) -> Application:
    assert order.request is not None, "written down when the order was finalized"
    request = parse_request(order.request)
    ca = (await acme.enrollment.gateway.snapshot()).ca(endpoint.ca)
    builder = ca.profile(order.profile).subject_builder
    validity = None
    if order.not_before is not None or order.not_after is not None:
        validity = RequestedValidity(not_before=order.not_before, not_after=order.not_after)
    return Application(
        endpoint,
        applicant,
        csr=order.request,
        subject=subject_for(request, order.identifiers, options_of(endpoint), builder),
        sans=tuple((each.kind, each.value) for each in order.identifiers),
        validity=validity,
        key=str(order.id),
        note=f"ACME order {order.id}",
        profile=order.profile,
    )


async def _put_off(acme: Acme, order: AcmeOrder, seconds: int) -> AcmeOrder | None:
    """Leave the order to the upkeep, which looks at it again."""
    again = clock.now() + timedelta(seconds=seconds)
    async with acme.enrollment.database.transaction() as tx:
        return await _write(tx, acme, order, holder=None, held_until=again, waits=True)


async def _give_back(acme: Acme, order: AcmeOrder, refusal: BadCsr) -> BadCsr:
    """Leave the order as ready as it was."""
    async with acme.enrollment.database.transaction() as tx:
        await _write(tx, acme, order, state="open", request=None, **_RELEASED)
    return refusal


async def _fail(
    acme: Acme, endpoint: Endpoint, applicant: Applicant, order: AcmeOrder, error: IntaglioError
) -> AcmeOrder | None:
    facts: dict[str, Any] = {"code": error.code, "reason": error.detail, "outcome": "refused"}
    async with acme.enrollment.database.transaction() as tx:
        values = {"state": "invalid", "error": problem(error), "waits": False, **_RELEASED}
        failed = await _write(tx, acme, order, **values)
        if failed is not None:
            audit(tx, endpoint, applicant, "acme-order.finalize", order.id, **facts)
    return failed


async def _write(tx: Transaction, acme: Acme, order: AcmeOrder, **values: Any) -> AcmeOrder | None:
    row = await tx.one_or_none(_held(acme, order).values(**values).returning(_O))
    return None if row is None else AcmeOrder.of(row)


def _as_problem(error: IntaglioError) -> IntaglioError:
    """What a profile objects to is a matter of the request; that somebody rejected it, or that the CA cannot issue, is
    not."""
    if error.code in ("request-rejected", "request-expired"):
        return Unauthorized(error.detail, remedy=error.remedy)
    if isinstance(error, InvalidInput | Refused):
        return BadCsr(error.detail, remedy=error.remedy)
    if isinstance(error, StateConflict):
        return AcmeProblem(error.detail, remedy=error.remedy)
    return error


def _held(acme: Acme, order: AcmeOrder) -> Any:
    return update(_O).where(_O.c.id == order.id, _O.c.state == "processing", _O.c.holder == acme.holder)


def _is_old(proof: Authorization | None, now: datetime) -> bool:
    """Whether a name was not proven, its CAA records seen, a short time ago."""
    validated = None if proof is None else proof.validated_at
    return validated is None or (now - validated).total_seconds() > _CAA_SECONDS


_RELEASED: Final = {"holder": None, "held_until": None}
