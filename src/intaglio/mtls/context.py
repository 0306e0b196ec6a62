"""What the use cases of mutual TLS identity work with, put together once per process."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from intaglio.audit.refusals import RefusalRecorder
from intaglio.authority.context import Authority
from intaglio.core.secrets import MasterKey
from intaglio.core.settings import Settings
from intaglio.db.engine import Database
from intaglio.db.listen import Watch
from intaglio.gateway.service import Gateway

if TYPE_CHECKING:
    from intaglio.mtls.access.decision import AccessDecider
    from intaglio.mtls.observation.events import EventRecorder


class Mtls:
    """Authority, gateway, master key and watch of one process.

    Certificates come through ``gateway``, like everybody's; ``master_key`` seals what is secret or personal; ``watch``
    says whether this process has heard of every change; ``refusals`` records what was refused.
    """

    def __init__(
        self,
        authority: Authority,
        gateway: Gateway,
        master_key: MasterKey,
        watch: Watch,
        refusals: RefusalRecorder | None = None,
    ) -> None:
        self.authority = authority
        self.gateway = gateway
        self.master_key = master_key
        self.watch = watch
        self.refusals = refusals

    @cached_property
    def decider(self) -> AccessDecider:
        """The access decisions of this process."""
        from intaglio.mtls.access.decision import AccessDecider

        return AccessDecider(self.authority, self.watch)

    @cached_property
    def events(self) -> EventRecorder:
        """Where the access events of this process go."""
        from intaglio.mtls.observation.events import EventRecorder

        return EventRecorder(self.database)

    async def close(self) -> None:
        """Write what is waiting to be written, and give connections back."""
        if "decider" in self.__dict__:
            await self.decider.close()
        if "events" in self.__dict__:
            await self.events.close()

    @property
    def database(self) -> Database:
        return self.authority.database

    @property
    def settings(self) -> Settings:
        return self.authority.settings
