"""TLS that observes client certificates: one that cannot be verified is seen, not only refused.

The standard library ends the handshake when a client certificate is untrusted or expired, and tells the program nothing
but a message. An access decision needs more: who tried, with which certificate, and why it does not count. Here
OpenSSL's verification runs unchanged, every error it finds is recorded, and the context decides whether the handshake
goes on (``refuse=False``, so that the application can answer with a reason) or ends with the fitting alert.

What is observed is a claim about a certificate, never more: only :attr:`PeerCertificate.verified` means trust. In both
cases TLS proves that the client holds the private key (CertificateVerify, RFC 8446 section 4.4.3).
"""

from __future__ import annotations

import ssl
import weakref
from collections.abc import Callable, Sequence

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL, crypto

from intaglio.core.errors import InvalidInput
from intaglio.transport.contexts import CIPHERS, ServerIdentity, server_context
from intaglio.transport.tls_stream import PeerCertificate
from intaglio.transport.verify_errors import SEVERE, error_name

CHAIN_LIMIT = 10  # certificates a client may present; OpenSSL limits their octets to 100 KiB
_VERIFY_DEPTH = 8
_DRAIN = 1 << 16
_SESSION_ID = b"intaglio"


class ObservingContext:
    """TLS settings like those of ``server_context``, with a verification that is observed.

    Arguments: ``trusted`` are trust anchors (DER), also when they are not self-signed; ``refuse`` ends the handshake
    of a client whose certificate cannot be verified; ``require`` ends it when there is none; ``alpn`` are the protocols
    in order of preference. An anchor need not be a root: who trusts an issuing CA does not trust everything its root
    ever certified. Without anchors every client certificate is wrong.

    Raises InvalidInput when chain and key do not fit together or are too weak.
    """

    def __init__(
        self,
        identity: ServerIdentity,
        *,
        trusted: Sequence[bytes],
        refuse: bool = False,
        require: bool = False,
        alpn: Sequence[str] = ("http/1.1",),
    ) -> None:
        server_context(identity)  # the same checks and messages as everywhere else
        self.refuse = refuse
        self._context = SSL.Context(SSL.TLS_SERVER_METHOD)
        self._harden()
        self._use(identity)
        self._trust(trusted)
        mode = SSL.VERIFY_PEER | (SSL.VERIFY_FAIL_IF_NO_PEER_CERT if require else 0)
        self._context.set_verify(mode, self._verified)
        self._context.set_verify_depth(_VERIFY_DEPTH)
        preferred = [name.encode() for name in alpn]
        self._context.set_alpn_select_callback(
            lambda _, offered: next((one for one in preferred if one in offered), SSL.NO_OVERLAPPING_PROTOCOLS)
        )

    def engine(self) -> ObservingEngine:
        """The engine of one connection."""
        return ObservingEngine(self, self._context)

    def staple_from(self, answer: Callable[[], bytes]) -> None:
        """Send the OCSP response that ``answer`` returns (DER) to clients that ask; none when it is empty."""
        self._context.set_ocsp_server_callback(lambda *_: answer())

    def _harden(self) -> None:
        context = self._context
        context.set_min_proto_version(SSL.TLS1_2_VERSION)
        context.set_cipher_list(CIPHERS.encode())
        # No tickets and no cache: every connection is a full handshake, which verifies its certificate again.
        context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION | SSL.OP_NO_TICKET)
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        context.set_session_id(_SESSION_ID)

    def _use(self, identity: ServerIdentity) -> None:
        try:
            leaf, *others = x509.load_pem_x509_certificates(identity.chain)
            key = load_pem_private_key(identity.key, None)
            self._context.use_certificate(leaf)
            for each in others:
                self._context.add_extra_chain_cert(each)
            self._context.use_privatekey(key)  # type: ignore[arg-type]
            self._context.check_privatekey()
        except (SSL.Error, TypeError, ValueError) as error:
            raise InvalidInput(
                f"The TLS certificate cannot be used: {error}.",
                code="tls-certificate-invalid",
                remedy="Give the chain with the leaf first, and the unencrypted private key of the leaf.",
            ) from error

    def _trust(self, trusted: Sequence[bytes]) -> None:
        store = self._context.get_cert_store()
        assert store is not None
        store.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN)
        for der in dict.fromkeys(trusted):
            certificate = x509.load_der_x509_certificate(der)
            store.add_cert(crypto.X509.from_cryptography(certificate))
            self._context.add_client_ca(certificate)  # browsers choose by these names (RFC 8446 section 4.2.4)

    def _verified(self, connection: SSL.Connection, shown: crypto.X509, error: int, depth: int, ok: int) -> bool:
        engine = connection.get_app_data()()
        assert isinstance(engine, ObservingEngine)
        engine.note(shown, 0 if ok else error)
        return bool(ok) or not self.refuse


