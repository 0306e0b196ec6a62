"""What enrolment works with, put together once per process."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
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
    from intaglio.enrollment.challenge_lookups import ChallengeLookups
    from intaglio.enrollment.credentials import KnownPasswords
    from intaglio.enrollment.endpoints import EndpointDirectory
    from intaglio.enrollment.limits import Limits
    from intaglio.enrollment.recorded import RecordedCertificates


class Enrollment:
    """Authority, gateway, master key and watch of one process.

    Certificates come through ``gateway``, like everybody's; ``master_key`` seals shared secrets; ``watch`` says whether
    this process has heard of every change; ``refusals`` records what was refused.
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
        #: Awaited in the opposite order when the process stops, while the database is still there.
        self.on_close: list[Callable[[], Awaitable[None]]] = []

    @cached_property
    def endpoints(self) -> EndpointDirectory:
        """The endpoints as this process knows them."""
        from intaglio.enrollment.endpoints import EndpointDirectory

        return EndpointDirectory(self.gateway)

    @cached_property
    def limits(self) -> Limits:
        """Counters over all processes."""
        from intaglio.enrollment.limits import Limits

        return Limits(self.database)

    @cached_property
    def recorded(self) -> RecordedCertificates:
        """Certificates that were shown lately."""
        from intaglio.enrollment.recorded import RecordedCertificates

        made = RecordedCertificates(self.database, self.watch)
        self.on_close.append(made.close)
        return made

    @cached_property
    def challenges(self) -> ChallengeLookups:
        """What is asked about challenges."""
        from intaglio.enrollment.challenge_lookups import ChallengeLookups

        made = ChallengeLookups(self.database)
        self.on_close.append(made.close)
        return made

    @cached_property
    def passwords(self) -> KnownPasswords:
        """Passwords that were found right a moment ago."""
        from intaglio.enrollment.credentials import KnownPasswords

        return KnownPasswords()

    @property
    def database(self) -> Database:
        return self.authority.database

    @property
    def settings(self) -> Settings:
        return self.authority.settings

    async def close(self) -> None:
        """End what the protocols do beside their requests."""
        while self.on_close:
            await self.on_close.pop()()
