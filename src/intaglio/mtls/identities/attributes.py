"""What a certificate says about its holder beyond name and SPIFFE ID: an extension of our own, and reading it back.

::

    IdentityAttributes ::= SEQUENCE {
        format      INTEGER { v1(0) },
        kind        UTF8String,                 -- user, device, workload, service, pipeline
        environment UTF8String,
        team        UTF8String,                 -- empty: none
        service     UTF8String,                 -- empty: none
        roles       SEQUENCE OF UTF8String,
        version     UTF8String }                -- empty: none

Only the registry of identities writes it: no profile takes it from a request. So a certificate without it, whatever
names it carries, is nobody here.
"""

from __future__ import annotations

from typing import Final

from intaglio.asn1 import der
from intaglio.core.errors import InvalidInput
from intaglio.mtls.identities.values import CertifiedIdentity, Identity, Kind, spiffe_id
from intaglio.profiles import vocabulary
from intaglio.x509.certificates import CertificateInfo, read_certificate
from intaglio.x509.extensions import Extension

OID: Final = vocabulary.IDENTITY_ATTRIBUTES
_LONGEST: Final = 8192
_MOST_ROLES: Final = 32
_LONGEST_TEXT: Final = 255


def attributes_extension(identity: Identity) -> Extension:
    """The extension that certificates of an identity carry; not critical, since others do not know it."""
    value = der.sequence(
        der.integer(0),
        der.utf8_string(identity.kind.value),
        der.utf8_string(identity.environment),
        der.utf8_string(identity.team),
        der.utf8_string(identity.service),
        der.sequence(*map(der.utf8_string, identity.roles)),
        der.utf8_string(identity.version),
    )
    return Extension(OID, False, value)


def read_identity(certificate: CertificateInfo | bytes) -> CertifiedIdentity:
    """Who a certificate says its holder is. Looks nothing up and does not verify the certificate.

    Raises InvalidInput (``no-identity``) for a certificate that names no identity, or two, or contradicts itself.
    """
    info = certificate if isinstance(certificate, CertificateInfo) else read_certificate(certificate)
    extension = info.extension(OID)
    if extension is None:
        raise _no_identity("it was not issued by a registry of identities")
    kind, environment, team, service, roles, version = _read(extension.value)
    uri, domain, name = _read_uri(info, environment, team, kind)
    san = info.san
    mails = san.of_type("rfc822Name") if san else ()
    hosts = san.of_type("dNSName") if san else ()
    if info.subject.common_names != (name,):
        raise _no_identity("its subject is not the name in its SPIFFE ID")
    return CertifiedIdentity(
        kind=kind,
        name=name,
        domain=domain,
        environment=environment,
        team=team,
        service=service,
        roles=roles,
        version=version,
        uri=uri,
        email=mails[0].text if mails else "",
        dns_names=tuple(host.text for host in hosts),
    )


def _read(value: bytes) -> tuple[Kind, str, str, str, tuple[str, ...], str]:
    try:
        if len(value) > _LONGEST:
            raise der.not_der("it is too long")
        outer = der.Reader(value)
        fields = outer.enter()
        outer.finish()
        if fields.read(der.INTEGER).content != b"\x00":
            raise _no_identity("its attributes are of a later format")
        kind, environment, team, service = (_text(fields.read(der.UTF8_STRING)) for _ in range(4))
        roles = tuple(_text(role) for role in fields.enter().rest(_MOST_ROLES))
        version = _text(fields.read(der.UTF8_STRING))
        fields.finish()
        return Kind(kind), environment, team, service, roles, version
    except (InvalidInput, ValueError) as error:
        if isinstance(error, InvalidInput) and error.code == "no-identity":
            raise
        raise _no_identity("its attributes cannot be read") from None


def _text(element: der.Element) -> str:
    text = element.content.decode("utf-8")
    if element.tag != der.UTF8_STRING or len(text) > _LONGEST_TEXT or not text.isprintable():
        raise der.not_der("an attribute is not short printable text")
    return text


def _read_uri(info: CertificateInfo, environment: str, team: str, kind: Kind) -> tuple[str, str, str]:
    """The SPIFFE ID, its trust domain and the name in it; it has to say the same as the attributes.

    Exactly one URI: with two, nobody could say which of them is meant (X509-SVID section 2).
    """
    uris = info.san.of_type("uniformResourceIdentifier") if info.san else ()
    if len(uris) != 1 or not uris[0].text.startswith("spiffe://"):
        raise _no_identity("it does not have exactly one URI, a SPIFFE ID")
    uri = uris[0].text
    domain, _, path = uri.removeprefix("spiffe://").partition("/")
    name = path.rpartition("/")[2]
    if not name or uri != spiffe_id(domain, environment, team, kind, name):
        raise _no_identity("its SPIFFE ID says something else than its attributes")
    return uri, domain, name


def _no_identity(why: str) -> InvalidInput:
    return InvalidInput(
        f"The certificate names no identity: {why}.",
        code="no-identity",
        remedy="Use a certificate that was issued for a registered identity.",
    )
