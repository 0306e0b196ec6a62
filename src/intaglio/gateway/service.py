"""The gateway of one process: what its use cases work with."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from sqlalchemy import select

from intaglio.authority.context import Authority
from intaglio.authority.directory import CaView, Snapshot
from intaglio.authority.options import KeySizePolicy
from intaglio.core.errors import IntaglioError, StateConflict
from intaglio.core.principal import Principal
from intaglio.db.journal import EpochMoved, journal_head
from intaglio.gateway.callers import Access, Caller, CallerDirectory
from intaglio.gateway.connector import Connector, NativeConnector

T = TypeVar("T")

_GENERATED_AT_A_TIME = 2
_ATTEMPTS = 8


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

    Arguments: ``refusals`` records refused requests; ``minimum_keysize`` is the key-size policy for all CAs, besides
    those of CA and profile; ``is_current`` says whether this process has heard of every change of configuration (when
    it has not, the gateway looks before it decides).
    """

    def __init__(
        self,
        authority: Authority,
        *,
        refusals: RefusalSink | None = None,
        minimum_keysize: KeySizePolicy | None = None,
        is_current: Callable[[], bool] | None = None,
    ) -> None:
        self.authority = authority
        self.callers = CallerDirectory()
        self.minimum_keysize = minimum_keysize or KeySizePolicy()
        self.key_generation = asyncio.Semaphore(_GENERATED_AT_A_TIME)
        self._native = NativeConnector(authority)
        self._refusals = refusals
        self._is_current = is_current

    async def snapshot(self) -> Snapshot:
        """The configuration to decide on. Raises Unavailable when it cannot be known."""
        snapshot = await self.authority.snapshot()
        if self._is_current is None or self._is_current():
            return snapshot
        async with self.authority.database.read() as view:
            epoch = int(await view.scalar(select(journal_head.c.epoch)))
        return snapshot if epoch == snapshot.epoch else await self.authority.directory.reload(beyond=epoch - 1)

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
        snapshot = await self.snapshot()
        for _ in range(_ATTEMPTS):
            access = caller.access(snapshot, ca_id)
            try:
                return await act(access, self.connector(access.ca), snapshot.epoch)
            except EpochMoved:
                snapshot = await self.authority.directory.reload(beyond=snapshot.epoch)
        raise StateConflict("The configuration keeps changing.", code="configuration-changed", remedy="Try again.")

    def refused(
        self, principal: Principal, action: str, object_kind: str, object_name: str, error: IntaglioError
    ) -> None:
        """Have a refusal recorded."""
        if self._refusals is not None:
            organization, tilde, _ = object_name.partition("~")
            self._refusals.record(
                principal, action, object_kind, object_name, error, organization=organization if tilde else None
            )
