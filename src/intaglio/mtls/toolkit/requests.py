"""Certificate requests (PKCS #10) with a subject, alternative names and a digest of one's choice. Source: RFC 2986."""

from __future__ import annotations

from collections.abc import Mapping

from intaglio.asn1 import algorithms, der
from intaglio.asn1.algorithms import PrivateKey
from intaglio.core.errors import InvalidInput
from intaglio.mtls.toolkit.signatures import Digest, signed
from intaglio.x509 import extensions as ext
from intaglio.x509.general_names import GeneralNames
from intaglio.x509.names import AttributeValue, Name

_EXTENSION_REQUEST = "1.2.840.113549.1.9.14"

#: What one is asked for, in the order and with the words of ``openssl req``: attribute, question.
SUBJECT_QUESTIONS = (
    ("C", "Country (two letters)"),
    ("ST", "State or province"),
    ("L", "City or locality"),
    ("O", "Organization"),
    ("OU", "Organizational unit"),
    ("CN", "Common name (user name or identifier; ask the administrator of the server)"),
    ("emailAddress", "E-mail address"),
)


def subject_of(answers: Mapping[str, str]) -> Name:
    """The subject from answers by attribute, empty ones left out. Raises InvalidInput (``invalid-name``)."""
    rdns: list[AttributeValue] = [(a, answers[a].strip()) for a, _ in SUBJECT_QUESTIONS if answers.get(a, "").strip()]
    return Name.build(rdns)


def make_request(
    key: PrivateKey, subject: Name, names: GeneralNames | None = None, digest: Digest = Digest.SHA256
) -> bytes:
    """DER of a request for ``subject`` and the alternative ``names``, signed by ``key``.

    Raises InvalidInput (``request-without-name``) when there is neither a subject nor a name.
    """
    if subject.is_empty and names is None:
        raise InvalidInput(
            "A certificate request needs a subject or an alternative name.",
            code="request-without-name",
            remedy="Give a subject such as CN=alice, or a DNS name, e-mail address or URI.",
        )
    attributes = b""
    if names is not None:
        # RFC 5280 section 4.2.1.6: critical when it is the only name.
        wanted = der.sequence(ext.extension(ext.SUBJECT_ALT_NAME, subject.is_empty, names.der))
        attributes = der.sequence(der.oid(_EXTENSION_REQUEST), der.set_of(wanted))
    spki = algorithms.spki(key.public_key())
    info = der.sequence(der.integer(0), subject.der, spki, der.explicit(0, attributes))
    identifier, signature = signed(key, digest, info)
    return der.sequence(info, identifier, der.bit_string(signature))
