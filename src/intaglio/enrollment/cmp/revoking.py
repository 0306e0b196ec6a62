"""Revocation requests. Source: RFC 9810 section 5.3.9, RFC 9483 section 4.2."""

from __future__ import annotations

from datetime import datetime

from intaglio.asn1 import cmp, crmf, der
from intaglio.asn1.cmp import Body, Failure, RevocationDetails, Status, StatusInfo
from intaglio.authority.certificates import RevocationReason
from intaglio.core.errors import IntaglioError, Unavailable
from intaglio.enrollment import pipeline
from intaglio.enrollment.cmp import transactions
from intaglio.enrollment.cmp.errors import CmpRefusal, rejection
from intaglio.enrollment.cmp.exchange import Answer, Exchange
from intaglio.enrollment.cmp.ownership import owned_certificate
from intaglio.x509.extensions import INVALIDITY_DATE, REASON_CODE, read_extensions


async def revoke(exchange: Exchange) -> Answer:
    """Answer an rr: every certificate in it gets a status of its own.

    The reason removeFromCRL takes one off hold, which only a registration authority may ask for: somebody may have had
    a reason to put it there.

    Raises CmpRefusal (notAuthorized where revocation is switched off, transactionIdInUse), InvalidInput.
    """
    if not exchange.options.revocation:
        raise CmpRefusal(Failure.NOT_AUTHORIZED, "Nothing is revoked at this endpoint.")
    requests = cmp.read_revocation_request(exchange.message.content)
    await transactions.begin(exchange, 0, "closed", spends=False)
    statuses, ids = [], []
    for request in requests:
        template = crmf.read_template(request.template)
        if template.serial is None or template.issuer is None:
            raise CmpRefusal(
                Failure.ADD_INFO_NOT_AVAILABLE, "A certificate to be revoked is named by issuer and serial number."
            )
        statuses.append(await _revoke(exchange, request, template.issuer, template.serial))
        ids.append(crmf.cert_id(template.issuer, template.serial))
    refused = any(status.status == Status.REJECTION for status in statuses)
    return Answer(Body.RP, cmp.rev_rep(statuses, ids), outcome="refused" if refused else "granted")


async def _revoke(exchange: Exchange, request: RevocationDetails, issuer: bytes, serial: int) -> StatusInfo:
    try:
        stored = await owned_certificate(exchange, issuer, serial)
        reason, compromised = _read_reason(request.extensions)
        if reason is RevocationReason.REMOVE_FROM_CRL and not exchange.acts_for_others:
            raise CmpRefusal(Failure.NOT_AUTHORIZED, "Only a registration authority takes a certificate off hold.")
        await pipeline.revoke(
            exchange.cmp.enrollment,
            exchange.endpoint,
            exchange.sender.applicant,
            stored.serial,
            reason,
            compromise_date=compromised,
        )
    except Unavailable:
        raise
    except IntaglioError as error:
        enrollment, applicant = exchange.cmp.enrollment, exchange.sender.applicant
        pipeline.refused(enrollment, exchange.endpoint, applicant, "rr", error)
        return rejection(error)
    return StatusInfo(Status.ACCEPTED)


def _read_reason(content: bytes | None) -> tuple[RevocationReason, datetime | None]:
    """Reason and invalidity date of crlEntryDetails. Raises CmpRefusal, InvalidInput (``invalid-der``)."""
    reason, date = RevocationReason.UNSPECIFIED, None
    for extension in () if content is None else read_extensions(content):
        if extension.oid == REASON_CODE:
            number = der.decode_integer(der.read_tlv(extension.value, der.ENUMERATED).content)
            try:
                reason = RevocationReason(number)
            except ValueError:
                raise CmpRefusal(
                    Failure.BAD_DATA_FORMAT, f"{number} is not a reason for a revocation."
                ) from None
        elif extension.oid == INVALIDITY_DATE:
            date = der.decode_time(der.read_tlv(extension.value, der.GENERALIZED_TIME))
        elif extension.critical:
            raise CmpRefusal(Failure.UNACCEPTED_EXTENSION, f"The CRL entry extension {extension.oid} is not known.")
    return reason, date
