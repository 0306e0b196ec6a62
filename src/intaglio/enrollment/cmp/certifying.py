"""Certification: ir, cr, kur and p10cr, and what comes of a request that waits. Source: RFC 9483 section 4.1 and 4.4.

read the wish -> take the transaction id -> issue (or wait for approval) -> deliver; a certificate that is to be
confirmed is noted before it is sent.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from intaglio.asn1 import cmp, der
from intaglio.asn1.cmp import Body, InfoTypeAndValue, Status, StatusInfo
from intaglio.core.errors import IntaglioError
from intaglio.enrollment import pipeline
from intaglio.enrollment.cmp import transactions
from intaglio.enrollment.cmp.delivery import encrypted_certificate, generated_key, key_parts
from intaglio.enrollment.cmp.errors import rejection
from intaglio.enrollment.cmp.exchange import CONFIRM_WAIT_TIME, IMPLICIT_CONFIRM, Answer, Exchange
from intaglio.enrollment.cmp.proofs import Proof
from intaglio.enrollment.cmp.transactions import State, Transaction
from intaglio.enrollment.cmp.wishes import NO_REQUEST_ID, Wish, only_request, read_wish
from intaglio.enrollment.values import Application, Granted, Waiting
from intaglio.x509.certificates import read_certificate

#: How each request is answered.
REPLIES: Final = {Body.IR: Body.IP, Body.CR: Body.CP, Body.P10CR: Body.CP, Body.KUR: Body.KUP}
_LONGEST_WARNING: Final = 200
_MOST_WARNINGS: Final = 10


async def certify(exchange: Exchange) -> Answer:
    """Answer a request for a certificate.

    What is wrong with the request itself is a rejection in the answer. Raises CmpRefusal (transactionIdInUse ...),
    InvalidInput for what cannot be read.
    """
    request = only_request(exchange)
    request_id = NO_REQUEST_ID if request is None else request.request_id
    try:
        wish = await read_wish(exchange, request)
    except IntaglioError as error:
        return refused(exchange.message.body, request_id, error)
    implicit = _may_be_implicit(exchange, wish)
    transaction = await transactions.begin(
        exchange,
        request_id,
        _first_state(exchange, implicit),
        previous_serial=None if wish.previous is None else wish.previous.serial,
        implicit=implicit,
        encrypted=wish.proof is Proof.BY_DECRYPTION,
    )
    try:
        return await _issue(exchange, transaction, wish)
    except IntaglioError as error:
        return await give_up(exchange, transaction, error)


async def deliver(
    exchange: Exchange,
    transaction: Transaction,
    granted: Granted,
    *,
    modified: bool = False,
    private_key: bytes | None = None,
) -> Answer:
    """The answer with a certificate; from now on it waits to be confirmed, unless that was agreed to be needless."""
    until = None
    if not transaction.implicit:
        until = exchange.now + transactions.confirmed_within(exchange)
        async with exchange.cmp.enrollment.database.transaction() as tx:
            await transactions.move(
                tx, transaction, "unconfirmed", nonce=exchange.nonce, serial=granted.serial, expires_at=until
            )
        agreed = InfoTypeAndValue(CONFIRM_WAIT_TIME, der.generalized_time(until))
    else:
        if transaction.state == "waiting":
            await _close(exchange, transaction)
        agreed = InfoTypeAndValue(IMPLICIT_CONFIRM, der.null())
    if transaction.encrypted:
        pair = cmp.encrypted_key_pair(encrypted_certificate(exchange.message.header.version, granted.certificate))
    else:
        pair = cmp.certified_key_pair(granted.certificate, private_key)
    # Whoever shares a secret with us may be told what to trust (RFC 9483 section 4.1.1).
    told = granted.chain[-1:] if exchange.sender.secret is not None else ()
    status = StatusInfo(
        Status.GRANTED_WITH_MODIFICATIONS if modified else Status.ACCEPTED,
        tuple(warning[:_LONGEST_WARNING] for warning in granted.warnings[:_MOST_WARNINGS]),
    )
    content = cmp.cert_rep(cmp.cert_response(transaction.request_id, status, pair), told)
    above = granted.chain[:-1] or granted.chain
    return Answer(REPLIES[Body(transaction.body)], content, (agreed,), above, "granted")


def refused(request: Body, request_id: int, error: IntaglioError) -> Answer:
    """The answer that rejects a request."""
    content = cmp.cert_rep(cmp.cert_response(request_id, rejection(error)))
    return Answer(REPLIES[request], content, outcome="refused", refusal=error)


async def give_up(exchange: Exchange, transaction: Transaction, error: IntaglioError) -> Answer:
    """End a transaction whose request is refused, and say so."""
    await _close(exchange, transaction)
    return refused(Body(transaction.body), transaction.request_id, error)


async def _issue(exchange: Exchange, transaction: Transaction, wish: Wish) -> Answer:
    spki, private_key = wish.spki, None
    if spki is None:
        # The recipient is looked at first: a certificate whose key cannot be sent would be of no use.
        recipient = key_parts(exchange)
        private_key, spki = await generated_key(exchange)
    outcome = await pipeline.apply(exchange.cmp.enrollment, _application(exchange, transaction, wish, spki))
    if isinstance(outcome, Waiting):
        content = cmp.cert_rep(
            cmp.cert_response(transaction.request_id, StatusInfo(Status.WAITING, ("The request waits for approval.",)))
        )
        return Answer(REPLIES[exchange.message.body], content, outcome="waiting")
    wrapped = None
    if private_key is not None:
        wrapped = await recipient.wrap(private_key)
    return await deliver(
        exchange, transaction, outcome, modified=_is_modified(wish, outcome.certificate), private_key=wrapped
    )


def _application(exchange: Exchange, transaction: Transaction, wish: Wish, spki: bytes) -> Application:
    fixed = wish.fixed
    san = (fixed or wish.asked).san
    # A certificate that takes several messages has to be found again after a crash; others are committed in groups.
    several = transaction.state != "closed" and wish.spki is not None
    return Application(
        exchange.endpoint,
        exchange.sender.applicant,
        spki=spki,
        name=wish.asked.subject.der,
        subject=None if fixed is None else fixed.subject.rfc4514,
        sans=() if san is None else tuple((entry.type, entry.der) for entry in san.entries),
        extensions=wish.extensions,
        validity=wish.validity,
        key=transaction.key if several else None,
        previous=None if wish.previous is None else wish.previous.id,
        note="" if exchange.vouching is None else f"passed on by {exchange.vouching.applicant.name}",
        generated=wish.spki is None,
    )


def _may_be_implicit(exchange: Exchange, wish: Wish) -> bool:
    """Whether a certificate needs no confirmation: neither as the proof that it could be decrypted, nor before the one
    that it replaces is revoked."""
    replaces = wish.previous is not None and exchange.options.revoke_renewed
    return exchange.wants_implicit_confirm and wish.proof is Proof.SHOWN and not replaces


def _first_state(exchange: Exchange, implicit: bool) -> State:
    if exchange.endpoint.approval == "manual":
        return "waiting"
    return "closed" if implicit else "unconfirmed"


def _is_modified(wish: Wish, certificate: bytes) -> bool:
    """Whether the certificate says something else than was asked for."""
    asked = wish.asked
    if asked.subject.der in certificate and (asked.san is None or asked.san.der in certificate):
        return False  # octet by octet what was asked for, so there is nothing to take apart
    info = read_certificate(certificate)
    if not asked.subject.is_empty and asked.subject.key != info.subject.key:
        return True
    wanted = set() if asked.san is None else {entry.der for entry in asked.san.entries}
    given = set() if info.san is None else {entry.der for entry in info.san.entries}
    return not wanted <= given


async def _close(exchange: Exchange, transaction: Transaction) -> None:
    if transaction.state == "closed":
        return
    kept: timedelta = transactions.remembered(exchange)
    async with exchange.cmp.enrollment.database.transaction() as tx:
        await transactions.move(tx, transaction, "closed", nonce=exchange.nonce, expires_at=exchange.now + kept)