class ObservingEngine:
    """One connection of an :class:`ObservingContext`; a :class:`intaglio.transport.tls_stream.TlsEngine`."""

    def __init__(self, context: ObservingContext, settings: SSL.Context) -> None:
        self.context = context
        self._connection = SSL.Connection(settings, None)
        self._connection.set_app_data(weakref.ref(self))
        self._connection.set_accept_state()
        self._looked_at = False
        self._wrong: crypto.X509 | None = None
        self._failure = ""
        self._errors: list[int] = []
        self._peer: PeerCertificate | None = None

    def note(self, shown: crypto.X509, error: int) -> None:
        """OpenSSL looked at a certificate of the chain and found ``error``, 0 for none."""
        self._looked_at = True
        if error and error not in self._errors:
            self._errors.append(error)
            self._wrong = shown

    def refused(self) -> PeerCertificate | None:
        """What ended the handshake: the certificate that is wrong, often the client's, and the error; None if nothing.

        OpenSSL forgets what a client presented when it refuses it, so the rest of the chain is not known.
        """
        if not self.context.refuse or not self._errors or self._wrong is None:
            return None
        return PeerCertificate((_der(self._wrong),), self.first_error, (self.first_error or "",))

    @property
    def lacks_certificate(self) -> bool:
        """Whether the handshake ended because there was no certificate."""
        return self._failure == _NO_CERTIFICATE

    def feed(self, data: bytes, /) -> object:
        return self._connection.bio_write(data) if data else 0

    def drain(self) -> bytes:
        parts = []
        while True:
            try:
                parts.append(self._connection.bio_read(_DRAIN))
            except SSL.WantReadError:
                return b"".join(parts)

    def do_handshake(self) -> None:
        try:
            self._connection.do_handshake()
        except SSL.Error as error:
            if self._errors and self.context.refuse and not isinstance(error, SSL.WantReadError):
                refused = ssl.SSLCertVerificationError(ssl.SSL_ERROR_SSL, "certificate verify failed")
                refused.verify_message = self.first_error or ""
                raise refused from error
            translated = _translated(error)
            self._failure = str(translated.strerror or "")
            raise translated from error
        self._peer = self._presented()

    def read(self, size: int, /) -> bytes:
        try:
            return self._connection.recv(size)
        except SSL.Error as error:
            raise _translated(error) from error

    def write(self, data: memoryview, /) -> int:
        try:
            return self._connection.send(data)
        except SSL.Error as error:
            raise _translated(error) from error

    def unwrap(self) -> object:
        try:
            return self._connection.shutdown()
        except SSL.Error as error:
            raise _translated(error) from error

    def version(self) -> str | None:
        return self._connection.get_protocol_version_name()

    def cipher_name(self) -> str | None:
        return self._connection.get_cipher_name()

    def selected_alpn_protocol(self) -> str | None:
        return self._connection.get_alpn_proto_negotiated().decode("ascii", "replace") or None

    def channel_bindings(self) -> tuple[bytes, ...]:
        """Values that name this connection and no other: ``tls-exporter`` (RFC 9266), and before TLS 1.3 ``tls-unique``
        (RFC 5929 section 3), which is the client's Finished, as no session is resumed."""
        found = [self._connection.export_keying_material(b"EXPORTER-Channel-Binding", 32, b"")]
        if self.version() != "TLSv1.3" and (finished := self._connection.get_peer_finished()):
            found.append(finished)
        return tuple(found)

    def server_name(self) -> str | None:
        """What the client called this host (SNI)."""
        name = self._connection.get_servername()
        return name.decode("ascii", "replace") if name else None

    @property
    def first_error(self) -> str | None:
        """The name of what matters most about the certificate: that it proves nothing, else what was found first."""
        if not self._errors:
            return None
        return error_name(next((error for error in self._errors if error in SEVERE), self._errors[0]))

    def peer(self) -> PeerCertificate:
        if self._peer is None:
            self._peer = self._presented()
        return self._peer

    def _presented(self) -> PeerCertificate:
        leaf = self._connection.get_peer_certificate()
        if leaf is None:
            return PeerCertificate()
        others = self._connection.get_peer_cert_chain() or []  # on a server without the leaf
        if len(others) >= CHAIN_LIMIT:
            self._errors.append(_CHAIN_TOO_LONG)
        elif not self._looked_at:  # cannot be, as sessions are not resumed
            self._errors.append(_UNSPECIFIED)
        names = tuple(error_name(error) for error in self._errors)
        if not names:
            verified = self._connection.get_verified_chain() or []
            return PeerCertificate(tuple(_der(each) for each in verified) or (_der(leaf),))
        presented = (leaf, *others[: CHAIN_LIMIT - 1])
        return PeerCertificate(tuple(_der(each) for each in presented), self.first_error, names)


_NO_CERTIFICATE = "peer did not return a certificate"
_UNSPECIFIED = 1
_CHAIN_TOO_LONG = 22


def _der(certificate: crypto.X509) -> bytes:
    return crypto.dump_certificate(crypto.FILETYPE_ASN1, certificate)


def _translated(error: SSL.Error) -> ssl.SSLError:
    """The exception of ``ssl`` that says the same."""
    if isinstance(error, SSL.WantReadError):
        return ssl.SSLWantReadError()
    if isinstance(error, SSL.WantWriteError):
        return ssl.SSLWantWriteError()
    if isinstance(error, SSL.ZeroReturnError):
        return ssl.SSLZeroReturnError()
    if isinstance(error, SSL.SysCallError):
        return ssl.SSLEOFError(ssl.SSL_ERROR_EOF, "the connection ended without notification")
    reasons = error.args[0] if error.args and isinstance(error.args[0], list) else []
    return ssl.SSLError(ssl.SSL_ERROR_SSL, "; ".join(str(reason[-1]) for reason in reasons) or "TLS failed")
