"""What a file is: key, request, certificate, CRL, PKCS #7 or PKCS #12, in PEM or DER; with what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from cryptography import x509 as pyca
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from intaglio.asn1 import der
from intaglio.core.errors import IntaglioError, InvalidInput
from intaglio.core.identifiers import serial_hex
from intaglio.mtls.toolkit import keys, pbe, pkcs12_reader, sharing, strength
from intaglio.x509 import pem
from intaglio.x509.certificates import CertificateInfo, read_certificate, read_certificates
from intaglio.x509.extensions import SUBJECT_ALT_NAME
from intaglio.x509.requests import parse_request

MAX_OCTETS = 4 * 1024 * 1024
MAX_OBJECTS = 100
_SOON = timedelta(hours=72)
_MOST_REVOKED_SHOWN = 20
_MOST_ITERATIONS = 2 * pbe.MOST_ITERATIONS  # of all keys of one file
_SCRYPT_ROUNDS = 500_000  # what the most that scrypt may ask for costs, as iterations of PBKDF2


@dataclass(frozen=True)
class Inspected:
    """One object: what it is (``certificate``, ``private key`` ...), its facts in the order of telling, warnings."""

    kind: str
    facts: dict[str, Any]
    warnings: tuple[str, ...] = field(default=())

    def as_json(self) -> dict[str, Any]:
        return {"kind": self.kind, **self.facts, "warnings": list(self.warnings)}


def inspect(data: bytes, *, now: datetime, password: str | None = None) -> list[Inspected]:
    """The objects in ``data``, in their order. Without ``password`` keys and PKCS #12 are described, not opened.

    Raises InvalidInput (``file-not-understood``, ``too-many-objects``), what the reader of the one object refuses, and
    for a password that does not fit ``password-wrong``.
    """
    if len(data) > MAX_OCTETS:
        raise InvalidInput(f"The file is longer than {MAX_OCTETS} octets.", code="file-too-large")
    if b"-----BEGIN" in data:
        found = list(_pem_objects(data, now, password))
    else:
        found = [_der_object(data if data[:1] == b"\x30" else _from_base64(data), now, password)]
    if not found:
        raise _not_understood()
    return found


# ---- what is it ------------------------------------------------------------------------------------------------------

_REQUESTS = ("CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST")
_CERTIFICATES = ("CERTIFICATE", "X509 CERTIFICATE", "TRUSTED CERTIFICATE")
_PKCS7 = ("PKCS7", "CMS", "PKCS #7 SIGNED DATA")
_LABELS = (*keys.LABELS, *_REQUESTS, *_CERTIFICATES, *_PKCS7, "X509 CRL", "PUBLIC KEY")


def _pem_objects(data: bytes, now: datetime, password: str | None) -> Iterator[Inspected]:
    if b"Proc-Type: 4,ENCRYPTED" in data or b"BEGIN OPENSSH PRIVATE KEY" in data:
        yield private_key(data, password)
        return
    spent = 0
    for label, content in pem.blocks(data, _LABELS, limit=MAX_OBJECTS):
        if label in keys.LABELS:
            armoured = pem.encode(label, content).encode()
            spent = _bounded(spent + (0 if password is None else _rounds(armoured)))
            yield private_key(armoured, password)
        elif label in _REQUESTS:
            yield request(content)
        elif label in _CERTIFICATES:
            yield certificate(read_certificate(content), now)
        elif label in _PKCS7:
            yield from (certificate(each, now) for each in read_certificates(content))
        elif label == "X509 CRL":
            yield crl(content, now)
        else:
            yield public_key(content)


def _rounds(armoured: bytes) -> int:
    """How much work opening a key is, in iterations of PBKDF2."""
    described = keys.look_at_key(armoured).encryption
    if described is None:
        return 0
    return _SCRYPT_ROUNDS if described.iterations is None else described.iterations


def _bounded(spent: int) -> int:
    """``spent`` unless the keys of one file ask for more work than a file may. Raises InvalidInput."""
    if spent > _MOST_ITERATIONS:
        raise InvalidInput(
            f"The keys of the file ask for more than {_MOST_ITERATIONS} iterations.",
            code="iterations-out-of-range",
            remedy="Give fewer keys at once, or no password.",
        )
    return spent


def _der_object(data: bytes, now: datetime, password: str | None) -> Inspected:
    """DER has no label; what parses as a whole is what it is."""
    attempts: tuple[tuple[Callable[[], Any], Callable[[], Inspected]], ...] = (
        (lambda: read_certificate(data), lambda: certificate(read_certificate(data), now)),
        (lambda: pkcs12_reader.look_at_pkcs12(data), lambda: pkcs12(data, now, password)),
        (lambda: keys.look_at_key(data), lambda: private_key(data, password)),
        (lambda: parse_request(data, prove_possession=False), lambda: request(data)),
        (lambda: _load_crl(data), lambda: crl(data, now)),
        (lambda: _load_public(data), lambda: public_key(data)),
        (lambda: read_certificates(data), lambda: _pkcs7(data, now)),
    )
    for recognize, describe in attempts:
        try:
            recognize()
        except IntaglioError:
            continue
        return describe()
    raise _not_understood()


def _from_base64(data: bytes) -> bytes:
    try:
        return pem.decode_base64(data)
    except InvalidInput:
        raise _not_understood() from None


# ---- one of each -----------------------------------------------------------------------------------------------------


def certificate(info: CertificateInfo, now: datetime) -> Inspected:
    """A certificate."""
    name, weakness = strength.signature(info.signature_oid)
    algorithm, bits, warnings = _describe_spki(info.spki)
    self_signed = info.is_self_issued and info.verify_signed_by(info.spki)
    facts: dict[str, Any] = {
        "subject": info.subject.rfc4514,
        "issuer": info.issuer.rfc4514,
        "serial_number": serial_hex(info.serial),
        "not_before": info.not_before.isoformat(),
        "not_after": info.not_after.isoformat(),
        "names": info.san.text if info.san else [],
        "key_algorithm": algorithm,
        "security_bits": bits,
        "signature_algorithm": name,
        "version": 3 if info.extensions else 1,
        "ca": info.is_ca,
        "path_length": info.path_len,
        "key_usage": sorted(info.key_usage or ()),
        "extended_key_usage": [_EKU.get(oid, oid) for oid in info.eku or ()],
        "self_signed": self_signed,
        "ocsp": list(info.ocsp_urls),
        "crl": list(info.crl_urls),
        "sha256": sharing.colons(info.fingerprint),
        "spki_pin": sharing.spki_pin(info.spki),
    }
    found = [*_validity_warnings(info, now), *filter(None, [weakness]), *warnings]
    found += _shape_warnings(info, self_signed)
    return Inspected("certificate", facts, tuple(found))


def _validity_warnings(info: CertificateInfo, now: datetime) -> Iterator[str]:
    if now > info.not_after:
        yield f"It expired on {info.not_after:%Y-%m-%d %H:%M} UTC."
    elif now < info.not_before:
        yield f"It is not valid before {info.not_before:%Y-%m-%d %H:%M} UTC; is the clock right?"
    elif info.not_after - now < _SOON:
        yield f"It expires within 72 hours, on {info.not_after:%Y-%m-%d %H:%M} UTC."


def _shape_warnings(info: CertificateInfo, self_signed: bool) -> Iterator[str]:
    if not info.extensions:
        yield "It has no extensions (version 1): strict verification refuses it."
    elif self_signed and not info.is_ca:
        yield "It is self-signed: only a partner who pins this very certificate can trust it."
    if info.extensions and not info.is_ca and info.san is None:
        yield "It has no subject alternative name; servers and browsers ignore the common name."


def request(data: bytes) -> Inspected:
    """A certificate request."""
    found = parse_request(data, prove_possession=False)
    warnings = []
    try:
        parse_request(data)
    except InvalidInput as error:
        warnings.append(error.detail)
    if found.san is None:
        warnings.append("It asks for no subject alternative name.")
    algorithm, bits, about_key = strength.key(found.public_key)
    facts = {
        "subject": found.subject.rfc4514,
        "names": found.san.text if found.san else [],
        "key_algorithm": algorithm,
        "security_bits": bits,
        "extensions": [each.oid for each in found.extensions if each.oid != SUBJECT_ALT_NAME],
        "spki_pin": sharing.spki_pin(found.spki),
    }
    return Inspected("certificate request", facts, (*warnings, *about_key))


def private_key(data: bytes, password: str | None) -> Inspected:
    """A private key; what is inside an encrypted one only with its password."""
    file = keys.look_at_key(data)
    facts: dict[str, Any] = {"container": file.container, "encrypted": file.encrypted}
    warnings: list[str] = []
    if file.encryption is None:
        warnings.append("It is not encrypted: whoever can read the file has the identity.")
    else:
        facts |= _encryption_facts(file.encryption)
        warnings += _encryption_warnings(file.encryption)
    if file.encryption is None or password is not None:
        found = keys.open_key(file, password)
        algorithm, bits, about_key = strength.key(found)
        spki = found.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        facts |= {"key_algorithm": algorithm, "security_bits": bits, "spki_pin": sharing.spki_pin(spki)}
        warnings += about_key
    return Inspected("private key", facts, tuple(warnings))


def public_key(data: bytes) -> Inspected:
    """A SubjectPublicKeyInfo."""
    algorithm, bits, warnings = strength.key(_load_public(data))
    facts = {"key_algorithm": algorithm, "security_bits": bits, "spki_pin": sharing.spki_pin(data)}
    return Inspected("public key", facts, tuple(warnings))


def crl(data: bytes, now: datetime) -> Inspected:
    """A certificate revocation list."""
    found = _load_crl(data)
    warnings = []
    if found.next_update_utc is not None and found.next_update_utc < now:
        warnings.append(f"It is out of date since {found.next_update_utc:%Y-%m-%d %H:%M} UTC.")
    name, weakness = strength.signature(found.signature_algorithm_oid.dotted_string)
    warnings += [weakness] if weakness else []
    serials = [serial_hex(each.serial_number.to_bytes(20, "big").lstrip(b"\x00") or b"\x00") for each in found]
    facts = {
        "issuer": found.issuer.rfc4514_string(),
        "this_update": found.last_update_utc.isoformat(),
        "next_update": found.next_update_utc.isoformat() if found.next_update_utc else None,
        "signature_algorithm": name,
        "revoked_count": len(serials),
        "revoked": serials[:_MOST_REVOKED_SHOWN],
    }
    return Inspected("certificate revocation list", facts, tuple(warnings))


def pkcs12(data: bytes, now: datetime, password: str | None) -> Inspected:
    """A PKCS #12 file; its content only with its password."""
    structure = pkcs12_reader.look_at_pkcs12(data)
    encryptions = [*structure.key_encryptions, *(p.encryption for p in structure.parts if p.encryption)]
    facts: dict[str, Any] = {
        "mac": None if structure.mac is None else structure.mac.digest,
        "mac_iterations": None if structure.mac is None else structure.mac.iterations,
        "encryption": sorted({each.cipher for each in encryptions if each is not None}),
        "iterations": sorted({each.iterations for each in encryptions if each is not None and each.iterations}),
    }
    warnings = [] if structure.mac else ["It has no MAC: it may have been changed unnoticed."]
    if not structure.key_encryptions and any(part.identifier is None for part in structure.parts):
        warnings.append("Something in it is not encrypted.")
    for each in dict.fromkeys(e for e in encryptions if e is not None):
        warnings += _encryption_warnings(each)
    if password is not None:
        content = pkcs12_reader.open_pkcs12(data, password)
        facts |= _pkcs12_facts(content, now, warnings)
    return Inspected("PKCS #12", facts, tuple(dict.fromkeys(warnings)))


