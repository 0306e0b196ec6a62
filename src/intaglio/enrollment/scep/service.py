"""The operations of SCEP at one endpoint. Source: RFC 8894 sections 3 and 4.

A message takes these steps: read what is in the clear, verify the signature, decrypt, do what is asked, answer by a
signed and, where it says something, encrypted message. Whatever is refused after the first step is refused by a signed
answer.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from intaglio.asn1.signature_schemes import Digest
from intaglio.core import clock
from intaglio.core.errors import IntaglioError, InvalidInput, NotFound
from intaglio.enrollment import pipeline
from intaglio.enrollment.context import Enrollment
from intaglio.enrollment.scep import queries
from intaglio.enrollment.scep.authorities import Office, RegistrationAuthorities
from intaglio.enrollment.scep.errors import content_unreadable, fail_info, is_passing
from intaglio.enrollment.scep.issuing import Issuing, issue
from intaglio.enrollment.scep.messages import (
    NONCE_OCTETS,
    Envelope,
    FailInfo,
    MessageType,
    read_message,
    reply_attributes,
)
from intaglio.enrollment.scep.options import ScepOptions
from intaglio.enrollment.scep.registration import RegistrationAuthority
from intaglio.enrollment.scep.transactions import Transactions
from intaglio.enrollment.values import Applicant, Endpoint, Waiting
from intaglio.x509.certificates import CertificateInfo
from intaglio.x509.cms.enveloping import envelop
from intaglio.x509.cms.errors import not_allowed, wrong_recipient
from intaglio.x509.cms.identifiers import CipherName
from intaglio.x509.cms.signing import certificates_only, sign

SUCCESS: Final = 0
FAILURE: Final = 2
PENDING: Final = 3

#: What an answer without content holds. The standard would leave it out; certmonger, and whatever else has OpenSSL's
#: PKCS7_verify look at signatures, refuses that as "no content".
_NOTHING: Final = b""

_OPERATIONS: Final[dict[int | None, str]] = {
    MessageType.PKCS_REQ: "enroll",
    MessageType.RENEWAL_REQ: "renew",
    MessageType.CERT_POLL: "poll",
    MessageType.GET_CERT: "get-certificate",
    MessageType.GET_CRL: "get-crl",
}


@dataclass(frozen=True)
class Answer:
    """An answer, and what to count it as."""

    message: bytes = field(repr=False)
    operation: str
    outcome: str


class Scep:
    """SCEP in one process."""

    def __init__(self, enrollment: Enrollment) -> None:
        self._enrollment = enrollment
        self._authorities = RegistrationAuthorities(enrollment)
        self.issuing = Issuing(enrollment, Transactions(enrollment.database))
        enrollment.on_close.append(self.issuing.transactions.close)

    async def capabilities(self, endpoint: Endpoint) -> Sequence[str]:
        """What the endpoint can do, a keyword each. Raises Unavailable. Source: RFC 8894 section 3.5.2."""
        options: ScepOptions = endpoint.options
        # SHA-384 is no keyword of the standard, but true, and strongSwan 5.9 takes its presence for SCEPStandard.
        found = ["AES", "POSTPKIOperation", "SHA-256", "SHA-384", "SHA-512", "SCEPStandard"]
        if options.renewal:
            found.append("Renewal")
        if "3des" in options.legacy:
            found.append("DES3")
        if "sha1" in options.legacy:
            found.append("SHA-1")
        if (await self._authorities.of(endpoint)).earlier is not None:
            found.append("GetNextCACert")
        return found

    async def ca_certificates(self, endpoint: Endpoint) -> bytes:
        """The registration authority, the CA and the CAs above it. Raises Unavailable. Source: RFC 8894 section 4.2."""
        office = await self._authorities.of(endpoint)
        return certificates_only([*_der(office.current), *office.ca.chain], keep_order=True)

    async def next_ca_certificates(self, endpoint: Endpoint) -> bytes:
        """After a change of the CA's key: the new certificates, signed by the registration authority that the CA
        certified under its old key, so that who trusts that key may trust the new one.

        Raises NotFound (``scep-no-next-ca``), Unavailable. Source: RFC 8894 section 4.7.
        """
        office = await self._authorities.of(endpoint)
        earlier = office.earlier
        if earlier is None:
            raise NotFound(
                f'CA "{endpoint.ca}" has not changed its key.',
                code="scep-no-next-ca",
                remedy="Ask for its certificate: GetCACert.",
            )
        content = certificates_only([*_der(office.current), *office.ca.chain], keep_order=True)
        return await self.signed(earlier, content, "sha256", ())

    async def answer(self, endpoint: Endpoint, message: bytes, source: str) -> Answer:
        """The answer to a message of a client at the address ``source``.

        Raises TooLarge and InvalidInput for what is no message at all, and what passes by itself: Unavailable,
        TimedOut, RateLimited.
        """
        envelope = read_message(message)
        office = await self._authorities.of(endpoint)
        operation = _OPERATIONS.get(envelope.message_type, "unknown")
        exchange = _Exchange(self, endpoint, office, envelope)
        try:
            reply, outcome = await exchange.decide(source)
            return Answer(reply, operation, outcome)
        except IntaglioError as error:
            applicant = exchange.applicant(source)
            pipeline.refused(self._enrollment, endpoint, applicant, operation, error)
            if is_passing(error):
                raise
            return Answer(await exchange.refusal(error), operation, "refused")

    @property
    def enrollment(self) -> Enrollment:
        return self._enrollment

    async def decrypt(self, ra: RegistrationAuthority, envelope: Envelope, options: ScepOptions) -> bytes:
        """What a message says. Raises InvalidInput."""
        content = envelope.content
        content.require_cipher(options.ciphers)
        try:
            return await self._authorities.using(
                ra.key_id, lambda key: content.decrypt(key, ra.certificate, ciphers=options.ciphers)
            )
        except InvalidInput as error:
            raise content_unreadable() if error.code == "cms-undecryptable" else error from None

    async def signed(
        self, ra: RegistrationAuthority, content: bytes, digest: Digest, attributes: Sequence[bytes]
    ) -> bytes:
        certificate = ra.signing_certificate
        return await self._authorities.using(
            ra.signing_key_id,
            lambda key: sign(content, certificate, key, digest=digest, attributes=attributes),
        )


class _Exchange:
    """One message and its answer."""

    def __init__(self, scep: Scep, endpoint: Endpoint, office: Office, envelope: Envelope) -> None:
        self._scep = scep
        self._endpoint = endpoint
        self._office = office
        self._envelope = envelope
        self._options: ScepOptions = endpoint.options
        # Whoever encrypted for an older one knows that one: it answers, too.
        self._ra = office.current
        self._cipher: CipherName = "aes-128-cbc"
        self._certificate: CertificateInfo | None = None

    def applicant(self, source: str) -> Applicant:
        certificate = self._certificate
        name = "" if certificate is None else certificate.subject.rfc4514
        return Applicant(name[:200] or "(unknown)", "none", source)

    async def decide(self, source: str) -> tuple[bytes, str]:
        """The answer and its outcome. Raises the refusal."""
        envelope, enrollment = self._envelope, self._scep.enrollment
        certificate = self._verified()
        kind = envelope.message_type
        if kind not in _OPERATIONS:  # before it is decrypted: nothing may be said about that
            raise InvalidInput(
                f"There is no message of type {kind}.",
                code="scep-message-type",
                remedy="Send PKCSReq, RenewalReq, CertPoll, GetCert or GetCRL.",
            )
        content = await self._content()
        if kind in (MessageType.PKCS_REQ, MessageType.RENEWAL_REQ):
            outcome = await issue(self._scep.issuing, self._endpoint, envelope, certificate, content, source)
            return await self._granted(outcome, certificate)
        if kind == MessageType.CERT_POLL:
            outcome = await queries.poll(self._scep.issuing, self._endpoint, envelope, certificate, content)
            return await self._granted(outcome, certificate)
        if kind == MessageType.GET_CERT:
            found = await queries.find_certificate(enrollment, self._endpoint, self._office.ca, content)
            bag = certificates_only([found])
        else:
            bag = certificates_only([], [await queries.find_crl(enrollment, self._endpoint, self._office.ca, content)])
        return await self._success(bag, certificate), "answered"

    async def refusal(self, error: IntaglioError) -> bytes:
        """The answer that refuses."""
        return await self._reply(FAILURE, _NOTHING, fail_info(error), f"{error.detail} {error.remedy}".strip())

    def _verified(self) -> CertificateInfo:
        """The certificate of the signer, once the signature holds. Raises InvalidInput."""
        envelope = self._envelope
        certificate = envelope.signer_certificate()
        envelope.signed.verify(certificate, digests=self._options.digests)
        self._certificate = certificate
        if not isinstance(certificate.public_key, (rsa.RSAPublicKey, ec.EllipticCurvePublicKey)):
            raise not_allowed(f"the key {certificate.key_algorithm}, for which no answer can be encrypted")
        tolerance = self._options.clock_tolerance
        if tolerance is not None:
            at = envelope.signing_time
            if at is None or abs(clock.now() - at) > tolerance:
                raise InvalidInput(
                    "The message has no signing time, or one that is too far from now.",
                    code="scep-time-off",
                    remedy="Set the clock of the device right.",
                )
        return certificate

    async def _content(self) -> bytes:
        content = self._envelope.content
        ra = self._office.recipient(content)
        if ra is None:
            raise wrong_recipient()
        self._ra = ra
        if content.cipher is not None and content.cipher.name in self._options.ciphers:
            self._cipher = content.cipher.name
        return await self._scep.decrypt(ra, self._envelope, self._options)

    async def _granted(self, outcome: bytes | Waiting, certificate: CertificateInfo) -> tuple[bytes, str]:
        if isinstance(outcome, Waiting):
            return await self._reply(PENDING, _NOTHING), "waiting"
        # The certificate alone: clients find the CA's by GetCACert, and some take the first one for theirs.
        return await self._success(certificates_only([outcome]), certificate), "granted"

    async def _success(self, bag: bytes, recipient: CertificateInfo) -> bytes:
        return await self._reply(SUCCESS, envelop(bag, recipient, self._cipher))

    async def _reply(self, status: int, content: bytes, failure: FailInfo | None = None, text: str = "") -> bytes:
        nonce = secrets.token_bytes(NONCE_OCTETS)
        attributes = reply_attributes(self._envelope, nonce, status, failure, text)
        return await self._scep.signed(self._ra, content, self._digest, attributes)

    @property
    def _digest(self) -> Digest:
        """What the client signs with it can verify; old clients are answered with SHA-256 all the same."""
        asked = self._envelope.digest
        return asked if asked in ("sha256", "sha384", "sha512") else "sha256"


def _der(ra: RegistrationAuthority) -> list[bytes]:
    return [certificate.der for certificate in ra.certificates]
