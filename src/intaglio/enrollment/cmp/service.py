"""From the octets of a message to the octets of its answer.

read -> header -> protection -> body -> answer -> protection. Whatever is refused on the way is answered, too: with an
error message, signed for the CA, so that a client need not believe an error from anybody.
"""

from __future__ import annotations

import secrets
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
from intaglio.enrollment.cmp.exchange import NONCE_OCTETS, Answer, Exchange, Sender
from intaglio.enrollment.cmp.headers import check_header, check_recipient
from intaglio.enrollment.cmp.protection import protected, unprotected
from intaglio.enrollment.cmp.signers import signer_name
from intaglio.enrollment.values import Endpoint, Protocol
from intaglio.x509.certificates import CertificateInfo
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
    snapshot = await service.enrollment.gateway.snapshot()
    ca = snapshot.ca(endpoint.ca)
    try:
        message = cmp.read_message(data)
    except InvalidInput as error:
        _note(service, endpoint, nobody(source), "message", error)
        body = await _error(service, ca, None, nobody(source), error)
        pipeline.served(Protocol.CMP, endpoint, "message", "refused", monotonic() - started)
        return Reply(body, understood=False)
    operation = message.body.name.lower()
    body, outcome = await _answered(service, endpoint, ca, message, source)
    pipeline.served(Protocol.CMP, endpoint, operation, outcome, monotonic() - started)
    return Reply(body)


async def _answered(
    service: Cmp, endpoint: Endpoint, ca: CaView, message: PkiMessage, source: str, vouching: Sender | None = None
) -> tuple[bytes, str]:
    """The answer to a message, and its outcome for the metrics."""
    now = clock.now().replace(microsecond=0)
    sender, nonce = nobody(source), secrets.token_bytes(NONCE_OCTETS)
    try:
        endpoint.require_admitted(source)
        check_header(endpoint, message.header, now)
        sender = await _sender(service, endpoint, ca, message, source, vouching)
        _check_recipient(endpoint, ca, message, sender)
        if message.body is Body.NESTED:
            return await _nested(service, endpoint, ca, message, sender)
        exchange = Exchange(service, endpoint, ca, message, sender, now, vouching, nonce)
        answer = await _dispatch(exchange)
        return await protected(service.signers, ca, message.header, sender, answer, nonce, now), answer.outcome
    except IntaglioError as error:
        _note(service, endpoint, sender, message.body.name.lower(), error)
        failed = error.status >= 500
        return await _error(service, ca, message.header, sender, error), "failed" if failed else "refused"


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
    return await authenticate(service.enrollment, endpoint, ca, message, source, now)


async def _dispatch(exchange: Exchange) -> Answer:
    handler = _HANDLERS.get(exchange.message.body)
    if handler is None:
        raise CmpRefusal(
            Failure.BAD_REQUEST, f"Messages of the kind {exchange.message.body.name.lower()} are not answered here."
        )
    return await handler(exchange)


async def _nested(
    service: Cmp, endpoint: Endpoint, ca: CaView, message: PkiMessage, sender: Sender
) -> tuple[bytes, str]:
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
    answers = [await _answered(service, endpoint, ca, each, source, vouching=sender) for each in inner]
    if len(answers) == 1:
        return answers[0]
    now = clock.now().replace(microsecond=0)
    answer = Answer(Body.NESTED, der.sequence(*(body for body, _ in answers)))
    nonce = secrets.token_bytes(NONCE_OCTETS)
    return await protected(service.signers, ca, message.header, sender, answer, nonce, now), "answered"


def _check_recipient(endpoint: Endpoint, ca: CaView, message: PkiMessage, sender: Sender) -> None:
    """The CA, its signer, or the issuer of the sender's certificate, whom clients name unless they are told whom."""
    names: list[Name] = [key.certificate.subject for key in ca.keys.values() if key.certificate is not None]
    names += [signer_name(ca)] if names else []
    certificate: CertificateInfo | None = sender.certificate
    if certificate is not None:
        names.append(certificate.issuer)
    check_recipient(endpoint.options, message.header, names)


async def _error(
    service: Cmp, ca: CaView, question: PkiHeader | None, sender: Sender, error: IntaglioError
) -> bytes:
    answer = Answer(Body.ERROR, cmp.error(rejection(error)))
    now, nonce = clock.now().replace(microsecond=0), secrets.token_bytes(NONCE_OCTETS)
    try:
        return await protected(service.signers, ca, question, sender, answer, nonce, now)
    except IntaglioError as why:
        log.warning("cmp error is not protected", ca=ca.full_id, reason=why.detail)
        return unprotected(question, answer, nonce, now)


def _note(service: Cmp, endpoint: Endpoint, sender: Sender, operation: str, error: IntaglioError) -> None:
    pipeline.refused(service.enrollment, endpoint, sender.applicant, operation, error)
