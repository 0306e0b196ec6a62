"""What an ingress does when its status source is gone: seen, by taking it away from one that was made for it.

The ingress is real: our gateway on a loopback port, deciding with database connections of its own. These are cut, and
no new ones come about; everything else of the platform goes on. An ingress that asks for live decisions elsewhere
decides by the same rules.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import psycopg

from intaglio.authority.context import Authority
from intaglio.core.clock import monotonic
from intaglio.core.errors import IntaglioError
from intaglio.core.logging import get_logger
from intaglio.core.outgoing import Guard
from intaglio.core.principal import Principal
from intaglio.db.engine import Database
from intaglio.db.listen import Watch
from intaglio.mtls.access.ingress_values import Ingress, NewIngress
from intaglio.mtls.access.ingresses import create_ingress, retire_ingress
from intaglio.mtls.context import Mtls
from intaglio.mtls.drills.probes import MADE_BY_DRILL, Probe
from intaglio.mtls.identities.values import TrustDomain
from intaglio.mtls.proxy.reverse_proxy import ReverseProxy
from intaglio.mtls.proxy.sources.platform import PlatformSource, ingress_view
from intaglio.mtls.proxy.upstream import Upstream, address
from intaglio.mtls.scenarios.credentials import make_authority, make_leaf
from intaglio.mtls.scenarios.service import LoopbackService
from intaglio.transport.contexts import ServerIdentity

log = get_logger(__name__)

#: Seconds within which everybody has to be refused, of which four are the bound of live decisions.
SILENCE_SECONDS: Final = 15.0
_KNOWN_SECONDS = 15.0
#: The ingress is our own, for the time of the drill.
_OURSELVES: Final = Guard.of(["127.0.0.1"])
_TIMEOUT = 2.0


class Severable(Database):
    """A database that can be taken away from whoever works with this object, and given back."""

    def __init__(self, url: str) -> None:
        super().__init__(url, pool_size=2, timeout=_TIMEOUT)
        self._severed = False
        self._made: list[psycopg.AsyncConnection[Any]] = []

    def sever(self) -> None:
        """Cut every connection; none comes about until :meth:`restore`."""
        self._severed = True
        for connection in self._made:
            with contextlib.suppress(psycopg.Error, OSError):
                _cut(connection.fileno())
        self._made.clear()

    def restore(self) -> None:
        self._severed = False

    async def _connect(self) -> psycopg.AsyncConnection[Any]:
        self._require_whole()
        connection = await super()._connect()
        if self._severed:
            await connection.close()
        self._require_whole()
        self._made = [each for each in self._made if not each.closed]
        self._made.append(connection)
        return connection

    def _require_whole(self) -> None:
        if self._severed:
            raise psycopg.OperationalError("the connection was taken away by a drill")


def _cut(descriptor: int) -> None:
    """End a connection as a broken network does: whoever uses it finds out, and closes it."""
    with socket.socket(fileno=os.dup(descriptor)) as connected:
        connected.shutdown(socket.SHUT_RDWR)


class Door:
    """The temporary ingress: how it is asked, and how its status source is taken away."""

    def __init__(self, probe: Probe, database: Severable) -> None:
        self.probe = probe
        self._database = database

    def silence(self) -> None:
        """Take the status source away."""
        log.info("a drill takes the database away from its own ingress", ingress=self.probe.ingress.full_name)
        self._database.sever()

    def restore(self) -> None:
        """Give it back."""
        self._database.restore()


@contextlib.asynccontextmanager
async def door(mtls: Mtls, principal: Principal, domain: TrustDomain, fail_mode: Any) -> AsyncIterator[Door]:
    """A temporary ingress of the trust domain that enforces, and fails as ``fail_mode`` says. It is retired at the
    end."""
    async with contextlib.AsyncExitStack() as undo:
        wanted = NewIngress(
            f"drill-{secrets.token_hex(4)}", domain.organization, domain.name, type="gateway", mode="enforce",
            fail_mode=fail_mode, description=MADE_BY_DRILL,
        )  # fmt: skip
        ingress = (await create_ingress(mtls, principal, wanted)).ingress
        undo.push_async_callback(retire_ingress, mtls, principal, ingress.full_name)
        database = Severable(mtls.database.url)
        undo.push_async_callback(database.close)
        undo.callback(database.restore)
        apart = await _apart(mtls, database, undo)
        await _known(apart, ingress)
        vouching = make_authority("drill server authority")
        port = await _gateway(apart, ingress, make_leaf(vouching, "drill gateway", "server").identity, undo)
        yield Door(Probe(mtls, ingress, f"https://127.0.0.1:{port}/", vouching.pem, _OURSELVES), database)


async def _apart(mtls: Mtls, database: Database, undo: contextlib.AsyncExitStack) -> Mtls:
    """Decisions as those of this process, made with another database connection; what they record goes as usual."""
    authority = Authority(mtls.settings, database, mtls.authority.keystore)
    watch = Watch(database)
    apart = _Apart(authority, mtls.gateway, mtls.master_key, watch)
    apart.usual = mtls
    await watch.start()
    undo.push_async_callback(watch.stop)
    undo.push_async_callback(apart.decider.close)
    return apart


class _Apart(Mtls):
    usual: Mtls

    @property
    def events(self) -> Any:
        return self.usual.events


async def _known(apart: Mtls, ingress: Ingress) -> None:
    """Wait until the new decisions know of the ingress."""
    deadline = monotonic() + _KNOWN_SECONDS
    while True:
        try:
            await ingress_view(apart, ingress.id)
            return
        except IntaglioError:
            if monotonic() > deadline:
                raise
        await asyncio.sleep(0.05)


async def _gateway(
    apart: Mtls, ingress: Ingress, server: ServerIdentity, undo: contextlib.AsyncExitStack
) -> int:
    """Our gateway for the ingress, with a service behind it; its port on the loopback address."""
    service = LoopbackService()
    upstream = Upstream(address(f"http://127.0.0.1:{await service.start()}"))
    undo.push_async_callback(service.stop)
    source = PlatformSource(apart, ingress.id, _always(server), refuse_in_handshake=False)
    listening = socket.create_server(("127.0.0.1", 0))
    listening.setblocking(False)
    proxy = ReverseProxy([listening], source, upstream)
    undo.push_async_callback(proxy.stop, timeout=0)
    await proxy.start()
    return proxy.addresses[0][1]


def _always(identity: ServerIdentity) -> Callable[[], Any]:
    async def source() -> ServerIdentity:
        return identity

    return source


async def refused_in_silence(opened: Door, held: Any, patience: float = SILENCE_SECONDS) -> tuple[str, float]:
    """Take the status source away and ask until the certificate is refused, for ``patience`` seconds: the last answer,
    and after how long."""
    began = monotonic()
    opened.silence()
    return await opened.probe.until_refused(held, began, patience)
