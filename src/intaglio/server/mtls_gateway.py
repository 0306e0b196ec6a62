"""The mTLS gateway inside a worker, when the settings name one.

Every worker binds the same addresses (SO_REUSEPORT) and decides in its own process. A gateway that cannot start (its
ingress is not registered yet, the database is away) is tried again, and never keeps the server from running.
"""

from __future__ import annotations

import asyncio
import contextlib

from intaglio.core.errors import IntaglioError, Unavailable
from intaglio.core.logging import get_logger
from intaglio.mtls.proxy.config import ByPlatform, GatewayConfig, read_config
from intaglio.mtls.proxy.decisions import Source
from intaglio.mtls.proxy.reverse_proxy import ReverseProxy
from intaglio.mtls.proxy.running import bind_sockets, make_proxy, make_source
from intaglio.mtls.proxy.sources.files import identity_from
from intaglio.mtls.proxy.sources.platform import PlatformSource
from intaglio.server.composition import Composition
from intaglio.server.services import Services
from intaglio.server.tls import identity_from_files
from intaglio.transport.contexts import ServerIdentity

log = get_logger(__name__)

_RETRY = 2.0


class EmbeddedGateway:
    """The gateway of one worker, of the configuration that the setting ``mtls_gateway`` names."""

    def __init__(self, services: Services, composition: Composition) -> None:
        self._services, self._composition = services, composition
        self._proxy: ReverseProxy | None = None
        self._timeout = 0.0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start in the background; does nothing when no gateway is configured."""
        if self._services.settings.mtls_gateway is not None:
            self._task = asyncio.create_task(self._run(), name="mtls-gateway")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._proxy is not None:
            await self._proxy.stop(timeout=self._timeout)

    async def _run(self) -> None:
        said = ""
        while True:
            try:
                await self._begin()
                return
            except IntaglioError as error:
                if str(error) != said:
                    said = str(error)
                    log.error("the mTLS gateway cannot start yet", reason=said)
            await asyncio.sleep(_RETRY)

    async def _begin(self) -> None:
        path = self._services.settings.mtls_gateway
        assert path is not None
        config = read_config(path)
        match config.decisions:
            case ByPlatform() as decisions:
                source: Source = self._source(config, decisions)
            case _:
                source = make_source(config)
        await source.settings()  # before an address is bound that could not answer
        proxy = make_proxy(config, source, bind_sockets(config, shared=True))
        try:
            await proxy.start()
        except BaseException:
            with contextlib.suppress(IntaglioError):
                await proxy.stop(timeout=0)
            raise
        self._proxy, self._timeout = proxy, config.shutdown_timeout
        log.info("the mTLS gateway accepts", addresses=[f"{host}:{port}" for host, port in proxy.addresses])

    def _source(self, config: GatewayConfig, decisions: ByPlatform) -> PlatformSource:
        async def identity() -> ServerIdentity:
            found = identity_from(config) or identity_from_files(self._services.settings)
            found = found or await self._composition.identity(self._services, "gateway")
            if found is None:
                raise Unavailable("The server has no certificate yet.", code="server-certificate-missing")
            return found

        return PlatformSource(
            self._services.mtls, decisions.platform, identity, refuse_in_handshake=decisions.refuse_in_handshake
        )
