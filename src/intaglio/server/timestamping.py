"""Timestamping in a serving process: imported and started when there is an issuer, or somebody asks for one."""

from __future__ import annotations

import asyncio
import importlib
import math
from typing import TYPE_CHECKING

from sqlalchemy import text
from starlette.types import Receive, Scope, Send

from intaglio.core.clock import rfc3339
from intaglio.core.errors import IntaglioError
from intaglio.core.logging import get_logger
from intaglio.core.settings import Settings
from intaglio.server.health import Health, HealthRegistry
from intaglio.server.metrics import certificate_expiry
from intaglio.server.services import Services

if TYPE_CHECKING:
    from intaglio.timestamping.app import TimestampApp

log = get_logger(__name__)

_ANY_ISSUER = text("SELECT EXISTS (SELECT FROM timestamp_issuer)")


class Timestamping:
    """The timestamping application of one process; most processes of most installations never need it."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self.app: TimestampApp | None = None
        self._building = asyncio.Lock()
        self._published: set[str] = set()
        services.on_config(self._configuration_changed)
        services.on_event(self._events_arrived)
        services.on_stop(self._close)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self.app or await self._build()
        await app(scope, receive, send)

    async def health(self) -> Health:
        """How it is doing; an installation without issuers is well."""
        if self.app is None:
            return Health(True, {"issuers": {}})
        from intaglio.timestamping.health import examine

        found = await examine(self.app.service)
        return Health(found.up, {name: value for name, value in found.members.items() if name != "status"})

    async def _configuration_changed(self) -> None:
        try:
            if self.app is None:
                async with self._services.database.read() as view:
                    if not await view.scalar(_ANY_ISSUER):
                        return
            app = self.app or await self._build()
            await app.configuration_changed()
        except IntaglioError as error:
            log.debug("timestamping follows a change later", reason=str(error))
            return
        issuers = app.service.directory.issuers
        for name in self._published - issuers.keys():
            certificate_expiry.labels("timestamp-issuer", name).set(math.nan)  # numbers that processes share stay
        self._published = set(issuers)
        for name, issuer in issuers.items():
            if issuer.signer is not None:
                not_after = issuer.signer.certificate.not_after
                certificate_expiry.labels("timestamp-issuer", name).set(not_after.timestamp())
                log.debug("timestamp issuer ready", issuer=name, not_after=rfc3339(not_after))

    async def _events_arrived(self) -> None:
        if self.app is not None:
            await self.app.events_arrived()

    async def _close(self) -> None:
        if self.app is not None:
            await self.app.close()

    async def _build(self) -> TimestampApp:
        async with self._building:
            if self.app is None:
                module = await asyncio.to_thread(importlib.import_module, "intaglio.timestamping.app")
                services = self._services
                self.app = module.TimestampApp(
                    services.timestamps, request_timeout=services.settings.request_timeout
                )
            return self.app


def is_wanted(settings: Settings) -> bool:
    """Whether this server gives timestamps at all."""
    return not settings.only or "tsa" in settings.only


def register(timestamping: Timestamping, registry: HealthRegistry) -> None:
    """Report timestamping; not critical, for a clock that is off must not take OCSP out of service too."""
    registry.register("timestamping", timestamping.health, critical=False)
