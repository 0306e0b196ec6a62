"""Answers on the wire: header, body, and the protection that the question had. Source: RFC 9810 section 5.1.3."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from intaglio.asn1 import cmp
from intaglio.asn1.cmp import InfoTypeAndValue, PkiHeader
from intaglio.authority.directory import CaView
from intaglio.enrollment.cmp.exchange import Answer, Sender
from intaglio.enrollment.cmp.headers import VERSIONS, as_general_name
from intaglio.enrollment.cmp.macs import Mac
from intaglio.enrollment.cmp.signers import ResponseSigner, Signers
from intaglio.x509.names import Name

NOBODY = as_general_name(Name(b"\x30\x00"))


async def protected(
    signers: Signers,
    ca: CaView,
    question: PkiHeader | None,
    sender: Sender,
    answer: Answer,
    nonce: bytes,
    now: datetime,
) -> bytes:
    """An answer with a MAC under the sender's secret when the question had one, else signed for the CA.

    Raises what making a signer raises.
    """
    if sender.mac is not None:
        return _with_mac(ca, question, sender.mac, answer, nonce, now)
    signer = await signers.of(ca)
    header = cmp.header(
        _header(
            question,
            as_general_name(signer.certificate.subject),
            nonce,
            now,
            answer.information,
            algorithm=signer.key.algorithm.signature_identifier,
            kid=signer.certificate.ski,
        )
    )
    body = cmp.body(answer.body, answer.content)
    signature = await _signature(signer, cmp.protected_part(header, body))
    return cmp.message(header, body, signature, _distinct((*signer.chain, *answer.certificates)))


def unprotected(question: PkiHeader | None, answer: Answer, nonce: bytes, now: datetime) -> bytes:
    """An answer that nothing protects, for when nothing can be signed."""
    header = cmp.header(_header(question, NOBODY, nonce, now, answer.information))
    return cmp.message(header, cmp.body(answer.body, answer.content), None, tuple(answer.certificates))


def _with_mac(
    ca: CaView, question: PkiHeader | None, mac: Mac, answer: Answer, nonce: bytes, now: datetime
) -> bytes:
    header = cmp.header(
        _header(
            question,
            as_general_name(ca.certificate.subject),
            nonce,
            now,
            answer.information,
            algorithm=mac.identifier,
            kid=None if question is None else question.sender_kid,
        )
    )
    body = cmp.body(answer.body, answer.content)
    code = mac.code(cmp.protected_part(header, body))
    return cmp.message(header, body, code, _distinct(answer.certificates))


def _header(
    question: PkiHeader | None,
    sender: bytes,
    nonce: bytes,
    now: datetime,
    information: Sequence[InfoTypeAndValue],
    *,
    algorithm: bytes | None = None,
    kid: bytes | None = None,
) -> PkiHeader:
    """The header of an answer, in the version of the question."""
    version = VERSIONS[0] if question is None else min(max(question.version, VERSIONS[0]), VERSIONS[-1])
    return PkiHeader(
        version,
        sender,
        NOBODY if question is None else question.sender,
        message_time=now,
        protection_algorithm=algorithm,
        sender_kid=kid,
        transaction_id=None if question is None else question.transaction_id,
        sender_nonce=nonce,
        recipient_nonce=None if question is None else question.sender_nonce,
        information=tuple(information),
    )


async def _signature(signer: ResponseSigner, part: bytes) -> bytes:
    key = signer.key
    return key.sign_now(part) if key.inline else await key.sign(part)


def _distinct(certificates: Sequence[bytes]) -> tuple[bytes, ...]:
    return tuple(dict.fromkeys(certificates))

