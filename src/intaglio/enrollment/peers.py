"""The certificates that a client came with: in TLS, or told by a reverse proxy that ends TLS for us.

In TLS the client has proven that it holds the key of the first one. A proxy has seen to that itself, which is why only
proxies that the operator trusts, and has told to hand certificates over, are believed. Source: RFC 9440.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any

from intaglio.core.errors import InvalidInput
from intaglio.enrollment.settings import EnrollmentSettings
from intaglio.enrollment.urls import is_trusted_proxy

_MOST = 10
_LONGEST = 64 * 1024
#: A Byte Sequence, or a List of them. Source: RFC 8941 section 3.3.5.
_ITEM = re.compile(r":([A-Za-z0-9+/]*={0,2}):")


def presented(live: EnrollmentSettings, scope: Mapping[str, Any]) -> tuple[bytes, ...]:
    """Certificates in DER, the client's own first; none when it came without. Nothing of them is verified but the
    possession of the first one's key. Raises InvalidInput (``client-certificate-unreadable``)."""
    if live.forwarded_certificates and is_trusted_proxy(live, scope):
        return _forwarded(scope)
    tls: Mapping[str, Any] = scope.get("extensions", {}).get("tls") or {}
    return tuple(tls.get("client_chain_der") or tls.get("observed_chain_der") or ())


def _forwarded(scope: Mapping[str, Any]) -> tuple[bytes, ...]:
    found: dict[bytes, list[str]] = {b"client-cert": [], b"client-cert-chain": []}
    for name, value in scope.get("headers", ()):
        if name in found:
            found[name].append(value.decode("latin-1"))
    leaf = _items(found[b"client-cert"])
    if len(leaf) > 1:
        raise _unreadable("there are several")
    return (*leaf, *_items(found[b"client-cert-chain"])) if leaf else ()


def _items(values: list[str]) -> list[bytes]:
    parts = [part.strip() for value in values for part in value.split(",")]
    if len(parts) > _MOST or sum(map(len, parts)) > _LONGEST:
        raise _unreadable("it is too long")
    items = []
    for part in parts:
        match = _ITEM.fullmatch(part)
        try:
            items.append(base64.b64decode(match[1] if match else "", validate=True))
        except binascii.Error:
            raise _unreadable("it is not base64") from None
        if not items[-1]:
            raise _unreadable("it is not base64 between colons")
    return items


def _unreadable(why: str) -> InvalidInput:
    return InvalidInput(
        f"The client certificate that the proxy handed over cannot be read: {why}.",
        code="client-certificate-unreadable",
        remedy="Have the proxy set Client-Cert and Client-Cert-Chain as RFC 9440 says, and drop those of its clients.",
    )
