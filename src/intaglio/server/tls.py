"""TLS contexts of the secure listeners: policy, sources of certificates and trust, and reloading.

Sessions and revocation: listeners that ask for client certificates hand out no session tickets, and every change of
trust makes a new context, which forgets all sessions. A client that resumes a TLS 1.2 session of an unchanged context
is still the client that was verified; whether its certificate is revoked by now is checked by the application on every
request, never by the handshake alone.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from intaglio.core.errors import IntaglioError, InvalidInput, Unavailable
from intaglio.core.logging import get_logger
from intaglio.core.settings import Settings
from intaglio.server.listeners import ClientCertificates, ListenerKind
from intaglio.server.metrics import certificate_expiry
from intaglio.transport.contexts import ServerIdentity, server_context
from intaglio.transport.observing import ObservingContext
from intaglio.transport.tls_stream import SslEngine, TlsEngine

log = get_logger(__name__)

_POLL = 1.0  # seconds between looks at the files
_FILE_LIMIT = 1 << 20


#: The identity of a listener, or None while there is none.
IdentitySource = Callable[[str], Awaitable[ServerIdentity | None]]
#: Trusted client CA certificates (DER) of a listener.
TrustSource = Callable[[str], Awaitable[Sequence[bytes]]]
TlsContext = ssl.SSLContext | ObservingContext


def tls_engine(context: TlsContext) -> TlsEngine:
    """The engine of one connection."""
    return context.engine() if isinstance(context, ObservingContext) else SslEngine(context)


class TlsContexts:
    """The current context of every secure listener of this process.

    ``reload`` builds them anew and swaps those that could be built: a broken file leaves the old certificate in use.
    Connections that exist are not touched.
    """

    def __init__(
        self, settings: Settings, kinds: Iterable[ListenerKind], identities: IdentitySource, trust: TrustSource
    ) -> None:
        self._settings = settings
        self._kinds = [kind for kind in kinds if kind.secure]
        self._identities = identities
        self._trust = trust
        self._contexts: dict[str, TlsContext] = {}
        self._built_from: dict[str, object] = {}
        self._lock = asyncio.Lock()
        self._stamps: tuple[object, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether every secure listener can answer."""
        return all(kind.name in self._contexts for kind in self._kinds)

    def current(self, listener: str) -> TlsContext | None:
        """The context for the next connection; None while no certificate is known."""
        return self._contexts.get(listener)

    async def reload(self) -> None:
        """Read certificates and trust again. Never raises: what cannot be read is logged and stays as it was."""
        async with self._lock:
            for kind in self._kinds:
                try:
                    await self._reload(kind)
                except (IntaglioError, OSError, ValueError) as error:
                    log.error("the TLS certificate stays as it was", listener=kind.name, reason=str(error))

    async def follow_files(self) -> None:
        """Reload when a file changes, or while a certificate is missing. Runs until cancelled."""
        self._stamps = self._look()
        while True:
            await asyncio.sleep(_POLL)
            stamps = self._look()
            if stamps != self._stamps or not self.complete:
                self._stamps = stamps
                await self.reload()

    async def _reload(self, kind: ListenerKind) -> None:
        identity = identity_from_files(self._settings) or await self._identities(kind.name)
        if identity is None:
            return
        trusted: tuple[bytes, ...] | None = None
        if kind.client_certificates is not ClientCertificates.NONE:
            extra = certificates_from_file(self._settings.gateway_trust) if kind.name == "gateway" else ()
            trusted = (*await self._trust(kind.name), *extra)
        source = (identity, trusted)
        if self._built_from.get(kind.name) == source:
            return
        self._contexts[kind.name] = _context(kind, identity, trusted)
        changed = kind.name in self._built_from
        self._built_from[kind.name] = source
        expires = _expiry(identity)
        certificate_expiry.labels("listener", kind.name).set(expires.timestamp())
        if changed:
            log.info("TLS certificate or trust reloaded", listener=kind.name, not_after=expires.isoformat())

    def _look(self) -> tuple[object, ...]:
        files = (self._settings.tls_certificate, self._settings.tls_key, self._settings.gateway_trust)
        return tuple(_stamp(path) for path in files)


def identity_from_files(settings: Settings) -> ServerIdentity | None:
    """The identity named by ``tls_certificate`` and ``tls_key``; None when they are not set.

    Raises Unavailable when a file cannot be read, InvalidInput when only one of the two is set.
    """
    chain, key = settings.tls_certificate, settings.tls_key
    if chain is None and key is None:
        return None
    if chain is None or key is None:
        raise InvalidInput(
            "tls_certificate and tls_key belong together; one of them is not set.",
            code="tls-files-incomplete",
            remedy="Set INTAGLIO_TLS_CERTIFICATE and INTAGLIO_TLS_KEY, or neither.",
        )
    return ServerIdentity(_read(chain), _read(key))


def certificates_from_file(path: Path | None) -> tuple[bytes, ...]:
    """The certificates (DER) of a PEM file, of which there may be any number. Raises Unavailable, InvalidInput."""
    if path is None:
        return ()
    try:
        return tuple(c.public_bytes(Encoding.DER) for c in x509.load_pem_x509_certificates(_read(path)))
    except ValueError as error:
        raise InvalidInput(
            f"{path} holds no certificates: {error}.",
            code="trust-file-invalid",
            remedy="Give a PEM file of CA certificates.",
        ) from error


def _context(kind: ListenerKind, identity: ServerIdentity, trusted: tuple[bytes, ...] | None) -> TlsContext:
    if trusted is None:
        return server_context(identity)
    # The standard library keeps sessions of TLS 1.2, and one that is resumed is not verified again.
    return ObservingContext(identity, trusted=trusted, refuse=kind.client_certificates is ClientCertificates.OPTIONAL)


def _expiry(identity: ServerIdentity) -> datetime:
    return x509.load_pem_x509_certificates(identity.chain)[0].not_valid_after_utc


def _read(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(_FILE_LIMIT)
    except OSError as error:
        raise Unavailable(
            f"{path} cannot be read: {error.strerror}.",
            code="tls-file-unreadable",
            remedy="Check path and permissions.",
        ) from error


def _stamp(path: Path | None) -> object:
    if path is None:
        return None
    try:
        status = path.stat()
    except OSError:
        return None
    return (status.st_ino, status.st_mtime_ns, status.st_size)
