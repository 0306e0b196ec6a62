"""From the octets of a message to the octets of its answer.

read -> header -> protection -> body -> answer -> protection. Whatever is refused on the way is answered, too: with an
error message, signed for the CA, so that a client need not believe an error from anybody.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from intaglio.asn1 import cmp, der
from intaglio.asn1.cmp import Body, Failure, PkiHeader, PkiMessage
from intaglio.authority.directory import CaView
from intaglio.core import clock
from intaglio.core.clock import monotonic
from intaglio.core.errors import IntaglioError, InvalidInput
from intaglio.core.logging import get_logger
from intaglio.enrollment import pipeline
from intaglio.enrollment.cmp import certifying, confirming, information, polling, revoking
from intaglio.enrollment.cmp.authentication import authenticate, may_be_unprotected, nobody
from intaglio.enrollment.cmp.context import Cmp
from intaglio.enrollment.cmp.errors import CmpRefusal, rejection
from intaglio.enrollment.cmp.exchange import NONCE_OCTETS, Answer, Exchange, Progress, Sender
from intaglio.enrollment.cmp.headers import check_header, check_recipient
from intaglio.enrollment.cmp.protection import protected, unprotected
from intaglio.enrollment.cmp.signers import signer_name
from intaglio.enrollment.values import Endpoint, Protocol
from intaglio.x509.names import Name

log = get_logger(__name__)

_HANDLERS: Final = {
    Body.IR: certifying.certify,
    Body.CR: certifying.certify,
    Body.KUR: certifying.certify,
    Body.P10CR: certifying.certify,
    Body.CERTCONF: confirming.confirm,
    Body.POLLREQ: polling.poll,
    Body.RR: revoking.revoke,
    Body.GENM: information.inform,
}


@dataclass(frozen=True)
class Reply:
    """An answer in DER; ``understood`` is whether there was a message at all."""

    body: bytes = field(repr=False)
    understood: bool = True


async def respond(service: Cmp, endpoint: Endpoint, data: bytes, source: str) -> Reply:
    """Answer the message in ``data``, whatever it is. Raises Unavailable when the configuration cannot be read."""
    started = monotonic()
    try:
        message = cmp.read_message(data)
    except InvalidInput as error:
        pipeline.refused(service.enrollment, endpoint, nobody(source).applicant, "message", error)
        attempt = _Attempt(await _ca(service, endpoint), None, nobody(source), _error(error))
        reply = Reply(await _protected(service, attempt), understood=False)
        operation, outcome = "message", "refused"
    else:
        body, outcome = await _answered(service, endpoint, message, source)
        reply, operation = Reply(body), message.body.name.lower()
    pipeline.served(Protocol.CMP, endpoint, operation, outcome, monotonic() - started)
    return reply


@dataclass
class _Attempt:
    """An answer on its way: for whom it is protected, and whether it may be decided again."""

    ca: CaView
    question: PkiHeader | None
    sender: Sender
    answer: Answer
    nonce: bytes = field(default_factory=lambda: secrets.token_bytes(NONCE_OCTETS))
    progress: Progress = field(default_factory=Progress)


async def _answered(
    service: Cmp, endpoint: Endpoint, message: PkiMessage, source: str, vouching: Sender | None = None
) -> tuple[bytes, str]:
    """The answer to a message, and its outcome for the metrics."""
    enrollment = service.enrollment
    known = (await enrollment.gateway.snapshot()).epoch
    attempt = await _attempt(service, endpoint, message, source, vouching)
    if attempt.answer.refusal is not None and not attempt.progress.begun:
        # What is refused may have been allowed on another process a moment ago.
        newest = (await enrollment.authority.current()).epoch
        fresh = await enrollment.endpoints.latest(endpoint)
        if newest != known or fresh is not endpoint:
            endpoint = fresh
            attempt = await _attempt(service, endpoint, message, source, vouching)
    answer = attempt.answer
    if answer.refusal is not None:
        operation = message.body.name.lower()
        pipeline.refused(enrollment, endpoint, attempt.sender.applicant, operation, answer.refusal)
    return answer.finished or await _protected(service, attempt), answer.outcome


async def _attempt(
    service: Cmp, endpoint: Endpoint, message: PkiMessage, source: str, vouching: Sender | None
) -> _Attempt:
    now, ca = clock.now().replace(microsecond=0), await _ca(service, endpoint)
    attempt = _Attempt(ca, message.header, nobody(source), Answer(Body.ERROR, b""))
    try:
        endpoint.require_admitted(source)
        check_header(endpoint, message.header, now)
        attempt.sender = sender = await _sender(service, endpoint, ca, message, source, vouching)
        _check_recipient(endpoint, ca, message, sender)
        if message.body is Body.NESTED:
            attempt.answer = await _nested(service, endpoint, message, sender)
        else:
            nonce, progress = attempt.nonce, attempt.progress
            exchange = Exchange(service, endpoint, ca, message, sender, now, vouching, nonce, progress)
            attempt.answer = await _dispatch(exchange)
    except IntaglioError as error:
        attempt.answer = _error(error)
    return attempt


async def _sender(
    service: Cmp, endpoint: Endpoint, ca: CaView, message: PkiMessage, source: str, vouching: Sender | None
) -> Sender:
    """Who sent a message. What a registration authority passes on may be without protection of its own."""
    if message.protection is None:
        if vouching is not None:
            return vouching
        if may_be_unprotected(message.body):
            return nobody(source)
    now = clock.now()
    return await authenticate(service, endpoint, ca, message, source, now)


async def _dispatch(exchange: Exchange) -> Answer:
    handler = _HANDLERS.get(exchange.message.body)
    if handler is None:
        raise CmpRefusal(
            Failure.BAD_REQUEST, f"Messages of the kind {exchange.message.body.name.lower()} are not answered here."
        )
    return await handler(exchange)


async def _nested(service: Cmp, endpoint: Endpoint, message: PkiMessage, sender: Sender) -> Answer:
    """Messages that a registration authority passes on: one is answered itself, several in a nested message.

    Source: RFC 9483 section 5.2.2.
    """
    if not sender.registration_authority:
        raise CmpRefusal(
            Failure.NOT_AUTHORIZED,
            "Only a registration authority may pass on messages.",
            remedy="Have the fingerprint of its certificate listed in registration_authorities.",
        )
    inner = [cmp.read_message(each) for each in cmp.read_nested(message.content)]
    if any(each.body is Body.NESTED for each in inner):
        raise CmpRefusal(Failure.BAD_REQUEST, "A nested message contains another nested message.")
    source = sender.applicant.source
    answers = [await _answered(service, endpoint, each, source, vouching=sender) for each in inner]
    if len(answers) == 1:
        body, outcome = answers[0]
        return Answer(Body.NESTED, b"", outcome=outcome, finished=body)
    return Answer(Body.NESTED, der.sequence(*(body for body, _ in answers)))


def _check_recipient(endpoint: Endpoint, ca: CaView, message: PkiMessage, sender: Sender) -> None:
    """The CA, its signer, or the issuer of the sender's certificate, whom clients name unless they are told whom."""

    def names() -> Iterator[Name]:
        yield from (key.certificate.subject for key in ca.keys.values() if key.certificate is not None)
        if sender.certificate is not None:
            yield sender.certificate.issuer
        yield signer_name(ca)

    check_recipient(endpoint.options, message.header, names())


async def _ca(service: Cmp, endpoint: Endpoint) -> CaView:
    return (await service.enrollment.gateway.snapshot()).ca(endpoint.ca)


def _error(error: IntaglioError) -> Answer:
    outcome = "failed" if error.status >= 500 else "refused"
    return Answer(Body.ERROR, cmp.error(rejection(error)), outcome=outcome, refusal=error)


async def _protected(service: Cmp, attempt: _Attempt) -> bytes:
    """The answer on the wire. An error that cannot be protected goes without; nothing else does."""
    now = clock.now().replace(microsecond=0)
    try:
        return await protected(
            service.signers, attempt.ca, attempt.question, attempt.sender, attempt.answer, attempt.nonce, now
        )
    except IntaglioError as why:
        log.warning("a CMP message cannot be protected", ca=attempt.ca.full_id, reason=why.detail)
        answer = attempt.answer if attempt.answer.body is Body.ERROR else _error(why)
        return unprotected(attempt.question, answer, attempt.nonce, now)
