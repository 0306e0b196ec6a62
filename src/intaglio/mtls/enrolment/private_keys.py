"""Recognising a private key where none belongs.

The service certifies public keys only. Somebody who sends a private key by mistake has lost it, and must be told; what
was sent is neither kept nor logged. Recognised are PEM and other key files, JSON Web Keys, and DER (PKCS #8, PKCS #1,
SEC 1, encrypted PKCS #8, PKCS #12) as it is, in base64 or hexadecimal, whatever is around it. This is help against a
mistake: an attacker can always disguise a key, which is then merely no certificate request.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from urllib.parse import unquote_to_bytes

MAX_PAYLOAD = 256 * 1024

_MARKERS = re.compile(rb"PRIVATE KEY|PuTTY-User-Key-File|AGE-SECRET-KEY-1", re.IGNORECASE)
#: A member "d" beside a key type (RFC 7517, RFC 7518 section 6).
_JWK = re.compile(rb"(?=.*\"kty\"\s*:)(?=.*\"d\"\s*:\s*\"[A-Za-z0-9_-]{16,})", re.DOTALL)
_DER = re.compile(
    # PrivateKeyInfo: version, then an AlgorithmIdentifier (RFC 5958); a request has its subject there.
    rb"\x30(?:[\x10-\x7f]|\x81.|\x82..)\x02\x01[\x00\x01]\x30[\x05-\x40]\x06[\x03-\x0b]"
    # RSAPrivateKey: version, then the modulus (RFC 8017 appendix A.1.2)
    rb"|\x30(?:\x81.|\x82..)\x02\x01\x00\x02(?:[\x40-\x7f]|\x81.|\x82..)"
    # ECPrivateKey: version 1, then the octets of the key (RFC 5915)
    rb"|\x30(?:[\x10-\x7f]|\x81.)\x02\x01\x01\x04[\x14-\x42]"
    # PBES2 and the encryptions of PKCS #12 (RFC 8018, RFC 7292 appendices C and D)
    rb"|\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x05[\x03\x0a\x0b\x0d]"
    rb"|\x2a\x86\x48\x86\xf7\x0d\x01\x0c[\x01\x0a]",
    re.DOTALL,
)
_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{40,}={0,2}")
_HEX = re.compile(rb"(?:[0-9A-Fa-f]{2}[: ]?){40,}")
_MOST_RUNS = 64
_ESCAPES = ((b"\\r", b""), (b"\\n", b""), (b"\\t", b""), (b"\\/", b"/"))


def holds_private_key(payload: bytes) -> bool:
    """Whether a private key can be recognised in ``payload``; of more than 256 KiB only the beginning is looked at."""
    data = payload[:MAX_PAYLOAD]
    readings = [data]
    if b"%" in data:
        readings.append(unquote_to_bytes(data))
    return any(_shows(each) or any(map(_shows, _decoded(each))) for each in readings)


def _shows(data: bytes) -> bool:
    return bool(_MARKERS.search(data) or _DER.search(data) or _JWK.match(data))


def _decoded(data: bytes) -> Iterator[bytes]:
    """What long runs of base64 and hexadecimal stand for."""
    text = data
    for escape, meaning in _ESCAPES:
        text = text.replace(escape, meaning)
    text = re.sub(rb"[\r\n\t]", b"", text)
    for number, match in enumerate(_BASE64.finditer(text)):
        if number == _MOST_RUNS:
            return
        run = match[0].rstrip(b"=").replace(b"-", b"+").replace(b"_", b"/")
        # A PEM line before it, or a word, may have shifted the run: the octets are looked at from all four places.
        for shift in range(4):
            part = run[shift:]
            part = part[: len(part) - (len(part) % 4 == 1)]
            yield base64.b64decode(part + b"=" * (-len(part) % 4))
    for number, match in enumerate(_HEX.finditer(data)):
        if number == _MOST_RUNS:
            return
        try:
            yield binascii.unhexlify(re.sub(rb"[: ]", b"", match[0]))
        except binascii.Error:
            continue
