"""What the service behind is told about the client, and what it must never hear from the client itself.

Sources: RFC 9440 (Client-Cert, Client-Cert-Chain), RFC 9651 (structured fields), RFC 7239 (Forwarded), and the Envoy
documentation of X-Forwarded-Client-Cert.
"""

from __future__ import annotations

import hashlib
import ssl
from base64 import b64encode
from collections.abc import Iterable, Sequence
from functools import lru_cache
from urllib.parse import quote

from cryptography import x509

from intaglio.mtls.proxy.decisions import Verdict
from intaglio.mtls.proxy.exchange import HOP_BY_HOP, Header, RequestHead

#: Names, with hyphens and in lower case, that speak of a client: only the gateway may set them. A trailing hyphen
#: stands for everything that begins so.
_OURS = frozenset(
    {"client-cert", "client-cert-chain", "x-forwarded-client-cert", "forwarded", "x-forwarded", "x-real-ip",
     "x-client-ip", "x-cluster-client-ip", "true-client-ip", "x-client-cert", "x-client-certificate", "x-client-dn",
     "x-client-verify", "x-ssl", "x-tls", "x-original-url", "x-rewrite-url", "x-original-method", "x-http-method",
     "x-http-method-override", "x-method-override", "x-remote-user", "remote-user", "proxy"}
)  # fmt: skip
_FRAMING = HOP_BY_HOP | {b"host", b"expect", b"content-length"}
_OUR_PREFIXES = (
    "client-cert-", "x-forwarded-", "x-client-cert-", "x-ssl-", "x-tls-", "ssl-client-", "ssl-", "x-amzn-mtls-",
    "x-arr-clientcert", "x-identity-", "x-spiffe-", "x-intaglio-",
)  # fmt: skip


@lru_cache(maxsize=1024)
def is_ours(name: bytes) -> bool:
    """Whether only the gateway may say this field: who is calling, and where the message ends.

    CGI and WSGI turn hyphens into underscores, and some servers turn everything unusual into one: so every spelling
    that any of them would take for such a name counts as that name.
    """
    plain = "".join(chr(c) if chr(c).isalnum() else "-" for c in name.lower())
    return plain.encode() in _FRAMING or plain in _OURS or plain.startswith(_OUR_PREFIXES)


def request_headers(
    head: RequestHead, source: str, verdict: Verdict | None = None, *, authority: bytes | None = None
) -> list[Header]:
    """The fields of the request to the service.

    Arguments: ``source`` is the client's address; ``verdict`` says who it is and what is told of that; ``authority``
    replaces the Host the client named.
    """
    named = {
        token.strip().lower() for value in head.values(b"connection") for token in value.split(b",")
    }  # RFC 9110 section 7.6.1: what Connection names is of that connection, too
    kept = [
        (name, value)
        for name, value in head.headers
        if name not in named and not is_ours(name)
    ]
    host = authority or head.authority
    told: list[Header] = [(b"host", host), *kept, *_forwarding(head, source)]
    if head.protocol:
        told += [(b"connection", b"upgrade"), (b"upgrade", head.protocol)]
    return told if verdict is None else [*told, *identity_headers(verdict)]


def identity_headers(verdict: Verdict) -> Sequence[Header]:
    """Who is calling, in the forms the verdict asks for; nothing for a caller who did not prove it."""
    if not verdict.chain:
        return ()
    named = (("identity", verdict.identity), *map(tuple, verdict.attributes))
    return _identity_headers(tuple(verdict.chain), named, verdict.forward)


@lru_cache(maxsize=4096)
def _identity_headers(
    chain: tuple[bytes, ...], named: tuple[tuple[str, ...], ...], forward: frozenset[str]
) -> tuple[Header, ...]:
    told: list[Header] = []
    if "client-cert" in forward:
        told.append((b"client-cert", structured(chain[0])))
        if issuers := [each for each in chain[1:] if not _is_self_signed(each)]:
            told.append((b"client-cert-chain", b", ".join(structured(each) for each in issuers)))
    if "xfcc" in forward:
        told.append((b"x-forwarded-client-cert", client_certificate_element(chain)))
    if "identity" in forward:
        told += [(b"x-intaglio-" + name.encode(), _field(value)) for name, value in named if value]
    return tuple(told)


def response_headers(headers: Iterable[Header]) -> list[Header]:
    """The fields of an answer that are the client's business."""
    headers = list(headers)
    named = {token.strip().lower() for name, value in headers if name == b"connection" for token in value.split(b",")}
    return [(name, value) for name, value in headers if name not in HOP_BY_HOP and name not in named]


def structured(certificate: bytes) -> bytes:
    """A certificate as a structured field: a byte sequence (RFC 9440 section 2.1, RFC 9651 section 3.3.5)."""
    return b":" + b64encode(certificate) + b":"


def client_certificate_element(chain: Sequence[bytes]) -> bytes:
    """One element of X-Forwarded-Client-Cert, as Envoy writes it: hash, certificate, subject, URI and DNS names."""
    leaf = x509.load_der_x509_certificate(chain[0])
    parts = [
        f"Hash={hashlib.sha256(chain[0]).hexdigest()}",
        f'Cert="{quote(ssl.DER_cert_to_PEM_cert(chain[0]), safe="")}"',
        f'Subject="{_quoted(leaf.subject.rfc4514_string())}"',
    ]
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        names = x509.SubjectAlternativeName([])
    parts += [f"URI={_plain(uri)}" for uri in names.get_values_for_type(x509.UniformResourceIdentifier)]
    parts += [f"DNS={_plain(name)}" for name in names.get_values_for_type(x509.DNSName)]
    return ";".join(parts).encode("ascii", "backslashreplace")


def _forwarding(head: RequestHead, source: str) -> list[Header]:
    quoted = f'"[{source}]"' if ":" in source else source
    host = head.authority.decode("ascii")
    return [
        (b"x-forwarded-for", source.encode()),
        (b"x-forwarded-proto", b"https"),
        (b"x-forwarded-host", head.authority),
        (b"forwarded", f'for={quoted};proto=https;host="{host}"'.encode()),
    ]


def _is_self_signed(certificate: bytes) -> bool:
    found = x509.load_der_x509_certificate(certificate)
    return found.subject == found.issuer


def _quoted(text: str) -> str:
    return _visible(text).replace("\\", "\\\\").replace('"', '\\"')


def _plain(text: str) -> str:
    """A value outside quotation marks, with what would end it or an element escaped."""
    return quote(_visible(text), safe="!$&'()*+/:@?#[]~%")


def _field(text: str) -> bytes:
    return _visible(text).strip().encode("ascii", "backslashreplace")


def _visible(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)
