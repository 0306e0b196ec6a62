"""Certificates: assembled from finished parts, and read into a typed value. Source: RFC 5280 section 4.1.

Assembly never re-encodes what it is given, so subject and subject alternative names of a request stay byte for byte.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property

from cryptography import x509 as pyca
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

from intaglio.asn1 import algorithms, der
from intaglio.asn1.algorithms import KeyAlgorithm, PublicKey
from intaglio.core.errors import InvalidInput
from intaglio.core.identifiers import serial_octets
from intaglio.x509 import extensions as ext
from intaglio.x509 import pem as pem_text
from intaglio.x509.general_names import GeneralNames
from intaglio.x509.names import Name

MAX_CERTIFICATE_OCTETS = 64 * 1024
MAX_CERTIFICATES = 100
MAX_CERTIFICATE_EXTENSIONS = 64
_MAX_BUNDLE_OCTETS = 1024 * 1024
_MAX_CERTIFICATE_NAMES = 10_000

_VERSION_3 = der.explicit(0, der.integer(2))
_LABELS = ("CERTIFICATE", "X509 CERTIFICATE", "TRUSTED CERTIFICATE")
_PKCS7_LABELS = ("PKCS7", "CMS", "PKCS #7 SIGNED DATA")


# ---- writing ---------------------------------------------------------------------------------------------------------


def assemble_tbs(
    *,
    serial: bytes,
    signature_identifier: bytes,
    issuer_der: bytes,
    not_before: datetime,
    not_after: datetime,
    subject_der: bytes,
    spki: bytes,
    extensions: bytes,
) -> bytes:
    """TBSCertificate (v3) from finished parts.

    ``serial`` is unsigned big-endian; ``signature_identifier``, ``issuer_der``, ``subject_der`` and ``spki`` are DER;
    ``extensions`` are concatenated Extension TLVs; the times are aware and lose their fractions of a second.
    """
    validity = der.utc_or_generalized_time(not_before) + der.utc_or_generalized_time(not_after)
    return der.sequence(
        _VERSION_3,
        der.integer(serial),
        signature_identifier,
        issuer_der,
        der.tlv(der.SEQUENCE, validity),
        subject_der,
        spki,
        der.explicit(3, der.tlv(der.SEQUENCE, extensions)) if extensions else b"",
    )


def assemble_certificate(tbs: bytes, signature_identifier: bytes, signature: bytes) -> bytes:
    """Certificate from a TBSCertificate, the same AlgorithmIdentifier as inside it, and the signature octets."""
    return der.sequence(tbs, signature_identifier, der.bit_string(signature))


def pem(certificate_der: bytes) -> str:
    """The certificate as PEM text with a final newline."""
    return pem_text.encode("CERTIFICATE", certificate_der)


# ---- reading ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CertificateInfo:
    """What Intaglio needs to know of a certificate. ``serial`` is minimal, unsigned and big-endian.

    All properties of known extensions were checked when the certificate was read, so they do not fail.
    """

    der: bytes = field(repr=False)
    tbs: bytes = field(repr=False)
    signature_identifier: bytes = field(repr=False)
    signature: bytes = field(repr=False)
    serial: bytes
    issuer: Name
    subject: Name
    not_before: datetime
    not_after: datetime
    spki: bytes = field(repr=False)
    extensions: tuple[ext.Extension, ...] = field(repr=False)

    @cached_property
    def fingerprint(self) -> bytes:
        """SHA-256 of the certificate."""
        return hashlib.sha256(self.der).digest()

    @cached_property
    def signature_oid(self) -> str:
        """Dotted OID of the signature algorithm."""
        return der.decode_oid(der.Reader(self.signature_identifier).enter().read(der.OBJECT_IDENTIFIER).content)

    @cached_property
    def key_algorithm(self) -> KeyAlgorithm | None:
        """Algorithm of the subject's key, None when it is not one of ours."""
        try:
            return algorithms.load_public_key(self.spki)[1]
        except InvalidInput:
            return None

    @cached_property
    def public_key(self) -> PublicKey:
        """The subject's key. Raises InvalidInput when its algorithm is not one of ours."""
        return algorithms.load_public_key(self.spki)[0]

    @property
    def is_self_issued(self) -> bool:
        """Whether subject and issuer match."""
        return self.subject.key == self.issuer.key

    @property
    def pem(self) -> str:
        """The certificate as PEM text."""
        return pem(self.der)

    def extension(self, oid: str) -> ext.Extension | None:
        """The extension of the dotted type ``oid``."""
        return next((extension for extension in self.extensions if extension.oid == oid), None)

    def _value(self, oid: str) -> bytes | None:
        found = self.extension(oid)
        return found.value if found else None

    @cached_property
    def _basic_constraints(self) -> tuple[bool, int | None]:
        value = self._value(ext.BASIC_CONSTRAINTS)
        return (False, None) if value is None else ext.read_basic_constraints(value)

    @property
    def is_ca(self) -> bool:
        """cA of the basic constraints."""
        return self._basic_constraints[0]

    @property
    def path_len(self) -> int | None:
        """pathLenConstraint, None for no limit."""
        return self._basic_constraints[1]

    @cached_property
    def key_usage(self) -> frozenset[str] | None:
        """Names of the key usage bits, None without the extension."""
        value = self._value(ext.KEY_USAGE)
        return None if value is None else ext.read_key_usage(value)

    @cached_property
    def eku(self) -> tuple[str, ...] | None:
        """Dotted extended key usages, None without the extension."""
        value = self._value(ext.EXTENDED_KEY_USAGE)
        return None if value is None else ext.read_extended_key_usage(value)

    @cached_property
    def san(self) -> GeneralNames | None:
        """Subject alternative names, None without the extension."""
        value = self._value(ext.SUBJECT_ALT_NAME)
        return None if value is None else GeneralNames.from_der(value, max_names=_MAX_CERTIFICATE_NAMES)

    @cached_property
    def ski(self) -> bytes | None:
        """Subject key identifier, None without the extension."""
        value = self._value(ext.SUBJECT_KEY_IDENTIFIER)
        return None if value is None else der.read_tlv(value, der.OCTET_STRING).content

    @cached_property
    def aki(self) -> bytes | None:
        """Key identifier of the issuer, None without it."""
        value = self._value(ext.AUTHORITY_KEY_IDENTIFIER)
        return None if value is None else ext.read_authority_key_identifier(value)

    @cached_property
    def crl_urls(self) -> tuple[str, ...]:
        """URLs of the CRL distribution points."""
        value = self._value(ext.CRL_DISTRIBUTION_POINTS)
        return () if value is None else ext.read_distribution_point_urls(value)

    @cached_property
    def _access(self) -> tuple[tuple[str, str], ...]:
        value = self._value(ext.AUTHORITY_INFORMATION_ACCESS)
        return () if value is None else ext.read_authority_information_access(value)

    @property
    def ocsp_urls(self) -> tuple[str, ...]:
        """URLs of OCSP responders."""
        return tuple(url for method, url in self._access if method == ext.OCSP)

    @property
    def issuer_urls(self) -> tuple[str, ...]:
        """URLs of the issuer's certificate."""
        return tuple(url for method, url in self._access if method == ext.CA_ISSUERS)

    @cached_property
    def policies(self) -> tuple[str, ...]:
        """Dotted certificate policies."""
        value = self._value(ext.CERTIFICATE_POLICIES)
        return () if value is None else ext.read_certificate_policies(value)

    def check_extensions(self) -> None:
        """Raise InvalidInput when the value of a known extension is malformed."""
        for name in ("_basic_constraints", "key_usage", "eku", "san", "ski", "aki", "crl_urls", "_access", "policies"):
            getattr(self, name)

    def verify_signed_by(self, public_key_spki: bytes) -> bool:
        """Whether the signature is valid under the DER SubjectPublicKeyInfo. Names and dates are not looked at."""
        try:
            key, _ = algorithms.load_public_key(public_key_spki)
        except InvalidInput:
            return False
        if self.signature_oid == algorithms.RSASSA_PSS:
            return self._verify_pss(key)
        return algorithms.verify(key, self.signature_oid, self.signature, self.tbs)

    def _verify_pss(self, key: PublicKey) -> bool:
        certificate = pyca.load_der_x509_certificate(self.der)
        try:
            parameters = certificate.signature_algorithm_parameters
            hash_algorithm = certificate.signature_hash_algorithm
        except (ValueError, UnsupportedAlgorithm):
            return False
        usable = isinstance(key, rsa.RSAPublicKey) and isinstance(parameters, padding.PSS)
        if not usable or hash_algorithm is None or hash_algorithm.digest_size < 32:
            return False
        try:
            key.verify(self.signature, self.tbs, parameters, hash_algorithm)  # type: ignore[call-arg,arg-type]
        except InvalidSignature:
            return False
        return True


