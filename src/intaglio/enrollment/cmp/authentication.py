"""Who protected a message: a shared secret by senderKID, a certificate of our CA, of a CA the endpoint trusts.

Source: RFC 9810 section 5.1.3, RFC 9483 section 3.2 and 3.3.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache

from intaglio.asn1 import algorithms
from intaglio.asn1.cmp import Body, Failure, PkiMessage
from intaglio.authority.certificates import StoredCertificate
from intaglio.authority.directory import CaView
from intaglio.core.effort import costly
from intaglio.core.errors import IntaglioError, InvalidInput, Unauthenticated
from intaglio.enrollment import pipeline, trust
from intaglio.enrollment.cmp import macs
from intaglio.enrollment.cmp.context import Cmp
from intaglio.enrollment.cmp.errors import CmpRefusal
from intaglio.enrollment.cmp.exchange import Sender
from intaglio.enrollment.cmp.headers import directory_name
from intaglio.enrollment.cmp.macs import Mac, MacAlgorithm
from intaglio.enrollment.cmp.options import CmpOptions, read_anchors
from intaglio.enrollment.cmp.strength import is_signature_algorithm, verify_signature
from intaglio.enrollment.context import Enrollment
from intaglio.enrollment.limits import source_network
from intaglio.enrollment.values import Applicant, Endpoint
from intaglio.x509.certificates import CertificateInfo, read_certificate

_NOBODYS_SECRET = bytes(32)
_LONGEST_NAME = 400  # characters of a subject that are recorded
#: Messages that end a transaction which took a use of its secret when it began.
_FINISHING = frozenset({Body.CERTCONF, Body.POLLREQ})


async def authenticate(
    service: Cmp, endpoint: Endpoint, ca: CaView, message: PkiMessage, source: str, now: datetime
) -> Sender:
    """Who protected a message.

    Raises CmpRefusal: badMessageCheck (no or a wrong protection), badAlg, wrongIntegrity (a kind of protection that the
    endpoint does not take), signerNotTrusted, certRevoked, badRequest; RateLimited after many wrong MACs.
    """
    algorithm = message.header.protection_algorithm
    if message.protection is None or algorithm is None:
        raise CmpRefusal(
            Failure.BAD_MESSAGE_CHECK,
            "The message is not protected.",
            remedy="Protect it with a shared secret or with the key of a certificate.",
        )
    options: CmpOptions = endpoint.options
    if macs.is_mac_algorithm(algorithm):
        _require_offered(options, "mac")
        return await _by_secret(service, endpoint, message, source)
    if is_signature_algorithm(algorithm):
        _require_offered(options, "signature")
        return await _by_certificate(service.enrollment, endpoint, ca, message, source, now)
    raise CmpRefusal(Failure.BAD_ALG, "The message is protected with an algorithm that is not known here.")


def nobody(source: str) -> Sender:
    """The sender of a message that nothing protects."""
    return Sender(Applicant("", "none", source), b"")


# ---- shared secrets --------------------------------------------------------------------------------------------------


async def _by_secret(service: Cmp, endpoint: Endpoint, message: PkiMessage, source: str) -> Sender:
    assert message.header.protection_algorithm is not None
    assert message.protection is not None
    mac = macs.read_mac(endpoint.options, message.header.protection_algorithm)
    try:
        secret = await service.references.secret(
            endpoint, _reference(message), source, finishing=message.body in _FINISHING
        )
    except Unauthenticated:
        if not mac.is_costly:
            mac.compute(_NOBODYS_SECRET, message.protected)  # an unknown reference takes as long as a wrong secret
        raise _wrong_mac() from None
    keyed = await _keyed(mac, secret.secret, source)
    if not hmac.compare_digest(keyed.code(message.protected), message.protection):
        await service.references.failed(endpoint, source)
        raise _wrong_mac()
    identity = hashlib.sha256(b"mac" + secret.id.bytes).digest()
    return Sender(Applicant(secret.name, "mac", source), identity, secret=secret, mac=keyed)


async def _keyed(mac: MacAlgorithm, secret: bytes, source: str) -> Mac:
    if not mac.is_costly:
        return mac.under(secret)
    return await costly.run(f"cmp:{source_network(source)}", lambda: mac.under(secret))


def _reference(message: PkiMessage) -> str:
    """The name of the secret: senderKID, else the common name of the sender (RFC 9810 section 5.1.1)."""
    octets = message.header.sender_kid
    if octets is None:
        sender = directory_name(message.header.sender)
        names = () if sender is None else sender.common_names
        return names[-1] if names else ""
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        return octets.hex()


def _wrong_mac() -> CmpRefusal:
    return CmpRefusal(
        Failure.BAD_MESSAGE_CHECK,
        "The reference or the secret that protects the message is not right.",
        remedy="Check senderKID and secret; ask an administrator of the endpoint for new ones.",
    )


# ---- certificates ----------------------------------------------------------------------------------------------------


async def _by_certificate(
    enrollment: Enrollment, endpoint: Endpoint, ca: CaView, message: PkiMessage, source: str, now: datetime
) -> Sender:
    assert message.header.protection_algorithm is not None
    assert message.protection is not None
    options: CmpOptions = endpoint.options
    certificate = _signing_certificate(message)
    try:
        key, _ = algorithms.load_public_key(certificate.spki)
    except InvalidInput as error:
        raise CmpRefusal(Failure.BAD_ALG, error.detail, remedy=error.remedy) from None
    valid = verify_signature(
        options, key, message.header.protection_algorithm, message.protection, message.protected
    )
    if not valid:
        raise CmpRefusal(
            Failure.BAD_MESSAGE_CHECK,
            "The signature of the message is not valid under the key of its certificate.",
            remedy="Put the certificate that protects the message first in extraCerts.",
        )
    _check_usage(options, certificate)
    stored = await pipeline.presented(enrollment, endpoint, certificate.der) if _is_ours(ca, certificate) else None
    if stored is not None:
        if stored.status != "valid":
            raise CmpRefusal(Failure.CERT_REVOKED, f"The certificate that protects the message is {stored.status}.")
        if not certificate.not_before <= now <= certificate.not_after:
            raise CmpRefusal(Failure.SIGNER_NOT_TRUSTED, "The certificate that protects the message is not valid now.")
    else:
        _check_foreign(endpoint, message.certificates, certificate, now)
    fingerprint = certificate.fingerprint.hex()
    name = certificate.subject.rfc4514[:_LONGEST_NAME] or fingerprint
    applicant = Applicant(name, "certificate", source)
    identity = hashlib.sha256(b"certificate" + certificate.fingerprint).digest()
    return Sender(
        applicant,
        identity,
        certificate=certificate,
        stored=stored,
        registration_authority=fingerprint in options.registration_authorities,
        may_enrol=stored is None or _is_for_enrolling(endpoint, message.certificates, certificate, stored, now),
    )


def _signing_certificate(message: PkiMessage) -> CertificateInfo:
    """The certificate of whoever signed: the first one beside the message, else one with the key that senderKID names.

    Source: RFC 9483 section 3.3.
    """
    known = message.header.sender_kid
    for der in message.certificates:
        try:
            found = read_certificate(der)
        except InvalidInput:
            continue
        if known is None or found.ski is None or found.ski == known:
            return found
    raise CmpRefusal(
        Failure.ADD_INFO_NOT_AVAILABLE if message.certificates else Failure.SIGNER_NOT_TRUSTED,
        "The certificate of the key that protects the message is not beside it.",
        remedy="Send it first in extraCerts, with the CA certificates above it.",
    )


def _is_ours(ca: CaView, certificate: CertificateInfo) -> bool:
    return any(
        key.certificate is not None and key.certificate.subject.key == certificate.issuer.key
        for key in ca.keys.values()
    )


def _check_usage(options: CmpOptions, certificate: CertificateInfo) -> None:
    usage = certificate.key_usage
    if usage is not None and "digitalSignature" not in usage and not options.excludes("key-usage"):
        raise CmpRefusal(
            Failure.SIGNER_NOT_TRUSTED,
            "The certificate that protects the message is not for signatures (digitalSignature).",
        )


def _is_for_enrolling(
    endpoint: Endpoint,
    others: Sequence[bytes],
    certificate: CertificateInfo,
    stored: StoredCertificate,
    now: datetime,
) -> bool:
    """Whether a certificate of our CA says who may enrol here: one of the profile of the endpoint, or any if the CA is
    among those that the endpoint trusts. What it certified for another purpose, a web server say, does not."""
    if stored.profile == endpoint.profile:
        return True
    try:
        _check_foreign(endpoint, others, certificate, now)
    except CmpRefusal:
        return False
    return True


def _check_foreign(
    endpoint: Endpoint, others: Sequence[bytes], certificate: CertificateInfo, now: datetime
) -> None:
    """Whether a CA that the endpoint trusts stands above a certificate that is not of its own CA."""
    options: CmpOptions = endpoint.options
    chain = [certificate.der, *(each for each in others if each != certificate.der)]
    try:
        trust.verify(chain, _anchors(options.trusted), now)
    except IntaglioError as error:
        if options.excludes("trust-anchor") and endpoint.approval == "manual":
            return
        raise CmpRefusal(Failure.SIGNER_NOT_TRUSTED, error.detail, remedy=error.remedy) from None


@lru_cache(maxsize=256)
def _anchors(texts: tuple[str, ...]) -> tuple[bytes, ...]:
    return tuple(anchor.der for anchor in read_anchors(texts))


def _require_offered(options: CmpOptions, kind: str) -> None:
    if kind not in options.protections:
        raise CmpRefusal(
            Failure.WRONG_INTEGRITY,
            "Messages are not protected this way here.",
            remedy=f"Use {' or '.join(options.protections)}.",
        )


def may_be_unprotected(body: Body) -> bool:
    """Whether a message may be asked without protection: what it gets is public. Source: RFC 9483 section 4.3."""
    return body is Body.GENM
