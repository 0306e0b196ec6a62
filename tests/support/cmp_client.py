"""A client of CMP that can do everything right, and anything wrong: messages from parts, answers taken apart."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from pyasn1.codec.der import decoder, encoder
from pyasn1_alt_modules import rfc9480

from intaglio.asn1 import algorithms, cmp, crmf, der
from intaglio.asn1.cmp import Body, CertStatus, InfoTypeAndValue, PkiHeader, PkiMessage, StatusInfo
from intaglio.core import clock
from intaglio.enrollment.cmp.macs import MacAlgorithm, password_based_mac, read_mac
from intaglio.enrollment.cmp.options import CmpOptions
from intaglio.x509.extensions import extension
from intaglio.x509.general_names import GeneralNames
from intaglio.x509.names import Name

IMPLICIT_CONFIRM = InfoTypeAndValue("1.3.6.1.5.5.7.4.13", der.null())
NULL_DN = der.explicit(4, b"\x30\x00")
#: Sends a message, returns the answer.
Send = Callable[[bytes], Awaitable[bytes]]


@dataclass
class Answer:
    """An answer taken apart. ``failures`` are labels of PKIFailureInfo; ``certificate`` is what was issued."""

    message: PkiMessage
    status: int | None = None
    failures: frozenset[str] = frozenset()
    texts: tuple[str, ...] = ()
    request_id: int | None = None
    certificate: bytes | None = None
    encrypted: bytes | None = None
    private_key: bytes | None = None
    ca_certificates: tuple[bytes, ...] = ()

    @property
    def body(self) -> Body:
        return self.message.body

    @property
    def issued(self) -> x509.Certificate:
        assert self.certificate is not None, (self.body, self.failures, self.texts)
        return x509.load_der_x509_certificate(self.certificate)


@dataclass
class CmpClient:
    """One party. Messages are protected under (reference, secret), else with ``certificate`` (and ``others``) and
    ``key``, else not at all. A transaction lasts until :meth:`begin`."""

    send: Send
    secret: tuple[str, bytes] | None = None
    mac: MacAlgorithm | None = None
    certificate: x509.Certificate | None = None
    key: Any = None
    others: Sequence[x509.Certificate] = ()
    version: int = 2
    implicit: bool = False
    transaction_id: bytes = field(default_factory=lambda: secrets.token_bytes(16))
    last_nonce: bytes | None = None

    def begin(self) -> CmpClient:
        """Start a new transaction."""
        self.transaction_id, self.last_nonce = secrets.token_bytes(16), None
        return self

    async def ask(self, body: Body, content: bytes, **header: Any) -> Answer:
        """Send a message of the transaction and take its answer apart, whose protection must be right."""
        return await self.post(self.message(body, content, **header))

    async def post(self, message: bytes) -> Answer:
        """Send a finished message."""
        octets = await self.send(message)
        check_syntax(octets)
        answer = cmp.read_message(octets)
        self.last_nonce = answer.header.sender_nonce
        check_protection(answer, None if self.secret is None else self.secret[1])
        return taken_apart(answer)

    def message(self, body: Body, content: bytes, **changes: Any) -> bytes:
        """A protected message; ``changes`` are fields of the header."""
        return self.protect(self.header(**changes), cmp.body(body, content))

    def header(self, **changes: Any) -> PkiHeader:
        sender, kid, algorithm = NULL_DN, None, None
        if self.secret is not None:
            algorithm, kid = (self.mac or password_based_mac(iterations=500)).identifier, self.secret[0].encode()
        elif self.certificate is not None:
            sender = der.explicit(4, self.certificate.subject.public_bytes())
            algorithm = algorithms.key_algorithm_of(self.key).signature_identifier
        header = PkiHeader(
            self.version,
            sender,
            NULL_DN,
            clock.now(),
            algorithm,
            kid,
            transaction_id=self.transaction_id,
            sender_nonce=secrets.token_bytes(16),
            recipient_nonce=self.last_nonce,
            information=(IMPLICIT_CONFIRM,) if self.implicit else (),
        )
        return replace(header, **changes)

    def protect(self, header: PkiHeader, body: bytes) -> bytes:
        header_der = cmp.header(header)
        part = cmp.protected_part(header_der, body)
        if self.secret is not None:
            assert header.protection_algorithm is not None
            mac = read_mac(_ANYTHING, header.protection_algorithm)
            return cmp.message(header_der, body, mac.compute(self.secret[1], part))
        if self.certificate is None:
            return cmp.message(header_der, body, None)
        along = [each.public_bytes(Encoding.DER) for each in (self.certificate, *self.others)]
        return cmp.message(header_der, body, algorithms.sign(self.key, part), along)

    async def request(self, body: Body = Body.IR, **wish: Any) -> Answer:
        """Ask for a certificate; see :func:`certificate_request`."""
        content, _ = certificate_request(**wish)
        return await self.ask(body, content)

    async def confirm(self, answer: Answer, **changes: Any) -> Answer:
        """Confirm a certificate; ``changes`` are fields of the CertStatus."""
        assert answer.request_id is not None
        entry = CertStatus(hashlib.sha256(answer.certificate or b"").digest(), answer.request_id, None, None)
        return await self.ask(Body.CERTCONF, cmp.cert_confirm((replace(entry, **changes),)))

    async def enrol(self, **wish: Any) -> x509.Certificate:
        """A certificate, confirmed unless that is agreed to be needless."""
        answer = await self.request(**wish)
        if not self.implicit:
            assert (await self.confirm(answer)).body is Body.PKICONF
        return answer.issued


_ANYTHING = CmpOptions(excluded_tests=("protection-strength",), mac_iterations=(1, 1_000_000))


def certificate_request(
    subject: str = "CN=device-1",
    *,
    key: Any = None,
    dns: Sequence[str] = (),
    extensions: Sequence[bytes] = (),
    request_id: int = 0,
    controls: Sequence[tuple[str, bytes]] = (),
    proof: bytes | None = None,
    central: bool = False,
    **template: Any,
) -> tuple[bytes, Any]:
    """CertReqMessages with one request signed with its own key, and that key. ``proof`` is another ProofOfPossession
    (empty: none), ``central`` leaves the key to the server, ``template`` are further fields of the CertTemplate."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    parts = list(extensions)
    if dns:
        parts.append(extension("2.5.29.17", False, GeneralNames.build([("dns", name) for name in dns]).der))
    wanted = crmf.cert_template(
        subject=Name.parse(subject).der,
        public_key=None if central else algorithms.spki(key.public_key()),
        extensions=b"".join(parts) if parts else None,
        **template,
    )
    request = crmf.cert_request(request_id, wanted, controls)
    if proof is None and not central:
        identifier = algorithms.key_algorithm_of(key).signature_identifier
        proof = crmf.signature_proof(identifier, algorithms.sign(key, request))
    return der.sequence(crmf.cert_req_msg(request, proof or b"")), key


