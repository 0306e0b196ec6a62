"""Confirmation: whether the client takes its certificate. Source: RFC 9810 section 5.3.18, RFC 9483 section 4.1.1."""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

from intaglio.asn1 import cmp, der
from intaglio.asn1.cmp import Body, CertStatus, Failure, Status
from intaglio.authority import certificates
from intaglio.authority.certificates import RevocationReason, StoredCertificate
from intaglio.enrollment import pipeline
from intaglio.enrollment.cmp import transactions
from intaglio.enrollment.cmp.errors import CmpRefusal
from intaglio.enrollment.cmp.exchange import Answer, Exchange
from intaglio.enrollment.cmp.transactions import State, Transaction
from intaglio.x509.certificates import read_certificate

_ACCEPTING: Final = frozenset({Status.ACCEPTED, Status.GRANTED_WITH_MODIFICATIONS})
_SHA512: Final = "sha512"
#: Hash of a certificate by the algorithm of its signature (RFC 9810 section 5.3.18, RFC 9481 section 2).
_HASH_OF_SIGNATURE: Final = {
    "1.2.840.113549.1.1.11": "sha256",
    "1.2.840.113549.1.1.12": "sha384",
    "1.2.840.113549.1.1.13": _SHA512,
    "1.2.840.10045.4.3.2": "sha256",
    "1.2.840.10045.4.3.3": "sha384",
    "1.2.840.10045.4.3.4": _SHA512,
    "1.3.101.112": _SHA512,
    "1.3.101.113": "shake256",
    "2.16.840.1.101.3.4.3.17": _SHA512,
    "2.16.840.1.101.3.4.3.18": _SHA512,
    "2.16.840.1.101.3.4.3.19": _SHA512,
}
_HASHES: Final = {
    "2.16.840.1.101.3.4.2.1": "sha256",
    "2.16.840.1.101.3.4.2.2": "sha384",
    "2.16.840.1.101.3.4.2.3": _SHA512,
    "2.16.840.1.101.3.4.2.12": "shake256",
}
_SHAKE256_OCTETS: Final = 64


async def confirm(exchange: Exchange) -> Answer:
    """Answer a certConf: the transaction is over, and a certificate that is not taken is revoked.

    Raises CmpRefusal: badRequest, certConfirmed (it was before), badCertId (a wrong hash), and what ``find`` raises.
    """
    entries = cmp.read_cert_confirm(exchange.message.content)
    if len(entries) > 1:
        raise CmpRefusal(Failure.BAD_REQUEST, "One certificate was issued, and one is confirmed.")
    transaction, stored = await _unconfirmed(exchange)
    entry = entries[0] if entries else None
    if entry is not None and entry.request_id not in _ids(transaction):
        raise CmpRefusal(Failure.BAD_REQUEST, f"certReqId {entry.request_id} was not part of the request.")
    takes = entry is not None and _takes(entry)
    wrong_hash = takes and entry is not None and not _is_hash_of(entry, stored)
    if takes and not wrong_hash:
        await _take(exchange, transaction)
    else:
        await _revoke(exchange, transaction)
    if wrong_hash:
        raise CmpRefusal(Failure.BAD_CERT_ID, "The hash is not that of the certificate; the certificate is revoked.")
    return Answer(Body.PKICONF, der.null())


async def _unconfirmed(exchange: Exchange) -> tuple[Transaction, StoredCertificate]:
    async with exchange.cmp.enrollment.database.read() as view:
        transaction = await transactions.find(view, exchange)
        if transaction.state == "closed":
            raise CmpRefusal(Failure.CERT_CONFIRMED, "The transaction is over; its certificate was confirmed before.")
        if transaction.state != "unconfirmed" or transaction.serial is None:
            raise CmpRefusal(Failure.BAD_REQUEST, "No certificate was issued yet that could be confirmed.")
        return transaction, await certificates.get(view, exchange.ca, transaction.serial)


async def _take(exchange: Exchange, transaction: Transaction) -> None:
    await _end(exchange, transaction, "closed")
    if transaction.previous_serial is not None and exchange.options.revoke_renewed:
        await pipeline.supersede(
            exchange.cmp.enrollment, exchange.endpoint, exchange.sender.applicant, transaction.previous_serial
        )


async def _revoke(exchange: Exchange, transaction: Transaction) -> None:
    """Revoke a certificate that is not taken; if that breaks off here, upkeep goes on with it."""
    assert transaction.serial is not None
    enrollment, endpoint = exchange.cmp.enrollment, exchange.endpoint
    await _end(exchange, transaction, "unwanted")
    await pipeline.revoke(
        enrollment,
        endpoint,
        exchange.sender.applicant,
        transaction.serial,
        RevocationReason.CESSATION_OF_OPERATION,
        idempotent=True,
        comment=f"the client did not take it ({endpoint.address})",
    )
    async with enrollment.database.transaction() as tx:
        kept = tx.now + transactions.remembered(exchange)
        await transactions.move(tx, transaction, "closed", expires_at=kept)


async def _end(exchange: Exchange, transaction: Transaction, state: State) -> None:
    async with exchange.cmp.enrollment.database.transaction() as tx:
        until = tx.now if state == "unwanted" else tx.now + transactions.remembered(exchange)
        await transactions.end_unconfirmed(tx, transaction, state, nonce=exchange.nonce, expires_at=until)


def _ids(transaction: Transaction) -> tuple[int, ...]:
    # OpenSSL numbers the request 0 when it confirms what it asked for with PKCS #10, which has no number.
    return (transaction.request_id, 0) if transaction.body == Body.P10CR else (transaction.request_id,)


def _takes(entry: CertStatus) -> bool:
    return entry.status is None or entry.status.status in _ACCEPTING


def _is_hash_of(entry: CertStatus, stored: StoredCertificate) -> bool:
    name = _HASH_OF_SIGNATURE.get(read_certificate(stored.der).signature_oid)
    if entry.hash_algorithm is not None:
        oid = der.decode_oid(der.Reader(entry.hash_algorithm).enter().read(der.OBJECT_IDENTIFIER).content)
        name = _HASHES.get(oid)
    if name is None:
        raise CmpRefusal(Failure.BAD_ALG, "The hash of the certificate is made with an algorithm that is not known.")
    if name == "shake256":
        digest = hashlib.shake_256(stored.der).digest(_SHAKE256_OCTETS)
    else:
        digest = hashlib.new(name, stored.der).digest()
    return hmac.compare_digest(digest, entry.cert_hash)
