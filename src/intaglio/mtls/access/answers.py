"""The answer to an enforcement point: status, reason, and who is calling, as headers it can pass upstream."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import lru_cache
from urllib.parse import quote

from intaglio.mtls.access.bounded import Bounded
from intaglio.mtls.access.values import Decision, ReasonCode
from intaglio.mtls.identities.values import CertifiedIdentity
from intaglio.mtls.proxy.forwarded import client_certificate_element, structured

Header = tuple[bytes, bytes]

#: What a client that is refused may know. Names of CAs and rules are for the log.
SENTENCES = {
    ReasonCode.IP_DENIED: "Your address is not allowed here.",
    ReasonCode.NO_CERTIFICATE: "A client certificate is needed.",
    ReasonCode.SELF_SIGNED: "The client certificate is self-signed; a certificate of our CA is needed.",
    ReasonCode.UNKNOWN_CA: "The client certificate is not from a CA that counts here.",
    ReasonCode.WRONG_ENVIRONMENT: "The client certificate belongs to another environment.",
    ReasonCode.EXPIRED: "The client certificate has expired.",
    ReasonCode.NOT_YET_VALID: "The client certificate is not valid yet; check your clock.",
    ReasonCode.REVOKED: "The client certificate was revoked.",
    ReasonCode.STATUS_UNAVAILABLE: "The status of the client certificate cannot be looked up now; try again shortly.",
    ReasonCode.BAD_PURPOSE: "The certificate is not made for clients.",
    ReasonCode.POLICY_DENIED: "You are known, but this is not allowed.",
    ReasonCode.WEAK_KEY: "The key or signature of the client certificate is too weak.",
    ReasonCode.BAD_SIGNATURE: "The client certificate is not authentic.",
}

_NO_STORE: Header = (b"cache-control", b"no-store")
_EMPTY: Header = (b"content-length", b"0")


def response_headers(decision: Decision, forward: frozenset[str]) -> list[Header]:
    """The headers of the answer to an allowed request, without a body."""
    headers = [_EMPTY, _NO_STORE]
    if decision.reason is not None:
        headers += [(b"x-intaglio-reason", decision.reason.encode()), (b"x-intaglio-mode", decision.mode.encode())]
    if decision.chain:
        key = (decision.chain, forward)
        headers += _MADE.get(key) or _MADE.put(key, _forwarded(decision.chain, decision.identity, forward))
    return headers


#: Who a chain belongs to stands in its leaf, so the chain is key enough.
_MADE: Bounded[tuple[tuple[bytes, ...], frozenset[str]], tuple[Header, ...]] = Bounded(4_096)


def refusal(decision: Decision) -> tuple[int, list[Header], bytes]:
    """Status, headers and body of a refusal (RFC 9457)."""
    reason = decision.reason or ReasonCode.POLICY_DENIED
    return decision.status, *_refusal(reason, decision.status)


@lru_cache(maxsize=64)
def _refusal(reason: ReasonCode, status: int) -> tuple[list[Header], bytes]:
    body = json.dumps(
        {
            "type": f"urn:intaglio:problem:{reason}",
            "title": "Forbidden" if status == 403 else "Unauthorized",
            "status": status,
            "detail": SENTENCES[reason],
            "code": str(reason),
        }
    ).encode()
    headers = [
        (b"content-type", b"application/problem+json"),
        (b"content-length", str(len(body)).encode()),
        _NO_STORE,
        (b"x-intaglio-reason", reason.encode()),
    ]
    if status == 401:
        headers.append((b"www-authenticate", b"ClientCertificate"))  # RFC 9110 section 15.5.2 demands a challenge
    return headers, body


def _forwarded(
    chain: tuple[bytes, ...], identity: CertifiedIdentity | None, forward: frozenset[str]
) -> tuple[Header, ...]:
    return tuple(
        header for name, make in _FORWARDED.items() if name in forward for header in make(chain, identity)
    )


def _client_cert(chain: tuple[bytes, ...], _: CertifiedIdentity | None) -> list[Header]:
    """RFC 9440: the certificate, and the intermediate ones that were verified."""
    found = [(b"client-cert", structured(chain[0]))]
    if len(chain) > 1:
        found.append((b"client-cert-chain", b", ".join(map(structured, chain[1:]))))
    return found


def _xfcc(chain: tuple[bytes, ...], _: CertifiedIdentity | None) -> list[Header]:
    return [(b"x-forwarded-client-cert", client_certificate_element(chain))]


def _identity(_: tuple[bytes, ...], identity: CertifiedIdentity | None) -> list[Header]:
    if identity is None:
        return []
    told = {
        "identity": identity.uri,
        "kind": str(identity.kind),
        "name": identity.name,
        "environment": identity.environment,
        "team": identity.team,
        "service": identity.service,
        "roles": ",".join(identity.roles),
        "version": identity.version,
        "email": identity.email,
    }
    return [(f"x-intaglio-{name}".encode(), _visible(value)) for name, value in told.items() if value]


_FORWARDED: dict[str, Callable[[tuple[bytes, ...], CertifiedIdentity | None], list[Header]]] = {
    "client-cert": _client_cert,
    "xfcc": _xfcc,
    "identity": _identity,
}


def _visible(value: str) -> bytes:
    """Visible ASCII; everything else percent-encoded, so that no value can end its header."""
    return quote(value, safe="!#$&'()*+,-./:;=?@[]_~|").encode("ascii")
