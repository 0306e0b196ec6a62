"""fullcmc: a PKCS #10 request inside a PKIData. Sources: RFC 5272 section 3.2, RFC 7030 section 4.3.

The message is signed by the client certificate of the connection, or by the key that is to be certified; controls are
read over. The answer is the certificate by itself (a Simple PKI Response), a refusal is one of HTTP.
"""

from __future__ import annotations

from starlette.responses import Response

from intaglio.asn1 import der
from intaglio.core.errors import InvalidInput, NotSupported
from intaglio.enrollment.context import Enrollment
from intaglio.enrollment.est import callers, encoding, operations
from intaglio.enrollment.est.callers import Call
from intaglio.enrollment.values import Endpoint
from intaglio.x509.certificates import read_certificate
from intaglio.x509.cms.identifiers import SHA_2
from intaglio.x509.cms.signed import SignedData, read_signed_data, verify_signer
from intaglio.x509.requests import CertificateRequest, parse_request

_PKI_DATA = "1.3.6.1.5.5.7.12.2"
_TAGGED_CERTIFICATION_REQUEST = 0xA0
_MOST_REQUESTS = 10
_MOST_CONTROLS = 50


async def full(enrollment: Enrollment, endpoint: Endpoint, call: Call, body: bytes) -> Response:
    """The certificate for the only request of a Full PKI Request. Raises InvalidInput, NotSupported, and what enrolling
    raises."""
    known = await callers.identify(enrollment, endpoint, call)
    message = read_signed_data(encoding.decode(body))
    request = request_of(message)
    _require_signed(message, request, call)
    return await operations.certify(enrollment, endpoint, call, known, request)


def request_of(message: SignedData) -> CertificateRequest:
    """The only request of a message. Raises InvalidInput (``cmc-unparsable``, and what is wrong with the request),
    NotSupported (``cmc-request-unsupported``)."""
    if message.content_type != _PKI_DATA or message.content is None:
        raise _unparsable(f"it holds {message.content_type}, not a PKIData")
    try:
        fields = der.Reader(message.content).enter()
        der.children(fields.read(der.SEQUENCE).content, _MOST_CONTROLS)
        tagged = der.children(fields.read(der.SEQUENCE).content, _MOST_REQUESTS)
    except InvalidInput as error:
        raise _unparsable(error.detail.rstrip(".")) from None
    if len(tagged) != 1 or tagged[0].tag != _TAGGED_CERTIFICATION_REQUEST:
        raise NotSupported(
            "A message has exactly one request here, and that is PKCS #10.",
            code="cmc-request-unsupported",
            remedy="Send one PKCS #10 request in a TaggedCertificationRequest.",
        )
    try:
        inner = der.Reader(tagged[0].content)
        inner.read(der.INTEGER)
        encoded = inner.read(der.SEQUENCE).der
        inner.finish()
    except InvalidInput as error:
        raise _unparsable(error.detail.rstrip(".")) from None
    return parse_request(encoded)


def _require_signed(message: SignedData, request: CertificateRequest, call: Call) -> None:
    """Raise InvalidInput (``cms-signature-invalid``) unless the message was signed by its sender."""
    signer = message.signer
    spki = request.spki
    if call.chain:
        certificate = read_certificate(call.chain[0])
        if signer.made_by(certificate):
            spki = certificate.spki
    assert message.content is not None
    verify_signer(signer, message.content_type, message.content, spki, SHA_2)


def _unparsable(why: str) -> InvalidInput:
    return InvalidInput(
        f"The CMC message cannot be read: {why}.",
        code="cmc-unparsable",
        remedy="Send a SignedData with a PKIData, in base64.",
    )