def read_certificate(data: bytes | str) -> CertificateInfo:
    """The one certificate in ``data``: DER, PEM or bare base64, at most 64 KiB.

    Raises InvalidInput (``certificate-unparsable``), also when there are several.
    """
    if isinstance(data, bytes) and data[:1] == b"\x30":
        return _read_der(data)
    found = read_certificates(data)
    if len(found) != 1:
        raise _unparsable(f"there are {len(found)} certificates where one is expected")
    return found[0]


def read_certificates(data: bytes | str) -> list[CertificateInfo]:
    """All certificates in ``data``: DER, a PEM bundle, bare base64, or PKCS #7 (``.p7b``, DER or PEM); 1 to 100.

    Raises InvalidInput (``certificate-unparsable``).
    """
    if isinstance(data, str):
        data = data.encode("utf-8", "replace")
    if len(data) > _MAX_BUNDLE_OCTETS:
        raise _unparsable(f"the data is longer than {_MAX_BUNDLE_OCTETS} octets")
    try:
        encoded = _split(data)
    except InvalidInput as error:
        raise _unparsable(error.detail) from None
    if not 0 < len(encoded) <= MAX_CERTIFICATES:
        raise _unparsable(f"there are {len(encoded)} certificates, 1 to {MAX_CERTIFICATES} are expected")
    return [_read_der(certificate) for certificate in encoded]


