"""Reads PKCS #12 files as OpenSSL, Java, NSS, GnuTLS and Windows write them, and says exactly what is wrong with one.

First the structure is read (which needs no password), then the MAC tells a wrong password from a damaged file, then the
content is decrypted. RC2 and RC4, which old OpenSSL uses for certificates, are left to ``cryptography``, in a process.

Source: RFC 7292, RFC 9579 (PBMAC1).
"""

from __future__ import annotations

import base64
import hmac
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC
from cryptography.hazmat.primitives.serialization import load_der_private_key

from intaglio.asn1 import algorithms, der
from intaglio.core.errors import InvalidInput, Refused
from intaglio.mtls.toolkit import ber, keys, pbe
from intaglio.mtls.toolkit import pkcs12_writer as w
from intaglio.mtls.toolkit.pbe import Described
from intaglio.x509.certificates import read_certificate

MAX_PKCS12_OCTETS = 1024 * 1024
_KEY_BAG = "1.2.840.113549.1.12.10.1.1"
_SAFE_CONTENTS_BAG = "1.2.840.113549.1.12.10.1.6"
_PBMAC1 = "1.2.840.113549.1.5.14"
_MOST_BAGS = 200
_MOST_ITERATIONS_TOGETHER = 2 * pbe.MOST_ITERATIONS  # of everything in one file
_PKCS12_WEIGHT = pbe.MOST_ITERATIONS // pbe.MOST_PKCS12_ITERATIONS
_DIGESTS = {oid: name for name, oid in w.MAC_DIGESTS.items()} | {"2.16.840.1.101.3.4.2.4": "sha224"}
_HMACS = {
    "1.2.840.113549.2.9": "sha256",
    "1.2.840.113549.2.10": "sha384",
    "1.2.840.113549.2.11": "sha512",
}


@dataclass(frozen=True)
class Mac:
    """How the integrity of the file is protected: digest, iterations, and whether by PBMAC1."""

    digest: str
    iterations: int
    pbmac1: bool = False


@dataclass(frozen=True)
class Part:
    """One ContentInfo of the authenticated safe; ``identifier`` is the encryption, None when it is plain."""

    identifier: bytes | None = field(repr=False)
    content: bytes = field(repr=False)

    @property
    def encryption(self) -> Described | None:
        return None if self.identifier is None else pbe.describe(self.identifier)


@dataclass(frozen=True)
class Structure:
    """A PKCS #12 file before it is opened. ``mac`` is None when nothing protects its integrity."""

    mac: Mac | None
    parts: tuple[Part, ...]
    key_encryptions: tuple[Described, ...]
    _safe: bytes = field(repr=False)
    _mac_data: bytes | None = field(repr=False)


@dataclass(frozen=True)
class Content:
    """What is in a PKCS #12 file.

    ``certificate`` belongs to ``key`` (the first certificate when there is no key); ``chain`` are the others; DER.
    """

    structure: Structure
    key: Any = field(repr=False)
    certificate: bytes | None = field(repr=False)
    chain: tuple[bytes, ...] = field(repr=False)
    friendly_name: str | None

    @property
    def key_matches(self) -> bool:
        """Whether ``certificate`` is one for ``key``."""
        if self.key is None or self.certificate is None:
            return False
        return algorithms.spki(self.key.public_key()) == read_certificate(self.certificate).spki


def look_at_pkcs12(data: bytes) -> Structure:
    """The structure of a PKCS #12 file in DER or BER, at most 1 MiB, without opening it.

    Raises InvalidInput (``pkcs12-unreadable``) and Refused (``encryption-unsupported``: protected by a public key).
    """
    if len(data) > MAX_PKCS12_OCTETS:
        raise _unreadable(f"it is longer than {MAX_PKCS12_OCTETS} octets")
    try:
        return _structure(ber.to_der(data))
    except InvalidInput as error:
        raise error if error.code == "pkcs12-unreadable" else _unreadable(error.detail) from None


