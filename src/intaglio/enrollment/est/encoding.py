"""How EST puts octets into HTTP bodies: base64, as clients write it. Sources: RFC 7030 section 4, RFC 8951 section 3.

RFC 8951 takes away the Content-Transfer-Encoding that RFC 7030 wanted, and allows white space anywhere; clients of both
kinds, and those that send PEM or plain DER, are understood. Answers still carry the header, which newer clients ignore.
"""

from __future__ import annotations

import base64
import binascii
import re
import secrets

from starlette.responses import Response

from intaglio.core.errors import InvalidInput, TooLarge

MAX_BODY_OCTETS = 256 * 1024
_ARMOUR = re.compile(rb"-----(?:BEGIN|END) [A-Z0-9 #]{1,60}-----")
_SPACE = re.compile(rb"[\s]+")
_BASE64 = {"content-transfer-encoding": "base64", "cache-control": "no-store"}

CERTIFICATES = "application/pkcs7-mime; smime-type=certs-only"
GENERATED_KEY = "application/pkcs7-mime; smime-type=server-generated-key"
PLAIN_KEY = "application/pkcs8"
ATTRIBUTES = "application/csrattrs"


def decode(body: bytes) -> bytes:
    """The octets of a request body: base64 with any white space, PEM, or DER as it is.

    Raises TooLarge (``too-large``), InvalidInput (``est-body-unreadable``).
    """
    if len(body) > MAX_BODY_OCTETS:
        raise too_large()
    if body[:1] == b"\x30" and body[1:2] >= b"\x80":  # a long SEQUENCE; base64 has no such octet
        return body
    text = _SPACE.sub(b"", _ARMOUR.sub(b"", body))
    try:
        octets = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        octets = b""
    if not octets:
        raise InvalidInput(
            "The body of the request is not base64.",
            code="est-body-unreadable",
            remedy="Send the request in DER, encoded in base64.",
        )
    return octets


def too_large() -> TooLarge:
    """The refusal of a body that is longer than any request."""
    return TooLarge(f"A request has at most {MAX_BODY_OCTETS >> 10} KiB.", remedy="Send only the request.")


def encode(octets: bytes) -> bytes:
    """Octets in base64, on one line: RFC 8951 lets clients expect white space, and strongSwan does not."""
    return base64.b64encode(octets)


def answer(octets: bytes, media_type: str, status: int = 200) -> Response:
    """An answer of one part."""
    return Response(encode(octets), status, _BASE64, media_type)


def two_parts(first: bytes, first_type: str, second: bytes, second_type: str) -> Response:
    """An answer of two parts, the key and its certificate. Source: RFC 7030 section 4.4.2, RFC 2046 section 5.1.1."""
    boundary = f"intaglio-{secrets.token_hex(12)}"
    parts = []
    for octets, media_type in ((first, first_type), (second, second_type)):
        head = f"--{boundary}\r\nContent-Type: {media_type}\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        parts.append(head.encode() + encode(octets) + b"\r\n")
    body = b"".join(parts) + f"--{boundary}--\r\n".encode()
    return Response(body, headers={"cache-control": "no-store"}, media_type=f"multipart/mixed; boundary={boundary}")
