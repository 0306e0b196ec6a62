"""Timestamp tokens, assembled octet by octet.

Everything that does not change from token to token is encoded once per issuer. Sources: RFC 3161 section 2.4.2,
RFC 5816, RFC 5652 section 5, RFC 5035 section 3, ETSI EN 319 422 sections 5 and 9.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

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
_SECOND: Final = timedelta(seconds=1)
_MOST_FRAMES: Final = 256  # per issuer: nonces and signatures have few lengths


class UnsignedToken(NamedTuple):
    """A TSTInfo, the attributes over it (sorted, without the SET around them), and what is to be signed."""

    info: bytes
    attributes: bytes
    to_be_signed: bytes


class _Layout(NamedTuple):
    """What tokens of one ``second`` have in common: their genTime where it has no fraction, and the signed attributes,
    without the digest of the TSTInfo between ``before`` and ``behind``; ``header`` is that of the SET around them."""

    second: datetime
    time: bytes
    header: bytes
    before: bytes
    behind: bytes


class TokenMaker:
    """What all tokens of one issuer have in common, encoded. Made by :func:`token_maker`.

    ``info_front`` is version and policy, ``info_back`` the TSA's name and extensions of a TSTInfo; ``data_front``
    version and digest algorithms of the SignedData, ``signer_front`` version, identifier and digest algorithm of the
    SignerInfo.
    """

    def __init__(
        self,
        *,
        digest: Digest,
        fraction_digits: int,
        info_front: bytes,
        accuracy_and_ordering: bytes,
        info_back: bytes,
        certificate: bytes,
        data_front: bytes,
        certificates: bytes,
        signer_front: bytes,
        signature_identifier: bytes,
    ) -> None:
        self._hash: Callable[..., Any] = getattr(hashlib, digest)
        self._digits = fraction_digits
        self._info_front = info_front
        self._accuracy_and_ordering = accuracy_and_ordering
        self._info_back = info_back
        self._certificate_attribute = _signing_certificate_v2(certificate)
        self._certificate_attribute_v1 = _signing_certificate_v1(certificate)
        self._data_front = data_front
        self._certificates = certificates
        self._signer_front = signer_front
        self._signature_identifier = signature_identifier
        empty = bytes(self._hash().digest_size)
        self._digest_front = _attribute(_MESSAGE_DIGEST, der.octet_string(empty))[: -len(empty)]
        self._fixed = len(info_front) + len(accuracy_and_ordering) + len(info_back) + 2
        self._headers: dict[int, bytes] = {}
        self._layouts: dict[bool, _Layout] = {}
        self._frames: dict[tuple[int, int, int, bool], tuple[bytes, bytes, bytes]] = {}

    def unsigned(self, request: TimestampRequest, serial: bytes, at: datetime) -> UnsignedToken:
        """The token for a request that was accepted; ``serial`` is big-endian, the first bit zero, the first octet
        not; ``at`` is aware."""
        layout = self._layout(at, old=request.hash_name == "sha1")
        time = generalized_time(at, self._digits) if self._digits else layout.time
        octets = len(serial)
        length = self._fixed + len(request.imprint) + octets + len(time) + len(request.nonce)
        info = b"".join(
            (
                self._header(length),
                self._info_front,
                request.imprint,
                bytes((der.INTEGER, octets)),
                serial,
                time,
                self._accuracy_and_ordering,
                request.nonce,
                self._info_back,
            )
        )
        digest = self._hash(info).digest()
        attributes = b"".join((layout.before, digest, layout.behind))
        return UnsignedToken(info, attributes, layout.header + attributes)

    def signed(self, token: UnsignedToken, signature: bytes, *, with_certificates: bool) -> bytes:
        """The ContentInfo around a token and the signature over ``to_be_signed``."""
        info, attributes = token.info, token.attributes
        lengths = (len(info), len(attributes), len(signature), with_certificates)
        frame = self._frames.get(lengths)
        if frame is None:
            frame = self._frame(*lengths)
            if len(self._frames) < _MOST_FRAMES:
                self._frames[lengths] = frame
        before, between, behind = frame
        return b"".join((before, info, between, attributes, behind, signature))

    def _frame(self, info: int, attributes: int, signature: int, with_certificates: bool) -> tuple[bytes, bytes, bytes]:
        """What stands before the TSTInfo, between it and the attributes, and between them and the signature, when they
        have these lengths."""
        content = der.tlv(0xA0, der.tlv(der.OCTET_STRING, bytes(info)))
        behind = self._signature_identifier + der.tlv(der.OCTET_STRING, bytes(signature))
        signer = der.tlv(der.SEQUENCE, self._signer_front + der.tlv(0xA0, bytes(attributes)) + behind)
        signers = der.tlv(der.SET, signer)
        certificates = self._certificates if with_certificates else b""
        data = self._data_front + der.tlv(der.SEQUENCE, _TST_INFO + content) + certificates + signers
        whole = der.tlv(der.SEQUENCE, _SIGNED_DATA + der.tlv(0xA0, der.tlv(der.SEQUENCE, data)))
        end_of_attributes = len(whole) - len(behind)
        end_of_info = len(whole) - len(signers) - len(certificates)
        return (
            whole[: end_of_info - info],
            whole[end_of_info : end_of_attributes - attributes],
            whole[end_of_attributes : len(whole) - signature],
        )

    def _header(self, length: int) -> bytes:
        """What stands before the content of a SEQUENCE of this length."""
        found = self._headers.get(length)
        if found is None:
            found = self._headers[length] = der.tlv(der.SEQUENCE, bytes(length))[:-length]
        return found

    def _layout(self, at: datetime, *, old: bool) -> _Layout:
        """What surrounds the digest in the second of ``at``. ``old`` adds the older attribute of the certificate: who
        asks with SHA-1 may be too old to know the newer one."""
        kept = self._layouts.get(old)
        if kept is None or not kept.second <= at < kept.second + _SECOND:
            kept = self._layouts[old] = self._new_layout(at.replace(microsecond=0), old)
        return kept

    def _new_layout(self, second: datetime, old: bool) -> _Layout:
        # In the order of DER, which the digest cannot change: the attributes differ before it comes.
        empty = bytes(self._hash().digest_size)
        digest = self._digest_front + empty
        attributes = [_CONTENT_TYPE_ATTRIBUTE, digest, _signing_time(second), self._certificate_attribute]
        if old:
            attributes.append(self._certificate_attribute_v1)
        attributes.sort()
        place = attributes.index(digest)
        joined = b"".join(attributes)
        return _Layout(
            second=second,
            time=generalized_time(second, 0),
            header=der.tlv(der.SET, joined)[: -len(joined)],
            before=b"".join(attributes[:place]) + self._digest_front,
            behind=b"".join(attributes[place + 1 :]),
        )


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
        digest=digest,
        fraction_digits=_fraction_digits(accuracy, ordering=ordering),
        info_front=_VERSION_1 + der.oid(policy),
        accuracy_and_ordering=_accuracy(accuracy) + (der.boolean(True) if ordering else b""),
        info_back=name + (der.explicit(1, _qualified()) if qualified else b""),
        certificate=certificate.der,
        data_front=_VERSION_3 + der.set_of(digest_algorithm),
        certificates=der.explicit(0, b"".join(sorted({certificate.der, *chain}))),
        signer_front=_VERSION_1 + identifier + digest_algorithm,
        signature_identifier=signature_identifier,
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


def _signing_time(at: datetime) -> bytes:
    return _attribute(_SIGNING_TIME, der.utc_or_generalized_time(at))


def _attribute(oid: bytes, value: bytes) -> bytes:
    return der.tlv(der.SEQUENCE, oid + der.tlv(der.SET, value))


_CONTENT_TYPE_ATTRIBUTE: Final = _attribute(der.oid(CONTENT_TYPE), _TST_INFO)
