"""serverkeygen: the key is made here and handed out with its certificate; it is not kept. Source: RFC 7030 section 4.4.

Plain keys are protected by TLS alone. A client that names its own key (AsymmetricDecryptKeyIdentifier) gets the new one
encrypted to that, which is the one of its client certificate.
"""

from __future__ import annotations

import hashlib

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from starlette.responses import Response

from intaglio.asn1 import algorithms, der
from intaglio.asn1.algorithms import KeyAlgorithm, PrivateKey
from intaglio.core.errors import Forbidden, InvalidInput, NotSupported, Refused
from intaglio.enrollment import credentials, pipeline
from intaglio.enrollment.context import Enrollment
from intaglio.enrollment.est import callers, encoding, operations
from intaglio.enrollment.est.callers import Call, Known
from intaglio.enrollment.values import Application, Endpoint, Granted
from intaglio.gateway.keys import generate_key
from intaglio.x509.certificates import CertificateInfo, read_certificate
from intaglio.x509.cms.enveloping import envelop
from intaglio.x509.cms.signing import certificates_only, sign
from intaglio.x509.requests import MAX_REQUEST_ATTRIBUTES, CertificateRequest

_SYMMETRIC_KEY_ID = "1.2.840.113549.1.9.16.2.37"
_ASYMMETRIC_KEY_ID = "1.2.840.113549.1.9.16.2.54"
_KEY_PACKAGE = "2.16.840.1.101.2.1.2.78.5"  # RFC 5958
_SIGNED_DATA = "1.2.840.113549.1.7.2"
_ATTRIBUTES = 0xA0


async def generate(enrollment: Enrollment, endpoint: Endpoint, call: Call, body: bytes) -> Response:
    """serverkeygen: a key and its certificate. The key of the request says only of what kind the new one is to be.

    Raises Forbidden (``server-keys-off``), and what enrolling raises.
    """
    if not endpoint.options.server_keys:
        raise Forbidden(
            "Keys are not made here for clients.",
            code="server-keys-off",
            remedy="Make the key yourself and use simpleenroll, or have server_keys switched on.",
        )
    known = await callers.identify(enrollment, endpoint, call)
    request = operations.read_request(body)
    operations.require_linked(endpoint, call, request)
    known.require_names(endpoint, request)
    recipient = _recipient(request, call)
    if endpoint.approval == "manual":
        raise Refused(
            "A key is made and handed out in one go, which does not go with approval by somebody.",
            code="server-keys-need-automatic-approval",
            remedy="Use simpleenroll.",
        )
    await _use_up(enrollment, known)
    key = await generate_key(_algorithm(endpoint, request), enrollment.gateway.key_generation)
    granted = await pipeline.apply(
        enrollment,
        Application(
            endpoint,
            known.applicant,
            spki=algorithms.spki(key.public_key()),
            name=request.subject.der,
            sans=None if request.san is None else tuple((each.type, each.der) for each in request.san.entries),
            extensions=request.extensions,
            generated=True,
        ),
    )
    assert isinstance(granted, Granted), "requests of this endpoint do not wait"
    return _answer(key, granted, recipient)


async def _use_up(enrollment: Enrollment, known: Known) -> None:
    """Count the use of a password: every answer has another key and certificate, also to a request that is repeated."""
    if known.credential is not None and known.credential.uses_left is not None:
        async with enrollment.database.transaction() as tx:
            await credentials.spend(tx, known.credential.id)


def _algorithm(endpoint: Endpoint, request: CertificateRequest) -> KeyAlgorithm:
    wanted = endpoint.options.server_key_algorithm
    return request.key_algorithm if wanted is None else KeyAlgorithm.parse(wanted)


def _answer(key: PrivateKey, granted: Granted, recipient: CertificateInfo | None) -> Response:
    plain = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    certificate = certificates_only([granted.certificate])
    if recipient is None:
        return encoding.two_parts(plain, encoding.PLAIN_KEY, certificate, encoding.CERTIFICATES)
    # Signed with the new key itself: whoever opens it sees that key and certificate belong together.
    package = sign(der.sequence(plain), read_certificate(granted.certificate), key, content_type=_KEY_PACKAGE)
    enveloped = envelop(_content(package), recipient, content_type=_SIGNED_DATA)
    return encoding.two_parts(enveloped, encoding.GENERATED_KEY, certificate, encoding.CERTIFICATES)


def _content(content_info: bytes) -> bytes:
    """What a ContentInfo holds; inside another structure its type stands beside it."""
    fields = der.Reader(content_info).enter()
    fields.read(der.OBJECT_IDENTIFIER)
    return fields.read(_ATTRIBUTES).content


def _recipient(request: CertificateRequest, call: Call) -> CertificateInfo | None:
    """Whom the key is encrypted to; None for a plain answer. Source: RFC 7030 section 4.4.1.

    Raises NotSupported (``symmetric-encryption-unsupported``), InvalidInput (``decrypt-key-unknown``).
    """
    if _attribute(request.der, _SYMMETRIC_KEY_ID) is not None:
        raise NotSupported(
            "Keys are not encrypted with shared keys here.",
            code="symmetric-encryption-unsupported",
            remedy="Name the key of your client certificate by AsymmetricDecryptKeyIdentifier, or name none.",
        )
    named = _attribute(request.der, _ASYMMETRIC_KEY_ID)
    if named is None:
        return None
    info = read_certificate(call.chain[0]) if call.chain else None
    if info is None or der.read_tlv(named, der.OCTET_STRING).content not in _identifiers(info):
        raise InvalidInput(
            "The key that the new one is to be encrypted to is not that of the client certificate.",
            code="decrypt-key-unknown",
            remedy="Connect with the certificate of that key, and name it by its subject key identifier.",
        )
    return info


def _identifiers(info: CertificateInfo) -> set[bytes]:
    """What a key may be called by. Source: RFC 5280 section 4.2.1.2, RFC 7093 section 2."""
    bits, _ = der.decode_bit_string(der.children(der.read_tlv(info.spki).content)[1].content)
    return {
        *(() if info.ski is None else (info.ski,)),
        hashlib.sha1(bits, usedforsecurity=False).digest(),
        hashlib.sha256(bits).digest(),
        hashlib.sha256(info.spki).digest(),
    }


def _attribute(request: bytes, oid: str) -> bytes | None:
    """The first value of an attribute of a request that was parsed before."""
    fields = der.Reader(der.Reader(request).enter().read(der.SEQUENCE).content)
    fields.read(der.INTEGER)
    fields.read(der.SEQUENCE)
    fields.read(der.SEQUENCE)
    attributes = fields.optional(_ATTRIBUTES)
    for each in () if attributes is None else der.children(attributes.content, MAX_REQUEST_ATTRIBUTES):
        reader = der.Reader(each.content)
        if der.decode_oid(reader.read(der.OBJECT_IDENTIFIER).content) == oid:
            values = der.children(reader.read(der.SET).content, 1)
            return values[0].der if values else None
    return None
