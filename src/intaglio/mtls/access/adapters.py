"""From the headers of each product to facts.

An adapter reads only the headers its product is configured to set on the question itself; the headers of the client,
which most products pass along, have other names and are not looked at.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from intaglio.mtls.access import presented as read
from intaglio.mtls.access.values import Facts

#: Values by lower-case header name.
Headers = Mapping[bytes, Sequence[bytes]]


class Question(NamedTuple):
    """What an adapter works from: ``rest`` is the part of the path behind the adapter's own."""

    headers: Headers
    method: str
    rest: str
    peer: str

    def one(self, name: bytes) -> bytes:
        return read.only(self.headers.get(name, ()), name.decode("latin-1"))

    def text(self, name: bytes) -> str:
        return read.text(self.one(name), name.decode("latin-1"))

    def word(self, name: bytes) -> str:
        return read.name(self.one(name), name.decode("latin-1"))


#: The method of a request whose ingress does not tell it: only a rule for every method allows it.
UNTOLD = "OTHER"

Adapter = Callable[[Question, UUID, datetime], Facts]


def nginx(question: Question, ingress: UUID, at: datetime) -> Facts:
    """``auth_request`` of nginx (and of products that can set any header, such as HAProxy and Apache).

    X-Client-Cert is ``$ssl_client_escaped_cert``, or X-Client-Cert-Der the base64 of its DER; X-Client-Chain-Der has
    further ones, comma-separated. X-Client-Verify is ``$ssl_client_verify``: SUCCESS, NONE or FAILED:reason.
    """
    escaped, der = question.one(b"x-client-cert"), question.one(b"x-client-cert-der")
    if escaped and der:
        raise read.invalid("the certificate in two headers")
    chain = read.escaped_pem(escaped) if escaped else (read.base64_der(der),) if der else ()
    if chain and (further := question.one(b"x-client-chain-der")):
        chain = (*chain, *read.bare_pem(further))
    return Facts(
        ingress=ingress,
        source_ip=question.text(b"x-real-ip"),
        at=at,
        presented=chain,
        host=question.text(b"x-original-host"),
        method=question.word(b"x-original-method") or UNTOLD,
        path=_path(question.text(b"x-original-uri")),
        tls_version=question.word(b"x-tls-version"),
        cipher=question.word(b"x-tls-cipher"),
        verify_error=verify_error(question.text(b"x-client-verify"), chain),
    )


def envoy(question: Question, ingress: UUID, at: datetime) -> Facts:
    """``ext_authz`` over HTTP of Envoy: method and path are those of the request, behind the adapter's own path.

    The certificate comes in x-forwarded-client-cert, which Envoy has to be told to set, not append; the address is the
    last of x-forwarded-for, which Envoy itself adds.
    """
    return Facts(
        ingress=ingress,
        source_ip=read.last_address(question.one(b"x-envoy-external-address") or question.one(b"x-forwarded-for")),
        at=at,
        presented=read.xfcc(question.one(b"x-forwarded-client-cert")),
        host=question.text(b"host"),
        method=read.name(question.method.encode("latin-1", "replace"), "method"),
        path=_path(question.rest or "/"),
        tls_version=question.word(b"x-tls-version"),
        cipher=question.word(b"x-tls-cipher"),
    )


def forwarded(question: Question, ingress: UUID, at: datetime) -> Facts:
    """``forwardAuth`` of Traefik and ``forward_auth`` of Caddy: X-Forwarded-Method, -Host, -Uri and -For.

    The certificate is in X-Forwarded-Tls-Client-Cert (Traefik) or, base64 of its DER, in X-Client-Cert-Der (Caddy:
    ``{http.request.tls.client.certificate_der_base64}``).
    """
    bare, der = question.one(b"x-forwarded-tls-client-cert"), question.one(b"x-client-cert-der")
    if bare and der:
        raise read.invalid("the certificate in two headers")
    chain = read.bare_pem(bare) if bare else (read.base64_der(der),) if der else ()
    return Facts(
        ingress=ingress,
        source_ip=read.last_address(question.one(b"x-forwarded-for")) or question.peer,
        at=at,
        presented=chain,
        host=question.text(b"x-forwarded-host"),
        method=question.word(b"x-forwarded-method") or UNTOLD,
        path=_path(question.text(b"x-forwarded-uri")),
        tls_version=question.word(b"x-tls-version"),
        cipher=question.word(b"x-tls-cipher"),
    )


#: Adapters by the name in their path.
ADAPTERS: Mapping[str, Adapter] = {
    "nginx": nginx,
    "haproxy": nginx,
    "apache": nginx,
    "envoy": envoy,
    "traefik": forwarded,
    "caddy": forwarded,
}

_WORDS = (
    ("self signed certificate in", "SELF_SIGNED_CERT_IN_CHAIN"),
    ("self-signed certificate in", "SELF_SIGNED_CERT_IN_CHAIN"),
    ("self signed", "DEPTH_ZERO_SELF_SIGNED_CERT"),
    ("self-signed", "DEPTH_ZERO_SELF_SIGNED_CERT"),
    ("has expired", "CERT_HAS_EXPIRED"),
    ("not yet valid", "CERT_NOT_YET_VALID"),
    ("revoked", "CERT_REVOKED"),
    ("purpose", "INVALID_PURPOSE"),
    ("signature failure", "CERT_SIGNATURE_FAILURE"),
    ("too weak", "EE_KEY_TOO_SMALL"),
    ("too small", "EE_KEY_TOO_SMALL"),
)
_HAPROXY_ERROR = re.compile(r"[0-9]{1,3}")


def verify_error(said: str, chain: Sequence[bytes]) -> str:
    """The OpenSSL name of what an ingress found wrong; empty when it found nothing.

    That no CA of *its* trust bundle vouches is not told: it may be set to let us decide, and we do know our CAs.
    """
    if said in ("", "SUCCESS", "NONE", "0", "GENEROUS"):
        if said == "NONE" and chain:
            raise read.invalid("a certificate together with the word that there is none")
        return ""
    if _HAPROXY_ERROR.fullmatch(said):
        return _NUMBERS.get(int(said), "")
    reason = said.removeprefix("FAILED:").strip().lower()
    return next((name for words, name in _WORDS if words in reason), "")


# OpenSSL's numbers (ssl_c_err, ssl_c_verify of HAProxy).
_NUMBERS = {
    7: "CERT_SIGNATURE_FAILURE",
    9: "CERT_NOT_YET_VALID",
    10: "CERT_HAS_EXPIRED",
    18: "DEPTH_ZERO_SELF_SIGNED_CERT",
    23: "CERT_REVOKED",
    26: "INVALID_PURPOSE",
    66: "EE_KEY_TOO_SMALL",
}


def _path(target: str) -> str:
    """The path of a request target in origin form (RFC 9112 section 3.2.1); empty for what is none."""
    return re.split(r"[?#]", target, maxsplit=1)[0]
