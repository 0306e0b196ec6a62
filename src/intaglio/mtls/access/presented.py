"""Reading what enforcement points say about a request: one small grammar per product, all of them strict.

Everything here comes over the network. A value that is not exactly what its product writes is refused, never repaired:
a parser that is more lenient than the ingress is how headers get smuggled past it.
"""

from __future__ import annotations

import base64
import binascii
import re

from intaglio.core.errors import InvalidInput
from intaglio.mtls.access.bounded import remembered

LONGEST_HEADER = 64 * 1024
MOST_CERTIFICATES = 10
_LONGEST_TEXT = 8192
_SHORT = 6 * 1024  # octets of a header that is worth remembering

_PEM = re.compile(
    # Nothing is tried twice (++): both parts may be blanks, and there may be thousands of them.
    rb"-----BEGIN CERTIFICATE-----[\r\n\t ]++([A-Za-z0-9+/=\r\n\t ]++)-----END CERTIFICATE-----[\r\n\t ]*+"
)
_TRIPLET = re.compile(rb"%([0-9A-Fa-f]{2})")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_NAME = re.compile(r"[A-Za-z0-9_.:+-]{0,100}")


@remembered(entries=2048, longest=_SHORT)
def escaped_pem(value: bytes) -> tuple[bytes, ...]:
    """The certificates (DER) in percent-encoded PEM: nginx ``$ssl_client_escaped_cert``, ``Cert`` of XFCC.

    Raises InvalidInput (``header-invalid``).
    """
    _limit(value)
    return _from_pem(unescaped(value))


@remembered(entries=2048, longest=_SHORT)
def bare_pem(value: bytes) -> tuple[bytes, ...]:
    """The certificates in comma-separated base64 without PEM delimiters, percent-encoded or not (Traefik's
    ``X-Forwarded-Tls-Client-Cert``). Raises InvalidInput (``header-invalid``)."""
    _limit(value)
    if b"%" in value:
        value = unescaped(value)
    parts = value.split(b",")
    if len(parts) > MOST_CERTIFICATES:
        raise invalid(f"more than {MOST_CERTIFICATES} certificates")
    return tuple(base64_der(part) for part in parts)


@remembered(entries=2048, longest=_SHORT)
def base64_der(value: bytes) -> bytes:
    """The certificate in base64 of its DER (Caddy, HAProxy ``ssl_c_der,base64``). Raises InvalidInput."""
    _limit(value)
    try:
        decoded = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise invalid("a certificate that is not base64") from None
    if decoded[:1] != b"\x30":
        raise invalid("something else than a certificate")
    return decoded


def structured_bytes(value: bytes) -> bytes:
    """One Byte Sequence of a structured field: ``:base64:`` (RFC 8941 section 3.3.5). Raises InvalidInput."""
    stripped = value.strip(b" ")
    if len(stripped) < 2 or stripped[:1] != b":" or stripped[-1:] != b":":
        raise invalid("something else than one byte sequence")
    return base64_der(stripped[1:-1])


def structured_byte_list(value: bytes) -> tuple[bytes, ...]:
    """The certificates in a List of Byte Sequences (``Client-Cert-Chain``, RFC 9440 section 2.3). Raises
    InvalidInput."""
    _limit(value)
    parts = value.split(b",") if value else []
    if len(parts) > MOST_CERTIFICATES:
        raise invalid(f"more than {MOST_CERTIFICATES} certificates")
    return tuple(structured_bytes(part.strip(b" \t")) for part in parts)


