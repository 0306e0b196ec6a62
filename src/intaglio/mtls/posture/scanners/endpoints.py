"""Looks at what an endpoint shows in a TLS handshake: certificate, chain, version, and whether it asks who is calling.

The handshake is only watched: every error OpenSSL finds is recorded and none is silenced, nothing is sent or received
afterwards, and no client certificate is presented.
"""

from __future__ import annotations

import select
import socket
import ssl
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from OpenSSL import SSL, crypto

from intaglio.core import clock
from intaglio.core.errors import InvalidInput
from intaglio.mtls.posture.scanners.findings import Finding, Report, Rule, Severity
from intaglio.mtls.toolkit import sharing, strength, verification
from intaglio.x509.certificates import CertificateInfo, read_certificate

UNREACHABLE = Rule("endpoint-unreachable", "No TLS handshake was possible", "Check address, port and firewall.")
SELF_SIGNED = Rule("endpoint-self-signed", "The certificate is self-signed", "Use one of the CA of the environment.")
UNTRUSTED = Rule("endpoint-untrusted", "No trusted CA vouches for it", "Send the whole chain; trust the CA.")
WRONG_NAME = Rule("endpoint-wrong-name", "The certificate is for another name", "Issue one with this name.")
EXPIRED = Rule("endpoint-expired", "The certificate is not valid now", "Renew it, and automate renewal.")
EXPIRES_SOON = Rule("endpoint-expires-soon", "The certificate expires soon", "Renew it now.", Severity.WARNING)
WEAK = Rule("endpoint-weak", "Key or signature of the certificate is weak", "Issue one with P-256 or RSA 3072.")
NO_CLIENT_CERTIFICATE = Rule(
    "endpoint-no-client-certificate", "Nobody is asked who is calling", "Require and verify client certificates."
)
OLD_TLS = Rule("endpoint-old-tls", "An old version of TLS is spoken", "Allow TLS 1.2 and 1.3 only.")

RULES = (
    UNREACHABLE, SELF_SIGNED, UNTRUSTED, WRONG_NAME, EXPIRED, EXPIRES_SOON, WEAK, NO_CLIENT_CERTIFICATE, OLD_TLS,
)  # fmt: skip

NOTICE = timedelta(hours=72)
MOST_ENDPOINTS = 10_000
_AT_A_TIME = 16
_LONGEST_CHAIN = 20
_GOOD_VERSIONS = ("TLSv1.2", "TLSv1.3")
_ALERT_PATIENCE = 1.0  # seconds; TLS 1.3 refuses a missing certificate only after the client is done