def open_pkcs12(data: bytes, password: str) -> Content:
    """The content of a PKCS #12 file.

    Raises InvalidInput (``pkcs12-unreadable``, ``password-wrong``, ``iterations-out-of-range``) and Refused
    (``encryption-unsupported``).
    """
    structure = look_at_pkcs12(data)
    _check_mac(structure, password)
    try:
        found = _Found()
        for part in structure.parts:
            for bag in _bags(found.plaintext(part, password), 0):
                found.take(bag, password)
        return found.content(structure)
    except Refused as error:
        if error.code != "encryption-unsupported":
            raise
        return _opened_elsewhere(data, password, structure, error)
    except InvalidInput as error:
        own = ("password-wrong", "iterations-out-of-range", "pkcs12-unreadable")
        raise error if error.code in own else _unreadable(error.detail) from None


# ---- structure -------------------------------------------------------------------------------------------------------


def _structure(data: bytes) -> Structure:
    pfx = der.Reader(data).enter()
    if der.decode_integer(pfx.read(der.INTEGER).content) != 3:
        raise _unreadable("its version is not 3")
    kind, safe = _content_info(pfx.read(der.SEQUENCE))
    if kind != w.DATA:
        raise pbe.unsupported("a public key instead of a password")
    mac_data = None if pfx.at_end else pfx.read(der.SEQUENCE).der
    octets = der.read_tlv(safe, der.OCTET_STRING).content
    infos = der.children(der.read_tlv(ber.to_der(octets), der.SEQUENCE).content, _MOST_BAGS)
    parts = tuple(_part(info) for info in infos)
    return Structure(
        mac=_read_mac(mac_data) if mac_data is not None else None,
        parts=parts,
        key_encryptions=tuple(_key_encryptions(parts)),
        _safe=octets,
        _mac_data=mac_data,
    )


def _content_info(element: der.Element) -> tuple[str, bytes]:
    if element.tag != der.SEQUENCE:
        raise der.not_der("a ContentInfo is a SEQUENCE")
    reader = der.Reader(element.content)
    kind = der.decode_oid(reader.read(der.OBJECT_IDENTIFIER).content)
    return kind, reader.read(0xA0).content


def _part(info: der.Element) -> Part:
    kind, content = _content_info(info)
    if kind == w.DATA:
        return Part(None, der.read_tlv(content, der.OCTET_STRING).content)
    if kind != w.ENCRYPTED_DATA:
        raise pbe.unsupported("a public key instead of a password")
    encrypted = der.Reader(content).enter()
    encrypted.read(der.INTEGER)
    inner = encrypted.enter()
    inner.read(der.OBJECT_IDENTIFIER)
    identifier = inner.read(der.SEQUENCE).der
    ciphertext = inner.read()
    if ciphertext.tag == 0x80:
        return Part(identifier, ciphertext.content)
    if ciphertext.tag == 0xA0:  # BER: in segments
        segments = der.children(ciphertext.content)
        return Part(identifier, b"".join(der.read_tlv(s.der, der.OCTET_STRING).content for s in segments))
    raise der.not_der("encrypted content is missing")


def _key_encryptions(parts: tuple[Part, ...]) -> Iterator[Described]:
    """The encryption of the keys that can be seen without a password (usually all)."""
    for part in parts:
        if part.identifier is not None:
            continue
        for kind, value, _ in _bags(part.content, 0):
            if kind == w.SHROUDED_KEY_BAG:
                yield pbe.describe(der.Reader(value).enter().read(der.SEQUENCE).der)


def _read_mac(mac_data: bytes) -> Mac:
    reader = der.Reader(mac_data).enter()
    info = reader.enter()
    algorithm = info.enter()
    oid = der.decode_oid(algorithm.read(der.OBJECT_IDENTIFIER).content)
    if oid == _PBMAC1:
        _, iterations, _, _, digest = _pbmac1(algorithm.read(der.SEQUENCE).der)
        return Mac(digest, iterations, pbmac1=True)
    reader.read(der.OCTET_STRING)
    iterations = 1 if reader.at_end else der.decode_integer(reader.read(der.INTEGER).content)
    if oid not in _DIGESTS:
        raise _unreadable(f"its MAC uses the digest {oid}")
    return Mac(_DIGESTS[oid], iterations)


# ---- integrity -------------------------------------------------------------------------------------------------------