def _pkcs12_facts(content: pkcs12_reader.Content, now: datetime, warnings: list[str]) -> dict[str, Any]:
    ders = [*([content.certificate] if content.certificate else []), *content.chain]
    shown = [certificate(read_certificate(each), now) for each in ders]
    if content.key is None:
        warnings.append("It has no private key.")
    elif not content.key_matches:
        warnings.append("No certificate in it belongs to its private key.")
    if shown:
        warnings += shown[0].warnings
    return {
        "friendly_name": content.friendly_name,
        "key_algorithm": None if content.key is None else strength.key(content.key)[0],
        "certificates": [each.as_json() for each in shown],
    }


def _pkcs7(data: bytes, now: datetime) -> Inspected:
    shown = [certificate(each, now) for each in read_certificates(data)]
    return Inspected("PKCS #7", {"certificates": [each.as_json() for each in shown]})


def _encryption_facts(found: pbe.Described) -> dict[str, Any]:
    return {"encryption": found.cipher, "derivation": found.prf, "iterations": found.iterations}


_FEW_ITERATIONS = 10_000
_WEAK_CIPHERS = ("RC2", "RC4", "AndDES-CBC")


def _encryption_warnings(found: pbe.Described) -> list[str]:
    warnings = []
    if any(mark in found.cipher for mark in _WEAK_CIPHERS):
        warnings.append(f"{found.cipher} is an encryption of the past that can be broken.")
    if found.iterations is not None and found.iterations < _FEW_ITERATIONS:
        warnings.append(f"Only {found.iterations} iterations: a weak password is found quickly.")
    return warnings


