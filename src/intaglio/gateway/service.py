"""The gateway of one process: what its use cases work with."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from intaglio.authority.context import Authority
from intaglio.authority.directory import CaView, Snapshot
from intaglio.authority.issuance import Decide, Idempotency, Issued
from intaglio.core.errors import IntaglioError, StateConflict
from intaglio.core.principal import Principal
from intaglio.db.journal import EpochMoved
from intaglio.gateway.callers import Access, Caller, CallerDirectory
from intaglio.gateway.connector import Connector, NativeConnector
from intaglio.gateway.settings import GatewaySettings
from intaglio.platform import live_settings

T = TypeVar("T")

_GENERATED_AT_A_TIME = 2
ATTEMPTS = 8


class SettingsMoved(StateConflict):
    """The settings in memory belong to another configuration; take a new snapshot and decide again."""

    default_code = "configuration-changed"

    def __init__(self) -> None:
        super().__init__("The configuration changed while the request was being decided.")


class RefusalSink(Protocol):
    """Records what was refused; see ``audit.refusals.RefusalRecorder``."""

    def record(
        self,
        principal: Principal,
        action: str,
        object_kind: str,
        object_name: str,
        error: IntaglioError,
        *,
        organization: str | None = None,
    ) -> None:
        """Note a refusal without waiting or failing."""
        ...


class Gateway:
    """Authority, connectors, callers and policies.

    Arguments: ``refusals`` records refused requests; ``is_current`` says whether this process has heard of every
    change of configuration (when it has not, the gateway looks before it decides).
    """

    def __init__(
        self,
        authority: Authority,
        *,
        refusals: RefusalSink | None = None,
        is_current: Callable[[], bool] | None = None,
    ) -> None:
        self.authority = authority
        self.callers = CallerDirectory()
        self.key_generation = asyncio.Semaphore(_GENERATED_AT_A_TIME)
        self._native = NativeConnector(authority)
        self._refusals = refusals
        self._is_current = is_current
        self._settings = GatewaySettings()
        self._settings_epoch = -1

    async def snapshot(self) -> Snapshot:
        """The configuration to decide on. Raises Unavailable when it cannot be known."""
        known = self._is_current is None or self._is_current()
        for _ in range(ATTEMPTS):
            snapshot = await (self.authority.snapshot() if known else self.authority.current())
            if snapshot.epoch > self._settings_epoch:
                await self._read_settings(snapshot)
            # Otherwise another request has read those of a later configuration meanwhile.
            if snapshot.epoch == self._settings_epoch:
                return snapshot
        raise _keeps_changing()

    def settings(self, snapshot: Snapshot) -> GatewaySettings:
        """The settings that belong to a configuration. Raises SettingsMoved when others are in memory."""
        if snapshot.epoch != self._settings_epoch:
            raise SettingsMoved
        return self._settings

    async def _read_settings(self, snapshot: Snapshot) -> None:
        async with self.authority.database.read() as view:
            settings = await live_settings.current(view, GatewaySettings)
        if snapshot.epoch > self._settings_epoch:
            self._settings, self._settings_epoch = settings, snapshot.epoch

    async def access(self, caller: Caller, ca_id: str) -> tuple[Access, Connector]:
        """The caller's access to a CA, and the way to it. Raises Unauthenticated, Forbidden, NotFound."""
        access = caller.access(await self.snapshot(), ca_id)
        return access, self.connector(access.ca)

    def connector(self, ca: CaView) -> Connector:
        """The connector that reaches a CA."""
        return self._native

    async def decided(
        self, caller: Caller, ca_id: str, act: Callable[[Access, Connector, int], Awaitable[T]]
    ) -> T:
        """Authorize and act on one configuration; again on the next one when it changed in between.

        ``act`` gets access, connector and epoch, and raises EpochMoved when nothing was written because the epoch has
        passed.
        """
        for _ in range(ATTEMPTS):
            snapshot = await self.snapshot()
            access = caller.access(snapshot, ca_id)
            try:
                return await act(access, self.connector(access.ca), snapshot.epoch)
            except EpochMoved:
                await self.authority.directory.reload(beyond=snapshot.epoch)
        raise _keeps_changing()

    async def issue(
        self, caller: Caller, connector: Connector, decide: Decide, idempotency: Idempotency | None
    ) -> Issued:
        """Issue what ``decide`` orders; a decision taken with settings of another configuration is taken again."""
        for _ in range(ATTEMPTS):
            try:
                return await connector.issue(caller.principal, decide, idempotency)
            except SettingsMoved:
                await self.snapshot()
        raise _keeps_changing()

    def refused(
        self, principal: Principal, action: str, object_kind: str, object_name: str, error: IntaglioError
    ) -> None:
        """Have a refusal recorded."""
        if self._refusals is not None:
            organization, tilde, _ = object_name.partition("~")
            self._refusals.record(
                principal, action, object_kind, object_name, error, organization=organization if tilde else None
            )


def _keeps_changing() -> StateConflict:
    return StateConflict("The configuration keeps changing.", code="configuration-changed", remedy="Try again.")