@remembered(entries=2048, longest=_SHORT)
def xfcc(value: bytes) -> tuple[bytes, ...]:
    """The certificates of a ``X-Forwarded-Client-Cert`` header with exactly one element, leaf first: ``Chain`` when
    there is one, else ``Cert``; none when it is empty.

    Several elements mean that a header from outside was passed on, which an ingress must not do. Source: Envoy, "HTTP
    header manipulation", x-forwarded-client-cert. Raises InvalidInput (``header-invalid``).
    """
    _limit(value)
    if not value:
        return ()
    members = _xfcc_members(value)
    found = members.get(b"chain") or members.get(b"cert")
    if found is None:
        raise invalid("an element without Cert or Chain; have the ingress forward the certificate")
    chain = escaped_pem(found)
    if (cert := members.get(b"cert")) and escaped_pem(cert)[0] != chain[0]:
        raise invalid("a Chain that does not start with the Cert")
    return chain


def _xfcc_members(value: bytes) -> dict[bytes, bytes]:
    """``key=value`` pairs separated by semicolons, values quoted where they have to be."""
    members: dict[bytes, bytes] = {}
    position = 0
    while position < len(value):
        matched = _XFCC_MEMBER.match(value, position)
        if matched is None:
            raise invalid("more than one element" if value[position : position + 1] == b"," else "a broken element")
        name = matched[1].lower()
        if name in members and name not in (b"uri", b"dns"):
            raise invalid(f"{name.decode()} twice")
        quoted = matched[2]
        members[name] = re.sub(rb"\\(.)", rb"\1", quoted) if quoted is not None else matched[3]
        position = matched.end()
        if position == len(value):
            break
        if value[position : position + 1] != b";":
            raise invalid("more than one element" if value[position : position + 1] == b"," else "a broken element")
        position += 1
    return members


_XFCC_MEMBER = re.compile(rb'([A-Za-z]{1,16})=(?:"((?:[^"\\]|\\.)*)"|([^",;]*))', re.DOTALL)


def unescaped(value: bytes) -> bytes:
    """Percent-decoding in which every percent sign starts a triplet and plus means plus. Raises InvalidInput."""
    if value.count(b"%") != len(_TRIPLET.findall(value)):
        raise invalid("broken percent-encoding")
    return _TRIPLET.sub(lambda triplet: bytes([int(triplet[1], 16)]), value)


def text(value: bytes, what: str) -> str:
    """A header value as text: visible ASCII, or UTF-8 as it stands. Raises InvalidInput."""
    if len(value) > _LONGEST_TEXT:
        raise invalid(f"a {what} of more than {_LONGEST_TEXT} octets")
    try:
        decoded = value.decode("utf-8")
    except UnicodeDecodeError:
        raise invalid(f"a {what} that is not UTF-8") from None
    if _CONTROL.search(decoded):
        raise invalid(f"a {what} with control characters")
    return decoded


def name(value: bytes, what: str) -> str:
    """A short word: a TLS version, a cipher suite, an HTTP method. Raises InvalidInput."""
    decoded = value.decode("latin-1")
    if not _NAME.fullmatch(decoded):
        raise invalid(f"a {what} that is none")
    return decoded


def last_address(value: bytes) -> str:
    """The address the ingress itself added: the last one of an ``X-Forwarded-For``. Raises InvalidInput."""
    return text(value, "source address").rpartition(",")[2].strip()


def _from_pem(data: bytes) -> tuple[bytes, ...]:
    found: list[bytes] = []
    position = 0
    while position < len(data):
        matched = _PEM.match(data, position)
        if matched is None or len(found) == MOST_CERTIFICATES:
            raise invalid("something else than up to ten certificates in PEM")
        found.append(base64_der(b"".join(matched[1].split())))
        position = matched.end()
    if not found:
        raise invalid("no certificate")
    return tuple(found)


def _limit(value: bytes) -> None:
    if len(value) > LONGEST_HEADER:
        raise invalid(f"more than {LONGEST_HEADER} octets")


def invalid(what: str) -> InvalidInput:
    """The refusal of a header that does not say what its product says."""
    return InvalidInput(
        f"The ingress sent {what}.",
        code="header-invalid",
        remedy="Configure it as `intaglio mtls render` shows; pass nothing on that comes from outside.",
    )
