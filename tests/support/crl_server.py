"""A web server for CRLs and lists of serial numbers on the loopback, and CRLs of foreign CAs to put on it."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from tests.support.foreign import ForeignCa

from intaglio.asn1 import der
from intaglio.core import clock


class FileServer:
    """Serves ``files`` by path, with entity tags. ``requests`` are the heads it got, and ``times`` when (monotonic
    seconds); ``silent`` lets all clients wait, ``silent_paths`` those of some files.

    ``answers`` replaces what is answered at a path by raw octets.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.answers: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.times: list[float] = []
        self.silent = False
        self.silent_paths: set[str] = set()
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> FileServer:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for writer in list(self._open):
            writer.close()
        await self._server.wait_closed()

    @property
    def port(self) -> int:
        assert self._server is not None
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}/{path}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.requests.append(head)
            self.times.append(clock.monotonic())
            if (body := re.search(r"(?i)content-length: (\d+)", head)) is not None:
                await reader.readexactly(int(body[1]))  # what is not read would reset the connection at its end
            if self.silent or head.split()[1].lstrip("/") in self.silent_paths:
                await reader.read()
                return
            writer.write(self._answer(head.split()[1].lstrip("/"), head))
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self._open.discard(writer)
            writer.close()

    def _answer(self, path: str, head: str) -> bytes:
        if path in self.answers:
            return self.answers[path]
        body = self.files.get(path)
        if body is None:
            return b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        tag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
        if f"if-none-match: {tag}" in head.lower():
            return f"HTTP/1.1 304 Not Modified\r\nETag: {tag}\r\nConnection: close\r\n\r\n".encode()
        headers = f"HTTP/1.1 200 OK\r\nETag: {tag}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        return headers.encode() + body


def crl(
    ca: ForeignCa,
    number: int | None = 1,
    revoked: Mapping[int, x509.ReasonFlags | None] | Iterable[tuple[int, x509.ReasonFlags]] = (),
    *,
    base: int | None = None,
    since: datetime | None = None,
    life: timedelta = timedelta(days=1),
    pem: bool = False,
    extensions: tuple[tuple[Any, bool], ...] = (),
    key: Any = None,
    about: Mapping[int, x509.Name] | None = None,
    ends: bool = True,
) -> bytes:
    """A CRL: ``revoked`` by serial number with the reason (or pairs of them, for one that is there twice); ``base``
    makes it a delta; ``key`` signs in place of the CA's own; ``about`` names the issuer of some certificates (indirect
    CRLs); ``ends`` False leaves nextUpdate out."""
    this_update = since or clock.now().replace(microsecond=0) - timedelta(minutes=1)
    builder = x509.CertificateRevocationListBuilder().issuer_name(ca.subject)
    builder = builder.last_update(this_update).next_update(this_update + life)
    if number is not None:
        builder = builder.add_extension(x509.CRLNumber(number), False)
    if base is not None:
        builder = builder.add_extension(x509.DeltaCRLIndicator(base), True)
    builder = builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.key.public_key()), False)
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    for serial, reason in revoked.items() if isinstance(revoked, Mapping) else revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(serial)
        entry = entry.revocation_date(revoked_at(ca))
        if serial in (about or {}):
            named = x509.CertificateIssuer([x509.DirectoryName(about[serial])])  # type: ignore[index]
            entry = entry.add_extension(named, True)
        if reason is not None:
            entry = entry.add_extension(x509.CRLReason(reason), False)
        builder = builder.add_revoked_certificate(entry.build())
    made = builder.sign(key or ca.key, hashes.SHA256())
    if ends:
        return made.public_bytes(Encoding.PEM if pem else Encoding.DER)
    return _endless(made, key or ca.key)


def _endless(made: x509.CertificateRevocationList, key: Any) -> bytes:
    """The same CRL without nextUpdate, signed again."""
    members = der.children(der.read_tlv(made.tbs_certlist_bytes, der.SEQUENCE).content)
    times = [place for place, each in enumerate(members) if each.tag in (der.UTC_TIME, der.GENERALIZED_TIME)]
    tbs = der.sequence(*(each.der for place, each in enumerate(members) if place != times[1]))
    identifier = der.children(der.read_tlv(made.public_bytes(Encoding.DER), der.SEQUENCE).content)[1].der
    return der.sequence(tbs, identifier, der.bit_string(key.sign(tbs, ec.ECDSA(hashes.SHA256()))))


def revoked_at(ca: ForeignCa) -> datetime:
    """When everything on the CRLs of a CA was revoked: the same moment on each of them."""
    return ca.since + timedelta(days=30)


def scope(
    url: str | None = None,
    *,
    user: bool = False,
    ca: bool = False,
    indirect: bool = False,
    reasons: Iterable[x509.ReasonFlags] = (),
) -> tuple[Any, bool]:
    """An issuing distribution point for the ``extensions`` of :func:`crl`."""
    names = [x509.UniformResourceIdentifier(url)] if url else None
    some = frozenset(reasons) or None
    return x509.IssuingDistributionPoint(names, None, user, ca, some, indirect, False), True
