"""Putting a gateway together from its configuration, and running it until it is told to stop."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable, Sequence

from intaglio.core.errors import InvalidInput, Unavailable
from intaglio.core.logging import get_logger
from intaglio.mtls.proxy.config import ByFiles, ByServer, GatewayConfig
from intaglio.mtls.proxy.decisions import Source
from intaglio.mtls.proxy.reverse_proxy import ReverseProxy
from intaglio.mtls.proxy.sources.files import FileSource
from intaglio.mtls.proxy.sources.server import ServerSource
from intaglio.mtls.proxy.upstream import Upstream, address

log = get_logger(__name__)

_BACKLOG = 1024
_UNANSWERED = 60_000  # milliseconds: a peer that acknowledges nothing for so long is gone (TCP_USER_TIMEOUT)


def make_proxy(config: GatewayConfig, source: Source, sockets: Sequence[socket.socket]) -> ReverseProxy:
    """A gateway that is not started yet. Raises InvalidInput."""
    behind = config.upstream
    pair = (behind.certificate, behind.key) if behind.certificate and behind.key else None
    upstream = Upstream(address(behind.url, ca_file=behind.ca, credential=pair), patience=behind.patience)
    return ReverseProxy(sockets, source, upstream, limits=config.limits, keep_host=behind.keep_host)


def make_source(config: GatewayConfig) -> Source:
    """The source that the configuration names. Raises InvalidInput, Unavailable."""
    match config.decisions:
        case ByFiles() as files:
            return FileSource(config, files)
        case ByServer() as server:
            return ServerSource(config, server)
        case _:
            raise InvalidInput(
                "Decisions by `platform` are for a gateway inside of a server.",
                code="gateway-config-invalid",
                remedy="Name the configuration in INTAGLIO_MTLS_GATEWAY, or decide by `server` or by files.",
            )


def bind_sockets(config: GatewayConfig, *, shared: bool = False) -> list[socket.socket]:
    """Bind the addresses; with ``shared``, several processes may bind the same. Raises Unavailable, binding none."""
    bound: list[socket.socket] = []
    for host, port in config.addresses:
        try:
            for family, _, _, _, where in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
                opened = socket.socket(family, socket.SOCK_STREAM)
                bound.append(opened)
                opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # inherited, like the next two
                opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNANSWERED)
                if shared:
                    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                if family == socket.AF_INET6:
                    opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                opened.bind(where)
                opened.listen(_BACKLOG)
                opened.setblocking(False)
        except OSError as error:
            for each in bound:
                each.close()
            raise Unavailable(
                f"The gateway cannot listen on {host}:{port}: {error.strerror or error}.",
                code="address-unavailable",
                remedy="Choose an address of this host and a free port this account may use.",
            ) from None
    return bound


async def run_gateway(config: GatewayConfig, ready: Callable[[ReverseProxy], None]) -> None:
    """Run until SIGTERM or SIGINT; ``ready`` is told when the gateway accepts. Raises IntaglioError."""
    proxy = make_proxy(config, make_source(config), bind_sockets(config))
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await proxy.start()
    ready(proxy)
    await stop.wait()
    await proxy.stop(timeout=config.shutdown_timeout)