def _check_mac(structure: Structure, password: str) -> None:
    if structure.mac is None or structure._mac_data is None:
        return
    if not 1 <= structure.mac.iterations <= pbe.MOST_ITERATIONS:
        raise InvalidInput(
            f"{structure.mac.iterations} iterations are not within 1 to {pbe.MOST_ITERATIONS}.",
            code="iterations-out-of-range",
        )
    reader = der.Reader(structure._mac_data).enter()
    info = reader.enter()
    algorithm = info.enter()
    algorithm.read(der.OBJECT_IDENTIFIER)
    expected = info.read(der.OCTET_STRING).content
    salt = reader.read(der.OCTET_STRING).content
    if structure.mac.pbmac1:
        key, name = _pbmac1_key(algorithm.read(der.SEQUENCE).der, password)
    else:
        name = structure.mac.digest
        key = pbe.pkcs12_mac_key(name, password, salt, structure.mac.iterations)
    if not hmac.compare_digest(hmac.new(key, structure._safe, name).digest(), expected):
        raise pbe.wrong_password()


def _pbmac1(parameters: bytes) -> tuple[bytes, int, int, str, str]:
    """Salt, iterations, key length, digest of the derivation, digest of the MAC (RFC 9579 section 4)."""
    reader = der.Reader(parameters).enter()
    derivation, scheme = reader.enter(), reader.enter()
    derivation.read(der.OBJECT_IDENTIFIER)
    settings = derivation.enter()
    salt = settings.read(der.OCTET_STRING).content
    iterations, length = (der.decode_integer(settings.read(der.INTEGER).content) for _ in range(2))
    prf = der.decode_oid(settings.enter().read(der.OBJECT_IDENTIFIER).content)
    mac = der.decode_oid(scheme.read(der.OBJECT_IDENTIFIER).content)
    if prf not in _HMACS or mac not in _HMACS or not 16 <= length <= 64:
        raise _unreadable("its PBMAC1 parameters are unusual")
    return salt, iterations, length, _HMACS[prf], _HMACS[mac]


def _pbmac1_key(parameters: bytes, password: str) -> tuple[bytes, str]:
    salt, iterations, length, prf, name = _pbmac1(parameters)
    algorithm: hashes.HashAlgorithm = {"sha256": hashes.SHA256(), "sha384": hashes.SHA384()}.get(prf, hashes.SHA512())
    return PBKDF2HMAC(algorithm, length, salt, iterations).derive(password.encode()), name


# ---- content ---------------------------------------------------------------------------------------------------------


_Bag = tuple[str, bytes, bytes]

_PATIENCE = 5.0  # seconds for a file of an old writer, which has some thousand iterations
#: The program of the process for old files: reads and writes JSON, tells nothing when it fails.
_OPENER = """
import base64, json, sys
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, pkcs12
given = json.load(sys.stdin)
try:
    found = pkcs12.load_pkcs12(base64.b64decode(given["data"]), given["password"].encode())
except (ValueError, TypeError, NotImplementedError):
    sys.exit(1)
key = None if found.key is None else found.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
certificates = [
    (each.certificate.public_bytes(Encoding.DER), (each.friendly_name or b"").decode("utf-8", "replace") or None)
    for each in (found.cert, *found.additional_certs) if each is not None
]
told = [(base64.b64encode(der).decode(), name) for der, name in certificates]
json.dump({"key": key and base64.b64encode(key).decode(), "certificates": told}, sys.stdout)
"""


def _bags(safe_contents: bytes, depth: int) -> Iterator[_Bag]:
    """(type, value, attributes) of every bag, nested ones included."""
    if depth > 4:
        raise der.not_der("bags are nested too deep")
    for element in der.children(der.read_tlv(ber.to_der(safe_contents), der.SEQUENCE).content, _MOST_BAGS):
        reader = der.Reader(element.content)
        kind = der.decode_oid(reader.read(der.OBJECT_IDENTIFIER).content)
        value = reader.read(0xA0).content
        attributes = b"" if reader.at_end else reader.read(der.SET).content
        if kind == _SAFE_CONTENTS_BAG:
            yield from _bags(value, depth + 1)
        else:
            yield kind, value, attributes