def _split(data: bytes) -> list[bytes]:
    if b"-----BEGIN" in data:
        found = pem_text.blocks(data, _LABELS + _PKCS7_LABELS, limit=MAX_CERTIFICATES)
        return [c for label, block in found for c in (_from_pkcs7(block) if label in _PKCS7_LABELS else [block])]
    if data[:1] != b"\x30":
        data = pem_text.decode_base64(data)
    # A PKCS #7 ContentInfo starts with an object identifier, a certificate with a SEQUENCE.
    if der.Reader(data).enter().peek() == der.OBJECT_IDENTIFIER:
        return _from_pkcs7(data)
    return [data]


def _from_pkcs7(data: bytes) -> list[bytes]:
    try:
        return [c.public_bytes(Encoding.DER) for c in pkcs7.load_der_pkcs7_certificates(data)]
    except (ValueError, UnsupportedAlgorithm):
        raise _unparsable("the PKCS #7 data has no readable certificates") from None


def _read_der(data: bytes) -> CertificateInfo:
    if len(data) > MAX_CERTIFICATE_OCTETS:
        raise _unparsable(f"it is longer than {MAX_CERTIFICATE_OCTETS} octets")
    try:
        return _read(data)
    except InvalidInput as error:
        raise _unparsable(error.detail) from None


def _read(data: bytes) -> CertificateInfo:
    outer = der.Reader(data)
    certificate = outer.enter()
    outer.finish()
    tbs = certificate.read(der.SEQUENCE)
    signature_identifier = certificate.read(der.SEQUENCE).der
    signature, _ = der.decode_bit_string(certificate.read(der.BIT_STRING).content)
    certificate.finish()

    fields = der.Reader(tbs.content)
    version = fields.optional(0xA0)
    serial = der.decode_integer(fields.read(der.INTEGER).content)
    if fields.read(der.SEQUENCE).der != signature_identifier:
        raise _unparsable("the signature algorithm inside and outside of the signed part differ")
    issuer = Name.from_der(fields.read(der.SEQUENCE).der)
    validity = fields.enter()
    not_before, not_after = der.decode_time(validity.read()), der.decode_time(validity.read())
    validity.finish()
    subject = Name.from_der(fields.read(der.SEQUENCE).der)
    spki = fields.read(der.SEQUENCE).der
    for unique_identifier in (0x81, 0x82):
        fields.optional(unique_identifier)
    wrapped = fields.optional(0xA3)
    fields.finish()
    if wrapped is not None and (version is None or der.decode_integer(der.read_tlv(version.content).content) != 2):
        raise _unparsable("only version 3 may have extensions")
    info = CertificateInfo(
        der=data,
        tbs=tbs.der,
        signature_identifier=signature_identifier,
        signature=signature,
        serial=serial_octets(abs(serial)),
        issuer=issuer,
        subject=subject,
        not_before=not_before,
        not_after=not_after,
        spki=spki,
        extensions=_read_extensions(wrapped),
    )
    info.check_extensions()
    # The signature algorithm was compared as bytes only so far.
    _ = info.signature_oid
    return info


def _read_extensions(wrapped: der.Element | None) -> tuple[ext.Extension, ...]:
    if wrapped is None:
        return ()
    content = der.read_tlv(wrapped.content, der.SEQUENCE).content
    return ext.read_extensions(content, limit=MAX_CERTIFICATE_EXTENSIONS)


def _unparsable(why: str) -> InvalidInput:
    return InvalidInput(
        f"The certificate cannot be read: {why.rstrip('.')}.",
        code="certificate-unparsable",
        remedy="Send a certificate in PEM or DER.",
    )
