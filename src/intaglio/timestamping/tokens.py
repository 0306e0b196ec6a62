"""Timestamp tokens, assembled octet by octet.

Everything that does not change from token to token is encoded once per issuer. Sources: RFC 3161 section 2.4.2,
RFC 5816, RFC 5652 section 5, RFC 5035 section 3, ETSI EN 319 422 sections 5 and 9.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from intaglio.asn1 import der
from intaglio.asn1.signature_schemes import Digest
from intaglio.timestamping.requests import TimestampRequest
from intaglio.x509.certificates import CertificateInfo
from intaglio.x509.extensions import extension

TST_INFO: Final = "1.2.840.113549.1.9.16.1.4"
SIGNED_DATA: Final = "1.2.840.113549.1.7.2"
CONTENT_TYPE: Final = "1.2.840.113549.1.9.3"
MESSAGE_DIGEST: Final = "1.2.840.113549.1.9.4"
SIGNING_TIME: Final = "1.2.840.113549.1.9.5"
SIGNING_CERTIFICATE: Final = "1.2.840.113549.1.9.16.2.12"
SIGNING_CERTIFICATE_V2: Final = "1.2.840.113549.1.9.16.2.47"
QC_STATEMENTS: Final = "1.3.6.1.5.5.7.1.3"
#: esi4-qtstStatement-1: the token is a qualified electronic timestamp. Source: ETSI EN 319 422 section 9.1.
QUALIFIED_TIMESTAMP: Final = "0.4.0.19422.1.1"
DIGEST_OIDS: Final[dict[Digest, str]] = {
    "sha256": "2.16.840.1.101.3.4.2.1",
    "sha384": "2.16.840.1.101.3.4.2.2",
    "sha512": "2.16.840.1.101.3.4.2.3",
}

_VERSION_1: Final = der.integer(1)
_VERSION_3: Final = der.integer(3)
_SIGNED_DATA: Final = der.oid(SIGNED_DATA)
_TST_INFO: Final = der.oid(TST_INFO)
_MESSAGE_DIGEST: Final = der.oid(MESSAGE_DIGEST)
_SIGNING_TIME: Final = der.oid(SIGNING_TIME)


@dataclass(frozen=True, slots=True)
class UnsignedToken:
    """A TSTInfo, the attributes over it (sorted, without the SET around them), and what is to be signed."""

    info: bytes
    attributes: bytes
    to_be_signed: bytes


@dataclass(frozen=True)
class TokenMaker:
    """What all tokens of one issuer have in common, encoded. Made by :func:`token_maker`."""

    fraction_digits: int
    _hash: Callable[..., Any] = field(repr=False)
    _info_front: bytes = field(repr=False)  # version and policy
    _accuracy_and_ordering: bytes = field(repr=False)
    _info_back: bytes = field(repr=False)  # TSA's name and extensions
    _certificate_attribute: bytes = field(repr=False)
    _certificate_attribute_v1: bytes = field(repr=False)
    _data_front: bytes = field(repr=False)  # version and digest algorithms of the SignedData
    _certificates: bytes = field(repr=False)
    _signer_front: bytes = field(repr=False)  # version, issuer and serial number, digest algorithm
    _signature_identifier: bytes = field(repr=False)

    def unsigned(self, request: TimestampRequest, serial: bytes, at: datetime) -> UnsignedToken:
        """The token for a request that was accepted; ``serial`` is big-endian, the first bit zero, the first octet
        not; ``at`` is aware."""
        info = der.tlv(
            der.SEQUENCE,
            b"".join(
                (
                    self._info_front,
                    request.imprint,
                    der.tlv(der.INTEGER, serial),
                    generalized_time(at, self.fraction_digits),
                    self._accuracy_and_ordering,
                    request.nonce,
                    self._info_back,
                )
            ),
        )
        attributes = [
            _CONTENT_TYPE_ATTRIBUTE,
            _attribute(_MESSAGE_DIGEST, der.tlv(der.OCTET_STRING, self._hash(info).digest())),
            _attribute(_SIGNING_TIME, der.utc_or_generalized_time(at)),
            self._certificate_attribute,
        ]
        if request.hash_name == "sha1":
            # Who asks with SHA-1 may be too old to know the newer attribute.
            attributes.append(self._certificate_attribute_v1)
        attributes.sort()
        joined = b"".join(attributes)
        return UnsignedToken(info, joined, der.tlv(der.SET, joined))

    def signed(self, token: UnsignedToken, signature: bytes, *, with_certificates: bool) -> bytes:
        """The ContentInfo around a token and the signature over ``to_be_signed``."""
        content = der.tlv(0xA0, der.tlv(der.OCTET_STRING, token.info))
        signer = der.tlv(
            der.SEQUENCE,
            b"".join(
                (
                    self._signer_front,
                    der.tlv(0xA0, token.attributes),
                    self._signature_identifier,
                    der.tlv(der.OCTET_STRING, signature),
                )
            ),
        )
        data = b"".join(
            (
                self._data_front,
                der.tlv(der.SEQUENCE, _TST_INFO + content),
                self._certificates if with_certificates else b"",
                der.tlv(der.SET, signer),
            )
        )
        return der.tlv(der.SEQUENCE, _SIGNED_DATA + der.tlv(0xA0, der.tlv(der.SEQUENCE, data)))


def token_maker(
    *,
    policy: str,
    accuracy: int | None,
    ordering: bool,
    qualified: bool,
    digest: Digest,
    certificate: CertificateInfo,
    chain: Sequence[bytes],
    signature_identifier: bytes,
) -> TokenMaker:
    """Encode what all tokens of an issuer have in common.

    ``policy`` is a dotted OID; ``accuracy`` in microseconds, None to leave it out; ``certificate`` that of the signer
    and ``chain`` the DER of the CA certificates that go with it; ``signature_identifier`` a DER AlgorithmIdentifier.
    """
    digest_algorithm = der.sequence(der.oid(DIGEST_OIDS[digest]))
    identifier = der.sequence(certificate.issuer.der, der.integer(certificate.serial))
    # GeneralName is a CHOICE, so the tag before it is explicit, and so is that of the Name in it.
    name = der.explicit(0, der.explicit(4, certificate.subject.der))
    return TokenMaker(
        fraction_digits=_fraction_digits(accuracy, ordering=ordering),
        _hash=getattr(hashlib, digest),
        _info_front=_VERSION_1 + der.oid(policy),
        _accuracy_and_ordering=_accuracy(accuracy) + (der.boolean(True) if ordering else b""),
        _info_back=name + (der.explicit(1, _qualified()) if qualified else b""),
        _certificate_attribute=_signing_certificate_v2(certificate.der),
        _certificate_attribute_v1=_signing_certificate_v1(certificate.der),
        _data_front=_VERSION_3 + der.set_of(digest_algorithm),
        _certificates=der.explicit(0, b"".join(sorted({certificate.der, *chain}))),
        _signer_front=_VERSION_1 + identifier + digest_algorithm,
        _signature_identifier=signature_identifier,
    )


def generalized_time(at: datetime, digits: int) -> bytes:
    """GeneralizedTime in UTC with at most ``digits`` (0 to 6) digits of a fraction, trailing zeros left out as DER
    demands. Source: RFC 3161 section 2.4.2."""
    whole = at.astimezone(UTC) if at.tzinfo is not UTC else at
    moment = b"%04d%02d%02d%02d%02d%02d" % (
        whole.year, whole.month, whole.day, whole.hour, whole.minute, whole.second,
    )  # fmt: skip
    if digits and (fraction := (b"%06d" % whole.microsecond)[:digits].rstrip(b"0")):
        moment += b"." + fraction
    return der.tlv(der.GENERALIZED_TIME, moment + b"Z")


def _fraction_digits(accuracy: int | None, *, ordering: bool) -> int:
    """As many digits as mean something: all where the time alone gives the order, else those the accuracy reaches."""
    if ordering:
        return 6
    if accuracy is None or accuracy >= 1_000_000:
        return 0
    return 3 if accuracy >= 1_000 else 6


def _accuracy(microseconds: int | None) -> bytes:
    """Accuracy; parts that are zero are left out. Source: RFC 3161 section 2.4.2."""
    if microseconds is None:
        return b""
    seconds, rest = divmod(microseconds, 1_000_000)
    millis, micros = divmod(rest, 1_000)
    return der.sequence(
        der.integer(seconds) if seconds else b"",
        b"\x80" + der.integer(millis)[1:] if millis else b"",
        b"\x81" + der.integer(micros)[1:] if micros else b"",
    )


def _qualified() -> bytes:
    """The qcStatements extension that calls the token qualified."""
    statements = der.sequence(der.sequence(der.oid(QUALIFIED_TIMESTAMP)))
    return extension(QC_STATEMENTS, False, statements)


def _signing_certificate_v2(certificate: bytes) -> bytes:
    """ESS signing-certificate-v2 with SHA-256, which is the default and so not named. Source: RFC 5035 section 3."""
    identifier = der.sequence(der.octet_string(hashlib.sha256(certificate).digest()))
    return _attribute(der.oid(SIGNING_CERTIFICATE_V2), der.sequence(der.sequence(identifier)))


def _signing_certificate_v1(certificate: bytes) -> bytes:
    """ESS signing-certificate, which knows SHA-1 only. Source: RFC 2634 section 5.4."""
    identifier = der.sequence(der.octet_string(hashlib.sha1(certificate, usedforsecurity=False).digest()))
    return _attribute(der.oid(SIGNING_CERTIFICATE), der.sequence(der.sequence(identifier)))


def _attribute(oid: bytes, value: bytes) -> bytes:
    return der.tlv(der.SEQUENCE, oid + der.tlv(der.SET, value))


_CONTENT_TYPE_ATTRIBUTE: Final = _attribute(der.oid(CONTENT_TYPE), _TST_INFO)