@dataclass(frozen=True)
class Endpoint:
    """Where to connect, and the name to ask for (default: the host)."""

    host: str
    port: int
    name: str

    @property
    def place(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @classmethod
    def parse(cls, text: str, *, name: str | None = None, default_port: int = 443) -> Endpoint:
        """``host``, ``host:port``, ``[v6]:port`` or an https URL. Raises InvalidInput (``endpoint-invalid``)."""
        bare = text.strip().removeprefix("https://").split("/", 1)[0]
        host, _, port = bare.rpartition(":") if ":" in bare.rpartition("]")[2] else (bare, "", str(default_port))
        if bare.count(":") > 1 and "[" not in bare:
            host, port = bare, str(default_port)
        host = host.strip("[]")
        if not host or not port.isdecimal() or not 0 < int(port) < 65_536:
            raise InvalidInput(f'"{text[:100]}" is not HOST:PORT.', code="endpoint-invalid", remedy="Write host:443.")
        return cls(host, int(port), name or host)


@dataclass(frozen=True)
class Observed:
    """What an endpoint showed. ``client_certificate`` is required, requested, not-requested or unknown."""

    endpoint: Endpoint
    failure: str | None
    version: str | None = None
    cipher: str | None = None
    chain: tuple[CertificateInfo, ...] = field(default=(), repr=False)
    client_certificate: str = "unknown"

    def as_json(self) -> dict[str, object]:
        """For machines; the certificate without its bytes."""
        leaf = self.chain[0] if self.chain else None
        return {
            "endpoint": self.endpoint.place,
            "name": self.endpoint.name,
            "failure": self.failure,
            "tls_version": self.version,
            "cipher": self.cipher,
            "client_certificate": self.client_certificate,
            "subject": leaf.subject.rfc4514 if leaf else None,
            "issuer": leaf.issuer.rfc4514 if leaf else None,
            "not_after": leaf.not_after.isoformat() if leaf else None,
            "sha256": sharing.colons(leaf.fingerprint) if leaf else None,
        }


def scan_endpoints(
    endpoints: Sequence[Endpoint],
    *,
    trusted: Sequence[CertificateInfo] = (),
    expect_client_certificate: bool = True,
    timeout: float = 10.0,
    notice: timedelta = NOTICE,
) -> tuple[Report, list[Observed]]:
    """Findings and facts of every endpoint, in their order.

    ``trusted`` are the CAs the certificates must chain to (default: those the system trusts); ``timeout`` is in seconds
    for each endpoint; ``notice`` is how long before its end a certificate counts as expiring. Raises InvalidInput.
    """
    if len(endpoints) > MOST_ENDPOINTS:
        raise InvalidInput(f"More than {MOST_ENDPOINTS} endpoints were given.", code="too-many-endpoints")
    with ThreadPoolExecutor(_AT_A_TIME, thread_name_prefix="endpoint-scan") as threads:
        seen = list(threads.map(lambda each: observe(each, timeout=timeout), endpoints))
    anchors = list(trusted) or _system_anchors({each.issuer.key for one in seen for each in one.chain})
    now = clock.now()
    report = Report(files=len(seen))
    for each in seen:
        report.findings += judge(each, anchors, now, expect_client_certificate, notice)
    return report, seen


def judge(
    seen: Observed,
    trusted: Sequence[CertificateInfo],
    now: datetime,
    expect_client_certificate: bool,
    notice: timedelta = NOTICE,
) -> list[Finding]:
    """Findings about what one endpoint showed."""
    place = seen.endpoint.place
    if not seen.chain:
        return [Finding(UNREACHABLE, place, seen.failure or "it shows no certificate")]
    leaf, *others = seen.chain
    found = [*_dates(place, leaf, now, notice), *_trust(seen, leaf, others, trusted, now)]
    weakness = strength.signature(leaf.signature_oid)[1]
    if weakness or leaf.key_algorithm is None:
        found.append(Finding(WEAK, place, weakness or "its key is too short or of an unknown algorithm"))
    if seen.version is not None and seen.version not in _GOOD_VERSIONS:
        found.append(Finding(OLD_TLS, place, seen.version))
    if expect_client_certificate and seen.client_certificate == "not-requested":
        found.append(Finding(NO_CLIENT_CERTIFICATE, place, "no client certificate is requested"))
    return found


def _dates(place: str, leaf: CertificateInfo, now: datetime, notice: timedelta) -> list[Finding]:
    if not leaf.not_before <= now <= leaf.not_after:
        text = f"valid from {leaf.not_before:%Y-%m-%d %H:%M} to {leaf.not_after:%Y-%m-%d %H:%M} UTC"
        return [Finding(EXPIRED, place, text)]
    if leaf.not_after - now < notice:
        return [Finding(EXPIRES_SOON, place, f"on {leaf.not_after:%Y-%m-%d %H:%M} UTC")]
    return []


def _trust(
    seen: Observed,
    leaf: CertificateInfo,
    others: Sequence[CertificateInfo],
    trusted: Sequence[CertificateInfo],
    now: datetime,
) -> list[Finding]:
    place = seen.endpoint.place
    if leaf.is_self_issued and leaf.verify_signed_by(leaf.spki):
        return [Finding(SELF_SIGNED, place, f'"{leaf.subject}"')]
    asked = verification.Question(at=now, purpose="server", host=seen.endpoint.name)
    verdict = verification.verify(leaf, others, trusted, asked)
    found = []
    for step in verdict.steps:
        if step.holds is False and step.name not in ("validity", "strength"):
            rule = WRONG_NAME if step.name == "host" else UNTRUSTED
            found.append(Finding(rule, place, step.why.rstrip(".")))
    return found


# ---- the handshake ---------------------------------------------------------------------------------------------------


def observe(endpoint: Endpoint, *, timeout: float) -> Observed:
    """Start a handshake with an endpoint and note what it shows. Never raises for what the other side does."""
    watcher = _Watcher(endpoint)
    try:
        with socket.create_connection((endpoint.host, endpoint.port), timeout=timeout) as connection:
            return watcher.watch(connection, timeout)
    except OSError as error:
        return Observed(endpoint, error.strerror or "the connection failed")
    except ValueError:
        return Observed(endpoint, "the host is no host name")


class _Watcher:
    """One handshake that is watched."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._requested = False
        self._context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        self._context.set_info_callback(self._note_state)
        # Every certificate is judged by `judge` afterwards; here the handshake is only to go far enough to be seen.
        self._context.set_verify(SSL.VERIFY_PEER, lambda *_: True)

    def watch(self, connection: socket.socket, timeout: float) -> Observed:
        deadline = clock.monotonic() + timeout
        tls = SSL.Connection(self._context, connection)
        if not _is_address(self._endpoint.name):
            tls.set_tlsext_host_name(_server_name(self._endpoint.name))
        tls.set_connect_state()
        connection.setblocking(False)
        failure = self._drive(tls, connection, deadline)
        chain = _chain(tls)
        certificate = "not-requested" if chain and failure is None else "unknown"
        if self._requested:
            refused = failure or self._alert(tls, connection)
            certificate = "required" if refused else "requested"
        return Observed(
            self._endpoint,
            failure,
            tls.get_protocol_version_name() if chain else None,
            tls.get_cipher_name() if chain else None,
            chain,
            certificate,
        )

    def _note_state(self, tls: SSL.Connection, where: int, result: int) -> None:
        self._requested = self._requested or b"certificate request" in tls.get_state_string()

    def _drive(self, tls: SSL.Connection, connection: socket.socket, deadline: float) -> str | None:
        while True:
            try:
                tls.do_handshake()
                return None
            except SSL.WantReadError:
                ready = select.select([connection], [], [], max(deadline - clock.monotonic(), 0))
                if not ready[0]:
                    return "the handshake took too long"
            except SSL.WantWriteError:
                select.select([], [connection], [], max(deadline - clock.monotonic(), 0))
            except SSL.Error as error:
                return _words(error)

    def _alert(self, tls: SSL.Connection, connection: socket.socket) -> str | None:
        """What the server answers to a client that presented nothing; None when it goes on."""
        deadline = clock.monotonic() + _ALERT_PATIENCE
        while select.select([connection], [], [], max(deadline - clock.monotonic(), 0))[0]:
            try:
                tls.recv(1)
                return None
            except SSL.WantReadError:
                continue
            except SSL.Error as error:
                return _words(error)
        return None


def _chain(tls: SSL.Connection) -> tuple[CertificateInfo, ...]:
    try:
        shown = tls.get_peer_cert_chain() or []
    except SSL.Error:
        return ()
    found = []
    for each in shown[:_LONGEST_CHAIN]:
        try:
            found.append(read_certificate(crypto.dump_certificate(crypto.FILETYPE_ASN1, each)))
        except InvalidInput:
            break
    return tuple(found)


def _words(error: SSL.Error) -> str:
    if isinstance(error, SSL.ZeroReturnError | SSL.SysCallError) or not error.args or not error.args[0]:
        return "the connection was closed"
    return str(error.args[0][-1][-1]).replace("tlsv1 ", "").replace("ssl/tls ", "")


def _server_name(name: str) -> bytes:
    try:
        return name.encode("idna")
    except UnicodeError:  # what is no host name is asked for as it is
        return name.encode("utf-8", "replace")


def _is_address(name: str) -> bool:
    try:
        socket.inet_pton(socket.AF_INET6 if ":" in name else socket.AF_INET, name)
    except OSError:
        return False
    return True


def _system_anchors(issuers: set[bytes]) -> list[CertificateInfo]:
    """Those of the system's trusted certificates that issued something that was shown, or its issuer."""
    found = []
    for der in ssl.create_default_context().get_ca_certs(binary_form=True):
        try:
            info = read_certificate(der)
        except InvalidInput:
            continue
        if info.subject.key in issuers:
            found.append(info)
    return found[: verification.MAX_CERTIFICATES // 2]
