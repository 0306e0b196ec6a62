"""What the use cases of this floor work with, put together once per process."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import select

from intaglio.authority.commit import GroupCommit
from intaglio.authority.directory import Snapshot
from intaglio.authority.loading import Directory
from intaglio.core.errors import Unavailable
from intaglio.core.settings import Settings
from intaglio.db.engine import Database
from intaglio.db.journal import journal_head
from intaglio.keystore.service import KeyStore

#: Seconds by which the clocks of a process and of the database may differ.
MAX_CLOCK_OFFSET = 60.0


class Authority:
    """Database, keys, configuration snapshot and group commit of one process."""

    def __init__(self, settings: Settings, database: Database, keystore: KeyStore) -> None:
        self.settings = settings
        self.database = database
        self.keystore = keystore
        self.directory = Directory(database, settings.public_base)
        self.commits = GroupCommit(database)
        #: Seconds by which the clock of this process is ahead of the database's; who watches the database sets it.
        self.clock_offset: Callable[[], float] = lambda: 0.0

    async def start(self) -> None:
        await self.commits.start()

    async def stop(self) -> None:
        await self.commits.stop()

    def require_clock(self) -> None:
        """Raise Unavailable (``clock-unreliable``) unless this process and the database agree what time it is.

        One of two clocks that disagree is wrong, and whatever is signed by it would be dated so: a certificate that is
        valid for longer than the profile allows, a CRL that hides the one before it.
        """
        offset = self.clock_offset()
        if abs(offset) > MAX_CLOCK_OFFSET:
            where = f"{abs(offset):.0f} seconds {'ahead of' if offset > 0 else 'behind'}"
            raise Unavailable(
                f"The clock of this server is {where} that of the database, so nothing is signed.",
                code="clock-unreliable",
                remedy="Set the clocks of both right (NTP); the service then goes on by itself.",
                retry_after=5,
            )

    async def snapshot(self) -> Snapshot:
        """The current configuration of this process."""
        return await self.directory.snapshot()

    async def current(self) -> Snapshot:
        """The configuration as it is in the database now, for who wants to see what another process just changed."""
        snapshot = await self.directory.snapshot()
        async with self.database.read() as view:
            epoch = int(await view.scalar(select(journal_head.c.epoch)) or 0)
        return snapshot if snapshot.epoch >= epoch else await self.directory.reload(beyond=snapshot.epoch)

    async def reload(self) -> None:
        """Read the configuration again; called when another process changed it."""
        await self.directory.reload()
