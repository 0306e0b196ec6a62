"""The listeners: what each carries, and binding their sockets."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import socket
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from intaglio.core.clock import monotonic
from intaglio.core.errors import IntaglioError, StateConflict, Unavailable
from intaglio.core.settings import Listener, Settings
from intaglio.server.runtime import Address, Bound
from intaglio.server.unix_socket import bind_admin_socket

_BACKLOG = 1024
_PROBE_AFTER = 180  # seconds without a word, after which the kernel asks whether the peer is still there
_UNANSWERED = 60_000  # milliseconds: a peer that acknowledges nothing for so long is gone (TCP_USER_TIMEOUT)
_BIND_PATIENCE = 3.0  # seconds an address may still be held by the processes of a server that was just killed
_ANY = {"", "0.0.0.0", "::", "*"}  # noqa: S104 - these spellings mean every address


class ClientCertificates(StrEnum):
    """Whether the TLS handshake asks for a client certificate.

    ``OPTIONAL`` asks, and verifies what is presented against the listener's trust store: an untrusted or expired one
    ends the handshake with a TLS alert. Who presents none reaches the application, which answers 401 in its own wire
    format with a remedy; the gateway refuses every such request.

    ``OBSERVED`` asks and verifies in the same way, but an untrusted or expired one is only noted: its client reaches
    the application as nobody, with what was presented and why it does not count, and is answered with a reason.
    """

    NONE = "none"
    OPTIONAL = "optional"
    OBSERVED = "observed"


@dataclass(frozen=True)
class ListenerKind:
    """Properties of a listener that no setting changes."""

    name: str
    secure: bool = False
    client_certificates: ClientCertificates = ClientCertificates.NONE


KINDS = {
    kind.name: kind
    for kind in (
        ListenerKind("public"),
        ListenerKind("public_tls", secure=True),
        ListenerKind("console", secure=True),
        ListenerKind("enroll", secure=True, client_certificates=ClientCertificates.OBSERVED),
        ListenerKind("gateway", secure=True, client_certificates=ClientCertificates.OPTIONAL),
        ListenerKind("access"),
        ListenerKind("health"),
        ListenerKind("admin"),
    )
}


@dataclass(frozen=True)
class Sockets:
    """The bound, listening sockets of one listener."""

    kind: ListenerKind
    sockets: tuple[socket.socket, ...]

    @property
    def bound(self) -> Bound:
        names = (s.getsockname() for s in self.sockets)
        return Bound("https" if self.kind.secure else "http", tuple(Address(str(n[0]), int(n[1])) for n in names))

    def close(self) -> None:
        for opened in self.sockets:
            opened.close()


def with_bound_ports(settings: Settings, bound: Mapping[str, Sockets]) -> Settings:
    """The settings with the port that each TCP listener was really given."""
    ports = {name: each.bound.addresses[0].port for name, each in bound.items() if name != "admin"}
    changed = {name: getattr(settings, name).model_copy(update={"port": port}) for name, port in ports.items()}
    return settings.model_copy(update=changed)


def bind(settings: Settings, names: Iterable[str]) -> dict[str, Sockets]:
    """Bind the named listeners that the settings enable.

    Raises Unavailable with the listener and address when an address is taken or not ours. Nothing stays bound then.
    """
    found: dict[str, Sockets] = {}
    try:
        for name in names:
            kind = KINDS[name]
            if name == "admin":
                found[name] = Sockets(kind, (bind_admin_socket(settings.admin_socket_path),))
            else:
                listener: Listener = getattr(settings, name)
                if listener.enabled:
                    opened = _bind_tcp(name, listener)
                    found[name] = Sockets(_secured(kind, opened), opened)
    except IntaglioError:
        for sockets in found.values():
            sockets.close()
        raise
    return found


def _secured(kind: ListenerKind, sockets: tuple[socket.socket, ...]) -> ListenerKind:
    """The kind for these addresses: whoever asks for decisions shows a token, which leaves a host under TLS only."""
    hosts = (opened.getsockname()[0] for opened in sockets)
    if kind.name == "access" and not all(ipaddress.ip_address(host.partition("%")[0]).is_loopback for host in hosts):
        return replace(kind, secure=True)
    return kind


def _bind_tcp(name: str, listener: Listener) -> tuple[socket.socket, ...]:
    deadline = monotonic() + _BIND_PATIENCE
    while True:
        try:
            return _bind_once(listener)
        except OSError as error:
            if error.errno == errno.EADDRINUSE and monotonic() < deadline:
                time.sleep(0.05)
                continue
            raise _cannot_bind(name, listener, error) from error


def _bind_once(listener: Listener) -> tuple[socket.socket, ...]:
    opened: list[socket.socket] = []
    with contextlib.ExitStack() as undo:
        port = listener.port
        for family, host in _addresses(listener):
            bound = socket.socket(family, socket.SOCK_STREAM)
            undo.callback(bound.close)
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _PROBE_AFTER)
            bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNANSWERED)
            if family == socket.AF_INET6:
                bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            bound.bind((host, port))
            bound.listen(_BACKLOG)
            bound.setblocking(False)
            port = bound.getsockname()[1]  # port 0: the second family takes the port the first was given
            opened.append(bound)
        undo.pop_all()
    return tuple(opened)


def _addresses(listener: Listener) -> list[tuple[socket.AddressFamily, str]]:
    if listener.host in _ANY:
        both = [(socket.AF_INET, "0.0.0.0")]  # noqa: S104 - the setting asks for every address
        return [*both, (socket.AF_INET6, "::")] if _has_ipv6() else both
    found = socket.getaddrinfo(listener.host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return list(dict.fromkeys((family, str(address[0])) for family, _, _, _, address in found))


def _has_ipv6() -> bool:
    if not socket.has_ipv6:
        return False
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def _cannot_bind(name: str, listener: Listener, error: OSError) -> IntaglioError:
    where = f"{listener.host}:{listener.port}"
    if error.errno == errno.EADDRINUSE:
        return StateConflict(
            f'The address {where} of the listener "{name}" is in use by another program.',
            code="address-in-use",
            remedy=f"Stop that program, or set INTAGLIO_{name.upper()}__PORT.",
        )
    return Unavailable(
        f'The listener "{name}" cannot be bound to {where}: {error.strerror or error}.',
        code="address-unavailable",
        remedy=f"Set INTAGLIO_{name.upper()}__HOST to an address of this host and INTAGLIO_{name.upper()}__PORT to a "
        "port this account may use.",
    )