def _describe_spki(spki: bytes) -> tuple[str, int | None, list[str]]:
    try:
        return strength.key(_load_public(spki))
    except InvalidInput:
        return "unknown", None, ["Its key is of an unknown algorithm."]


def _load_public(spki: bytes) -> Any:
    try:
        der.read_tlv(spki, der.SEQUENCE)
        return load_der_public_key(spki)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise InvalidInput("The public key is malformed.", code="invalid-public-key") from None


def _load_crl(data: bytes) -> pyca.CertificateRevocationList:
    try:
        return pyca.load_der_x509_crl(data)
    except (ValueError, TypeError):
        raise InvalidInput("The certificate revocation list cannot be read.", code="crl-unreadable") from None


def _not_understood() -> InvalidInput:
    return InvalidInput(
        "The file is no key, request, certificate, CRL, PKCS #7 or PKCS #12.",
        code="file-not-understood",
        remedy="Give it in PEM or DER.",
    )


_EKU = {
    "1.3.6.1.5.5.7.3.1": "serverAuth",
    "1.3.6.1.5.5.7.3.2": "clientAuth",
    "1.3.6.1.5.5.7.3.3": "codeSigning",
    "1.3.6.1.5.5.7.3.4": "emailProtection",
    "1.3.6.1.5.5.7.3.8": "timeStamping",
    "1.3.6.1.5.5.7.3.9": "OCSPSigning",
}
