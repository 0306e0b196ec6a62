"""From the headers of each product to facts.

An adapter reads only the headers its product is configured to set on the question itself; the headers of the client,
which most products pass along, have other names and are not looked at.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from functools import lru_cache
from typing import NamedTuple
from uuid import UUID

from intaglio.mtls.access import presented as read
from intaglio.mtls.access.values import Facts


class Headers:
    """The headers of a question by lower-case name. One that is there twice could be read in two ways: nobody may."""

    __slots__ = ("_found", "_twice")

    def __init__(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        self._found: dict[bytes, bytes] = {}
        self._twice: set[bytes] = set()
        for name, value in headers:
            if name in self._found:
                self._twice.add(name)
            self._found[name] = value

    def get(self, name: bytes) -> bytes:
        """The value, empty when the header is not there. Raises InvalidInput when it is twice."""
        if name in self._twice:
            raise read.invalid(f"the header {name.decode('latin-1')} twice")
        return self._found.get(name, b"")


class Question(NamedTuple):
    """What an adapter works from: ``rest`` is the part of the path behind the adapter's own."""

    headers: Headers
    method: str
    rest: str

    def one(self, name: bytes) -> bytes:
        return self.headers.get(name)

    def text(self, name: bytes, what: str = "value") -> str:
        return read.text(self.headers.get(name), what)

    def word(self, name: bytes, what: str = "value") -> str:
        return read.name(self.headers.get(name), what)


#: The method of a request whose ingress does not tell it: only a rule for every method allows it.
UNTOLD = "OTHER"

Adapter = Callable[[Question, UUID, datetime], Facts]


def nginx(question: Question, ingress: UUID, at: datetime) -> Facts:
    """``auth_request`` of nginx (and of products that can set any header, such as HAProxy and Apache).

    X-Client-Cert is ``$ssl_client_escaped_cert``, or X-Client-Cert-Der the base64 of its DER; X-Client-Chain-Der has
    further ones, comma-separated. X-Client-Verify is ``$ssl_client_verify``: SUCCESS, NONE or FAILED:reason.
    """
    headers = question.headers
    escaped, der = headers.get(b"x-client-cert"), headers.get(b"x-client-cert-der")
    if escaped and der:
        raise read.invalid("the certificate in two headers")
    chain = read.escaped_pem(escaped) if escaped else (read.base64_der(der),) if der else ()
    if chain and (further := headers.get(b"x-client-chain-der")):
        chain = (*chain, *read.bare_pem(further))
    told = _nginx_told(
        headers.get(b"x-real-ip"),
        headers.get(b"x-original-host"),
        headers.get(b"x-original-method"),
        headers.get(b"x-tls-version"),
        headers.get(b"x-tls-cipher"),
        headers.get(b"x-client-verify"),
        bool(chain),
    )
    path = _path(read.text(headers.get(b"x-original-uri"), "path"))
    return Facts(ingress, told.source_ip, at, chain, told.host, told.method, path, told.tls, told.cipher, told.error)


class _Told(NamedTuple):
    source_ip: str
    host: str
    method: str
    tls: str
    cipher: str
    error: str


def _nginx_told(
    source_ip: bytes, host: bytes, method: bytes, tls: bytes, cipher: bytes, verify: bytes, presented: bool
) -> _Told:
    """What is the same in most questions of one client, read once unless it is unusually long."""
    if max(len(source_ip), len(host), len(method), len(tls), len(cipher), len(verify)) > _SHORT:
        return _read_told(source_ip, host, method, tls, cipher, verify, presented)
    return _kept_told(source_ip, host, method, tls, cipher, verify, presented)


def _read_told(
    source_ip: bytes, host: bytes, method: bytes, tls: bytes, cipher: bytes, verify: bytes, presented: bool
) -> _Told:
    return _Told(
        read.text(source_ip, "source address"),
        read.text(host, "host"),
        read.name(method, "method") or UNTOLD,
        read.name(tls, "TLS version"),
        read.name(cipher, "cipher"),
        verify_error(read.text(verify, "result of verification"), presented=presented),
    )


_SHORT = 256
_kept_told = lru_cache(maxsize=4096)(_read_told)


def envoy(question: Question, ingress: UUID, at: datetime) -> Facts:
    """``ext_authz`` over HTTP of Envoy: method and path are those of the request, behind the adapter's own path.

    The certificate comes in x-forwarded-client-cert, which Envoy has to be told to set, not append; the address is the
    last of x-forwarded-for, which Envoy itself adds.
    """
    return Facts(
        ingress=ingress,
        # Not x-envoy-external-address: what an internal client says there, Envoy leaves as it is.
        source_ip=read.last_address(question.one(b"x-forwarded-for")),
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
        # Never the peer instead: that is the ingress itself, whose address an IP rule may well allow.
        source_ip=read.last_address(question.one(b"x-forwarded-for")),
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


def verify_error(said: str, *, presented: bool) -> str:
    """The OpenSSL name of what an ingress found wrong; empty when it found nothing.

    That no CA of *its* trust bundle vouches is not told: it may be set to let us decide, and we do know our CAs.
    """
    if said in ("", "SUCCESS", "NONE", "0", "GENEROUS"):
        if said == "NONE" and presented:
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
    return target.partition("?")[0].partition("#")[0]
