"""General messages: what a client may want to know. Sources: RFC 9810 section 5.3.19, RFC 9483 section 4.3."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Final

from intaglio.asn1 import cmp, crmf, der
from intaglio.asn1.cmp import Body, InfoTypeAndValue
from intaglio.authority import crls
from intaglio.enrollment.cmp.exchange import Answer, Exchange
from intaglio.enrollment.cmp.options import Curve, SignatureClass
from intaglio.x509.certificates import read_certificate
from intaglio.x509.general_names import GeneralNames
from intaglio.x509.names import Name

_ID_IT: Final = "1.3.6.1.5.5.7.4."
SIGN_KEY_PAIR_TYPES: Final = _ID_IT + "2"
PREFERRED_SYMMETRIC_ALGORITHM: Final = _ID_IT + "4"
CURRENT_CRL: Final = _ID_IT + "6"
UNSUPPORTED_OIDS: Final = _ID_IT + "7"
LANGUAGES: Final = _ID_IT + "16"
CA_CERTIFICATES: Final = _ID_IT + "17"
ROOT_CA_KEY_UPDATE: Final = _ID_IT + "18"
CERTIFICATE_REQUEST_TEMPLATE: Final = _ID_IT + "19"
ROOT_CA_CERTIFICATE: Final = _ID_IT + "20"
CRL_STATUS_LIST: Final = _ID_IT + "22"
CRLS: Final = _ID_IT + "23"
_AES_256_CBC: Final = "2.16.840.1.101.3.4.1.42"
_OUR_LANGUAGE: Final = "en"
_KEY_ALGORITHM: Final = "1.3.6.1.5.5.7.5.1.11"
_RSA_KEY_LENGTH: Final = "1.3.6.1.5.5.7.5.1.12"
_EC_PUBLIC_KEY: Final = "1.2.840.10045.2.1"
_RSA: Final = der.sequence(der.oid("1.2.840.113549.1.1.1"), der.null())
_CURVES: Final[Mapping[Curve, str]] = {
    "P-256": "1.2.840.10045.3.1.7", "P-384": "1.3.132.0.34", "P-521": "1.3.132.0.35",
}  # fmt: skip
_PLAIN: Final[Mapping[SignatureClass, tuple[str, ...]]] = {
    "eddsa": ("1.3.101.112", "1.3.101.113"),
    "ml-dsa": ("2.16.840.1.101.3.4.3.17", "2.16.840.1.101.3.4.3.18", "2.16.840.1.101.3.4.3.19"),
}

_Answerer = Callable[[Exchange, bytes | None], Awaitable[InfoTypeAndValue]]


async def inform(exchange: Exchange) -> Answer:
    """Answer a genm; without questions, the answers that need none. What is not known is listed as unsupported.

    Raises InvalidInput for questions that cannot be read.
    """
    asked = cmp.read_information(exchange.message.content)
    found, unknown = [], []
    for item in asked or tuple(map(InfoTypeAndValue, _UNASKED)):
        answerer = _ANSWERERS.get(item.oid)
        if answerer is None:
            unknown.append(der.oid(item.oid))
        else:
            found.append(await answerer(exchange, item.value))
    if unknown:
        found.append(InfoTypeAndValue(UNSUPPORTED_OIDS, der.sequence(*unknown)))
    return Answer(Body.GENP, der.sequence(*(item.der for item in found)))


async def _ca_certificates(exchange: Exchange, value: bytes | None) -> InfoTypeAndValue:
    """The CA certificates that clients need, the root left out unless it is the CA itself (RFC 9483 section 4.3.1)."""
    chain = exchange.ca.chain
    return InfoTypeAndValue(CA_CERTIFICATES, der.sequence(*(chain[:-1] or chain)))


async def _root_update(exchange: Exchange, value: bytes | None) -> InfoTypeAndValue:
    """The root as it is now, unless it is the one the client shows; ours have no link certificates (RFC 9483 section
    4.3.2)."""
    root = exchange.ca.chain[-1]
    if value is not None and read_certificate(value).der == root:
        return InfoTypeAndValue(ROOT_CA_KEY_UPDATE)
    return InfoTypeAndValue(ROOT_CA_KEY_UPDATE, der.sequence(root))


async def _template(exchange: Exchange, value: bytes | None) -> InfoTypeAndValue:
    """Which keys a request may bring; subject and extensions are for the client to fill in (RFC 9483 section 4.3.3)."""
    options = exchange.options
    controls = []
    if "ecdsa" in options.signature_classes:
        curve = der.sequence(der.oid(_EC_PUBLIC_KEY), der.oid(_CURVES[options.curves[0]]))
        controls.append(der.sequence(der.oid(_KEY_ALGORITHM), curve))
    if "rsa" in options.signature_classes:
        controls.append(der.sequence(der.oid(_RSA_KEY_LENGTH), der.integer(options.minimum_rsa_bits)))
    keys = der.sequence(*controls) if controls else b""
    return InfoTypeAndValue(CERTIFICATE_REQUEST_TEMPLATE, der.sequence(crmf.cert_template(subject=b"\x30\x00"), keys))


async def _current_crl(exchange: Exchange, value: bytes | None) -> InfoTypeAndValue:
    crl = await _crl(exchange)
    return InfoTypeAndValue(CURRENT_CRL, None if crl is None else crl[0])


async def _crl_update(exchange: Exchange, value: bytes | None) -> InfoTypeAndValue:
    """The CRL, unless the client has this one or a newer one (RFC 9483 section 4.3.4)."""
    crl = await _crl(exchange)
    if crl is None or value is None:
        return InfoTypeAndValue(CRLS)
    known = []
    for element in der.children(der.read_tlv(value, der.SEQUENCE).content, cmp.MAX_ITEMS):
        reader = der.Reader(element.der).enter()
        source = reader.read()
        this_update = None if reader.at_end else der.decode_time(reader.read())
        reader.finish()
        if _names_ca(exchange, source):
            known.append(this_update)
    current = bool(known) and all(moment is not None and moment >= crl[1] for moment in known)
    return InfoTypeAndValue(CRLS, None if current or not known else der.sequence(crl[0]))


def _names_ca(exchange: Exchange, source: der.Element) -> bool:
    """Whether a CRLSource is one of this CA: its distribution point, or its name as issuer."""
    if source.tag == 0xA1:
        names = GeneralNames.from_der(source.content)
        subject = exchange.ca.certificate.subject.key
        return any(
            entry.type == "directoryName" and Name.from_der(der.read_tlv(entry.der).content).key == subject
            for entry in names.entries
        )
    return source.tag == 0xA0


async def _crl(exchange: Exchange) -> tuple[bytes, datetime] | None:
    async with exchange.cmp.enrollment.database.read() as view:
        found = await crls.latest_crl(view, exchange.ca, exchange.ca.generation)
    return None if found is None else (found.der, found.facts.this_update)


async def _signing_keys(exchange: Exchange, value: bytes | None) -> InfoTypeAndValue:
    options, found = exchange.options, []
    for family in options.signature_classes:
        if family == "rsa":
            found.append(_RSA)
        elif family == "ecdsa":
            found += [der.sequence(der.oid(_EC_PUBLIC_KEY), der.oid(_CURVES[curve])) for curve in options.curves]
        else:
            found += [der.sequence(der.oid(oid)) for oid in _PLAIN[family]]
    return InfoTypeAndValue(SIGN_KEY_PAIR_TYPES, der.sequence(*found))


async def _symmetric(exchange: Exchange, value: bytes | None) -> InfoTypeAndValue:
    return InfoTypeAndValue(PREFERRED_SYMMETRIC_ALGORITHM, der.sequence(der.oid(_AES_256_CBC)))


async def _languages(exchange: Exchange, value: bytes | None) -> InfoTypeAndValue:
    """The one of the client's languages that texts are written in: English is all there is."""
    return InfoTypeAndValue(LANGUAGES, der.sequence(der.utf8_string(_OUR_LANGUAGE)))


_ANSWERERS: Final[Mapping[str, _Answerer]] = {
    SIGN_KEY_PAIR_TYPES: _signing_keys,
    PREFERRED_SYMMETRIC_ALGORITHM: _symmetric,
    CURRENT_CRL: _current_crl,
    LANGUAGES: _languages,
    CA_CERTIFICATES: _ca_certificates,
    ROOT_CA_CERTIFICATE: _root_update,
    ROOT_CA_KEY_UPDATE: _root_update,
    CERTIFICATE_REQUEST_TEMPLATE: _template,
    CRL_STATUS_LIST: _crl_update,
}
_UNASKED: Final = (SIGN_KEY_PAIR_TYPES, PREFERRED_SYMMETRIC_ALGORITHM, CA_CERTIFICATES)
