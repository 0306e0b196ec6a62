"""CRLs and CA certificates at the URLs that stand in certificates: ``/crl/...`` and ``/aia/...``.

A CRL in memory is asked about when one was issued anywhere, otherwise at most once a second, and only by its number;
when the database is silent the last one is served as long as it is valid, for it proves itself.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime, timedelta

from intaglio.asn1 import der
from intaglio.authority import crls
from intaglio.authority.context import Authority
from intaglio.authority.crls import CrlFacts
from intaglio.authority.directory import CaView
from intaglio.authority.urls import parse_crl_file
from intaglio.core import clock
from intaglio.core.clock import monotonic
from intaglio.core.errors import TimedOut, Unavailable
from intaglio.db.listen import Watch
from intaglio.validation.conditional import (
    NOT_FOUND,
    Document,
    Receive,
    Scope,
    Send,
    document,
    is_not_modified,
    plain,
    send_not_modified,
    with_lifetime,
)
from intaglio.x509.certificates import pem

#: CRLs kept in memory by one process, in octets; larger ones are read from the database each time.
CACHE_OCTETS = 64 * 1024 * 1024

_RECHECK_SECONDS = 1.0
_CERTIFICATE_SECONDS = 3600
_NOT_ALLOWED = plain("Use GET or HEAD.", (b"allow", b"GET, HEAD"))
_UNAVAILABLE = plain("Temporarily not available.", (b"retry-after", b"5"))

_CRL = b"application/pkix-crl"
_CERTIFICATE = b"application/pkix-cert"
_PEM = b"application/pem-certificate-chain"
_PKCS7 = b"application/pkcs7-mime"


class PublicationApp:
    """ASGI application for everything below ``/crl/`` and ``/aia/``."""

    def __init__(self, authority: Authority, watch: Watch) -> None:
        self._authority = authority
        self._watch = watch
        self._crls = _CrlCache(authority, watch)
        self._certificates: dict[str, Document] = {}
        self._epoch = -1

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        method = scope["method"]
        if method not in ("GET", "HEAD"):
            await _NOT_ALLOWED.send(send, 405)
            return
        try:
            found = await self._find(scope["path"])
        except (Unavailable, TimedOut):
            await _UNAVAILABLE.send(send, 503, head=method == "HEAD")
            return
        if found is None:
            await NOT_FOUND.send(send, 404, head=method == "HEAD")
        elif is_not_modified(scope["headers"], found):
            await send_not_modified(send, found)
        else:
            await found.send(send, head=method == "HEAD")

    async def _find(self, path: str) -> Document | None:
        parts = path.split("/")
        if len(parts) != 5:
            return None
        _, kind, organization, name, file = parts
        snapshot = await self._authority.snapshot()
        if snapshot.epoch < self._watch.epoch:
            snapshot = await self._authority.directory.reload(beyond=snapshot.epoch)
        ca = snapshot.by_name.get((organization, name))
        if ca is None:
            return None
        if kind == "crl":
            return await self._crls.find(ca, file)
        if self._epoch != snapshot.epoch:
            self._certificates.clear()
            self._epoch = snapshot.epoch
        if path not in self._certificates and (made := _certificate_document(ca, file)) is not None:
            self._certificates[path] = made
        return self._certificates.get(path)


# ---- CRLs ------------------------------------------------------------------------------------------------------------


@dataclass
class _Kept:
    facts: CrlFacts
    document: Document
    checked_at: float
    notices: int  # what the watch had heard of CRLs when this one was asked about


class _CrlCache:
    def __init__(self, authority: Authority, watch: Watch) -> None:
        self._authority = authority
        self._watch = watch
        self._kept: OrderedDict[tuple[object, ...], _Kept] = OrderedDict()
        self._octets = 0
        self._locks: dict[tuple[object, ...], asyncio.Lock] = {}

    async def find(self, ca: CaView, file: str) -> Document | None:
        """The newest CRL behind a file name. Raises Unavailable, TimedOut."""
        parsed = parse_crl_file(file)
        if parsed is None or parsed[0] not in ca.keys:
            return None
        scope = (ca.id, *parsed)
        if (document := self._fresh(ca, scope)) is not None:
            return document
        async with self._locks.setdefault(scope, asyncio.Lock()):
            if (document := self._fresh(ca, scope)) is not None:
                return document
            try:
                return await self._refresh(ca, scope, *parsed)
            except (Unavailable, TimedOut):
                kept = self._kept.get(scope)
                if kept is None or kept.facts.next_update <= clock.now():
                    raise
                kept.checked_at, kept.notices = monotonic(), self._watch.crl_notices
                return _aged(kept, ca)
            finally:
                if scope not in self._kept:
                    self._locks.pop(scope, None)

    def _fresh(self, ca: CaView, scope: tuple[object, ...]) -> Document | None:
        kept = self._kept.get(scope)
        if kept is None or kept.notices != self._watch.crl_notices:
            return None
        return _aged(kept, ca) if monotonic() - kept.checked_at < _RECHECK_SECONDS else None

    async def _refresh(
        self, ca: CaView, scope: tuple[object, ...], generation: int, partition: int, delta: bool
    ) -> Document | None:
        started, notices, kept = monotonic(), self._watch.crl_notices, self._kept.get(scope)
        async with self._authority.database.read() as view:
            facts = await crls.latest_facts(view, ca, generation, partition, delta)
            if kept is not None and facts == kept.facts:
                kept.checked_at, kept.notices = started, notices
                self._kept.move_to_end(scope)
                return _aged(kept, ca)
            self._forget(scope)
            found = await crls.latest_crl(view, ca, generation, partition, delta) if facts is not None else None
        if found is None:
            return None
        made = _crl_document(found.der, found.facts, _next_issue(ca, found.facts))
        self._keep(scope, _Kept(found.facts, made, started, notices))
        return made

    def _keep(self, scope: tuple[object, ...], kept: _Kept) -> None:
        size = len(kept.document.body)
        if size > CACHE_OCTETS // 2:
            return
        self._kept[scope] = kept
        self._octets += size
        while self._octets > CACHE_OCTETS:
            self._forget(next(iter(self._kept)))

    def _forget(self, scope: tuple[object, ...]) -> None:
        if (kept := self._kept.pop(scope, None)) is not None:
            self._octets -= len(kept.document.body)


def _next_issue(ca: CaView, facts: CrlFacts) -> datetime:
    interval = ca.options.delta_interval if facts.delta else ca.options.crl_interval
    if interval is None or ca.state == "deleted":
        return facts.next_update
    return min(facts.this_update + interval, facts.next_update)


def _aged(kept: _Kept, ca: CaView) -> Document:
    """A kept CRL with the time that is left of it now: to a cache max-age counts from when it gets the answer."""
    next_issue = _next_issue(ca, kept.facts)
    left = max(timedelta(0), next_issue - clock.now())
    return with_lifetime(kept.document, expires=next_issue, max_age=int(left.total_seconds()))


def _crl_document(body: bytes, facts: CrlFacts, next_issue: datetime) -> Document:
    """Caches may keep a CRL until the next one is expected, and never beyond nextUpdate."""
    left = max(timedelta(0), next_issue - clock.now())
    return document(
        body,
        _CRL,
        last_modified=facts.this_update,
        expires=next_issue,
        max_age=int(left.total_seconds()),
    )


# ---- CA certificates -------------------------------------------------------------------------------------------------


def _certificate_document(ca: CaView, file: str) -> Document | None:
    """``ca.cer`` and ``ca-gN.cer`` (DER, by key generation), ``ca.pem``, ``chain.pem`` and ``ca.p7c`` (current key)."""
    for generation, key in ca.keys.items():
        if key.certificate is not None and file == ca.urls.ca_certificate(generation).rsplit("/", 1)[1]:
            return _published(key.certificate.der, _CERTIFICATE, key.certificate.not_before)
    if not ca.chain or ca.generation not in ca.keys:
        return None
    since = ca.certificate.not_before
    if file == "ca.pem":
        return _published(pem(ca.chain[0]).encode(), _PEM, since)
    if file == "chain.pem":
        return _published("".join(map(pem, ca.chain)).encode(), _PEM, since)
    if file == "ca.p7c":
        return _published(_certs_only(ca.chain), _PKCS7, since)
    return None


def _published(body: bytes, content_type: bytes, last_modified: datetime) -> Document:
    return document(body, content_type, last_modified=last_modified, max_age=_CERTIFICATE_SECONDS)


def _certs_only(chain: tuple[bytes, ...]) -> bytes:
    """A SignedData without content and signers that carries certificates. Source: RFC 5652 section 5, RFC 5751 3.7."""
    signed = der.sequence(
        der.integer(1),
        der.set_of(),
        der.sequence(der.oid("1.2.840.113549.1.7.1")),
        der.tlv(0xA0, b"".join(sorted(chain))),
        der.set_of(),
    )
    return der.sequence(der.oid("1.2.840.113549.1.7.2"), der.explicit(0, signed))
