"""Decisions from files: trust anchors, CRLs, networks and names."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from functools import lru_cache
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from intaglio.core.errors import IntaglioError, InvalidInput, Unavailable
from intaglio.core.logging import get_logger
from intaglio.mtls.proxy.config import ByFiles, GatewayConfig, networks_of
from intaglio.mtls.proxy.decisions import Asked, Caller, Mode, OnChange, Settings, Verdict, reason_of
from intaglio.mtls.proxy.sources.revocation_lists import RevocationLists, chain_status, loaded, read_lists
from intaglio.transport.contexts import ServerIdentity

access_log = get_logger("intaglio.access")
log = get_logger(__name__)

_POLL = 1.0  # seconds between looks at the files
_FILE_LIMIT = 1 << 22


class FileSource:
    """A :class:`intaglio.mtls.proxy.decisions.Source` for a gateway on its own."""

    def __init__(self, config: GatewayConfig, decisions: ByFiles) -> None:
        self._config, self._decisions = config, decisions
        self._networks = networks_of(decisions)
        self._settings: Settings | None = None
        self._lists: RevocationLists | None = None
        self._stamps: tuple[object, ...] = ()
        self._task: asyncio.Task[None] | None = None

    async def start(self, on_change: OnChange) -> None:
        self._stamps = self._look()
        self._read()
        self._task = asyncio.create_task(self._follow(on_change), name="gateway-files")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def settings(self) -> Settings:
        if self._settings is None:
            self._read()
        assert self._settings is not None
        return self._settings

    async def decide(self, caller: Caller, asked: Asked, *, again: bool = False) -> Verdict:
        mode = self._decisions.mode
        reason, detail = self._judge(caller)
        if mode is Mode.OFF and reason != "ip_denied":
            return Verdict(True, True)  # the outer barrier stands in every mode
        identity = _names(caller.peer.chain[0]) if caller.peer.verified else ()
        if not reason:
            return Verdict(True, True, identity=identity[0] if identity else "", chain=caller.peer.chain)
        named = identity[0] if identity and reason in ("policy_denied", "ip_denied") else ""
        passes = mode is not Mode.ENFORCE and reason != "ip_denied"
        return Verdict(False, passes, reason, detail, identity=named)

    def record(self, caller: Caller, asked: Asked, verdict: Verdict, *, status: int | None) -> None:
        write_access_line(caller, asked, verdict, status)

    def _judge(self, caller: Caller) -> tuple[str, str]:
        """Reason code and sentence of the first thing that is wrong; both empty when nothing is."""
        if not any(ip_address(caller.source) in network for network in self._networks):
            return "ip_denied", f"The address {caller.source} may not connect."
        peer = caller.peer
        if not peer.chain:
            return "no_certificate", "A client certificate is required."
        if not peer.verified:
            reason = reason_of(peer.error)
            return reason, f"The client certificate is refused: {peer.error}."
        if len(peer.chain) == 1:
            return "self_signed", "The client certificate has no issuer."
        if self._lists is None:
            return "status_unavailable", "Whether the certificate is revoked cannot be said at the moment."
        if (status := chain_status(self._lists, peer.chain)) is not None:
            words = "is revoked" if status == "revoked" else "has no known status at the moment"
            return status, f"The client certificate {words}."
        if not any(_matches(name, self._decisions.identities) for name in _names(peer.chain[0])):
            return "policy_denied", "This identity may not pass here."
        return "", ""

    def _read(self) -> None:
        """Read everything again. Raises IntaglioError; what was read before then stays, but no CRL does."""
        self._lists = None
        config = self._config
        identity = identity_from(config)
        assert identity is not None  # the configuration was checked
        trusted = _certificates(self._decisions.trust)
        self._settings = Settings(
            identity, trusted, self._decisions.mode, self._decisions.refuse_in_handshake
        )
        self._lists = read_lists(self._decisions.crls)

    async def _follow(self, on_change: OnChange) -> None:
        while True:
            await asyncio.sleep(_POLL)
            stamps = self._look()
            if stamps == self._stamps and self._lists is not None:
                continue
            self._stamps = stamps
            try:
                self._read()
            except IntaglioError as error:
                log.error("the files of the gateway cannot be used", reason=str(error))
            await on_change()

    def _look(self) -> tuple[object, ...]:
        files = (self._config.certificate, self._config.key, self._decisions.trust, *self._decisions.crls)
        return tuple(_stamp(path) for path in files if path is not None)


def identity_from(config: GatewayConfig) -> ServerIdentity | None:
    """The gateway's own certificate and key, None when none are named. Raises Unavailable."""
    if config.certificate is None or config.key is None:
        return None
    return ServerIdentity(_file(config.certificate), _file(config.key))


def write_access_line(caller: Caller, asked: Asked, verdict: Verdict, status: int | None) -> None:
    """One line of the access log: who asked for what, and what came of it."""
    leaf = caller.peer.chain[0] if caller.peer.chain else None
    members: dict[str, object] = {"peer": caller.source, "decision": "allow" if verdict.passes else "deny"}
    if verdict.reason:
        members["reason"] = verdict.reason
    if verdict.identity:
        members["identity"] = verdict.identity
    if leaf is not None:
        with contextlib.suppress(ValueError):
            members["serial"] = f"{loaded(leaf).serial_number:X}"
    if asked.method:
        members.update(method=asked.method, path=asked.path, host=asked.host)
    members.update(tls=caller.tls_version, cipher=caller.cipher)
    if status is not None:
        members["status"] = status
    access_log.info("request" if asked.method else "handshake", **members)


@lru_cache(maxsize=4096)
def _names(leaf: bytes) -> tuple[str, ...]:
    """The URI, e-mail and DNS names of a certificate."""
    try:
        found = loaded(leaf).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (x509.ExtensionNotFound, ValueError):
        return ()
    kinds = (x509.UniformResourceIdentifier, x509.RFC822Name, x509.DNSName)
    return tuple(str(name) for kind in kinds for name in found.value.get_values_for_type(kind))


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(
        name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern for pattern in patterns
    )


def _certificates(path: Path) -> tuple[bytes, ...]:
    try:
        return tuple(each.public_bytes(Encoding.DER) for each in x509.load_pem_x509_certificates(_file(path)))
    except ValueError as error:
        raise InvalidInput(f"{path} holds no certificates: {error}.", code="trust-file-invalid") from None


def _file(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(_FILE_LIMIT)
    except OSError as error:
        raise Unavailable(f"{path} cannot be read: {error.strerror}.", code="tls-file-unreadable") from None


def _stamp(path: Path) -> object:
    try:
        status = path.stat()
    except OSError:
        return None
    return (status.st_ino, status.st_mtime_ns, status.st_size)