class _Found:
    """Gathers keys and certificates."""

    def __init__(self) -> None:
        self.keys: list[tuple[Any, str | None]] = []
        self.certificates: list[tuple[bytes, str | None]] = []
        self._spent = 0

    def plaintext(self, part: Part, password: str) -> bytes:
        """The content of a part, decrypted if need be."""
        if part.identifier is None:
            return part.content
        self._spend(part.identifier)
        return pbe.decrypt(part.identifier, part.content, password)

    def take(self, bag: _Bag, password: str) -> None:
        kind, value, attributes = bag
        if kind in (w.SHROUDED_KEY_BAG, _KEY_BAG) and self.keys:
            raise _unreadable("there are several private keys in it, one is expected")
        if kind == w.SHROUDED_KEY_BAG:
            self._spend(der.Reader(value).enter().read(der.SEQUENCE).der)
            self.keys.append((keys.decrypt_pkcs8(value, password), _friendly_name(attributes)))
        elif kind == _KEY_BAG:
            self.keys.append((keys.open_key(keys.look_at_key(value), None), _friendly_name(attributes)))
        elif kind == w.CERTIFICATE_BAG:
            reader = der.Reader(value).enter()
            if der.decode_oid(reader.read(der.OBJECT_IDENTIFIER).content) == w.X509_CERTIFICATE:
                found = der.read_tlv(reader.read(0xA0).content, der.OCTET_STRING).content
                self.certificates.append((found, _friendly_name(attributes)))

    def _spend(self, identifier: bytes) -> None:
        """Bound the work that a file can make altogether."""
        rounds = pbe.describe(identifier).iterations or 0
        self._spent += rounds * (_PKCS12_WEIGHT if pbe.is_pkcs12_pbe(identifier) else 1)
        if self._spent > _MOST_ITERATIONS_TOGETHER:
            raise InvalidInput(
                f"The file asks for more than {_MOST_ITERATIONS_TOGETHER} iterations.", code="iterations-out-of-range"
            )

    def content(self, structure: Structure) -> Content:
        key, name = self.keys[0] if self.keys else (None, None)
        ders = [each for each, _ in self.certificates]
        own = _own_certificate(key, ders)
        names = dict(self.certificates)
        return Content(
            structure,
            key,
            own,
            tuple(each for each in ders if each != own),
            name or (names.get(own) if own is not None else None),
        )


def _own_certificate(key: Any, certificates: list[bytes]) -> bytes | None:
    if key is not None:
        spki = algorithms.spki(key.public_key())
        for each in certificates:
            if read_certificate(each).spki == spki:
                return each
    return certificates[0] if certificates else None


def _friendly_name(attributes: bytes) -> str | None:
    for attribute in der.children(attributes, 20):
        reader = der.Reader(attribute.content)
        if der.decode_oid(reader.read(der.OBJECT_IDENTIFIER).content) == w.FRIENDLY_NAME:
            value = reader.enter(der.SET).read()
            return value.content.decode("utf-16-be", "replace")[:256]
    return None


def _opened_elsewhere(data: bytes, password: str, structure: Structure, refusal: Refused) -> Content:
    """Files with RC2 or RC4, through ``cryptography``.

    What is inside an encrypted part may ask for any number of iterations, which nothing here has seen; so it is opened
    by a process of its own, which is ended after some seconds.
    """
    given = json.dumps({"data": base64.b64encode(data).decode(), "password": password})
    try:
        run = subprocess.run(
            [sys.executable, "-I", "-c", _OPENER], input=given.encode(), capture_output=True, timeout=_PATIENCE,
            check=True,
        )  # fmt: skip
        found = json.loads(run.stdout)
    except (subprocess.SubprocessError, OSError, ValueError):
        raise refusal from None
    gathered = _Found()
    if found["key"] is not None:
        gathered.keys.append((load_der_private_key(base64.b64decode(found["key"]), None), None))
    gathered.certificates += [(base64.b64decode(each), name) for each, name in found["certificates"]]
    return gathered.content(structure)


def _unreadable(why: str) -> InvalidInput:
    return InvalidInput(
        f"The PKCS #12 file cannot be read: {why.rstrip('.')}.",
        code="pkcs12-unreadable",
        remedy="Check that it is a complete .p12 or .pfx file, not PEM or a text copy of one.",
    )