def taken_apart(message: PkiMessage) -> Answer:
    """An answer from its message."""
    answer = Answer(message)
    if message.body is Body.ERROR:
        return _with_status(answer, cmp.read_error(message.content))
    if message.body in (Body.IP, Body.CP, Body.KUP):
        reader = der.Reader(message.content).enter()
        if (told := reader.optional(0xA1)) is not None:
            answer.ca_certificates = tuple(each.der for each in der.children(der.read_tlv(told.content).content))
        response = der.Reader(reader.enter().read(der.SEQUENCE).content)
        answer.request_id = der.decode_integer(response.read(der.INTEGER).content)
        _with_status(answer, cmp.read_status_info(response.read(der.SEQUENCE)))
        if not response.at_end:
            pair = response.enter()
            what = pair.read()
            answer.certificate = what.content if what.tag == 0xA0 else None
            answer.encrypted = what.content if what.tag == 0xA1 else None
            if (private := pair.optional(0xA0)) is not None:
                answer.private_key = private.content
    if message.body is Body.RP:
        first = der.children(der.Reader(message.content).enter().read(der.SEQUENCE).content)[0]
        return _with_status(answer, cmp.read_status_info(first))
    return answer


def check_syntax(octets: bytes) -> None:
    """What we write has to be read by somebody who never saw our encoder, and be DER: it is written back the same."""
    decoded, rest = decoder.decode(octets, asn1Spec=rfc9480.PKIMessage())
    assert rest == b""
    assert encoder.encode(decoded) == octets


def check_protection(message: PkiMessage, secret: bytes | None) -> None:
    """The protection of an answer has to be right: by our secret, or by the first certificate beside it."""
    assert message.protection is not None, (message.body, message.content)
    assert message.header.protection_algorithm is not None
    if b"\x2a\x86\x48\x86\xf6\x7d\x07\x42\x0d" in message.header.protection_algorithm or (
        b"\x2a\x86\x48\x86\xf7\x0d\x01\x05\x0e" in message.header.protection_algorithm
    ):
        assert secret is not None
        mac = read_mac(_ANYTHING, message.header.protection_algorithm)
        assert mac.compute(secret, message.protected) == message.protection
        return
    signer = x509.load_der_x509_certificate(message.certificates[0])
    key = signer.public_key()
    oid = der.decode_oid(der.Reader(message.header.protection_algorithm).enter().read(der.OBJECT_IDENTIFIER).content)
    assert algorithms.verify(key, oid, message.protection, message.protected)  # type: ignore[arg-type]


def _with_status(answer: Answer, status: StatusInfo) -> Answer:
    answer.status, answer.texts = status.status, status.texts
    answer.failures = frozenset(cmp.Failure(bit).label for bit in status.failures)
    return answer
