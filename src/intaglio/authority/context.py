"""What the use cases of this floor work with, put together once per process."""

from __future__ import annotations

from sqlalchemy import select

from intaglio.authority.commit import GroupCommit
from intaglio.authority.directory import Snapshot
from intaglio.authority.loading import Directory
from intaglio.core.settings import Settings
from intaglio.db.engine import Database
from intaglio.db.journal import journal_head
from intaglio.keystore.service import KeyStore


class Authority:
    """Database, keys, configuration snapshot and group commit of one process."""

    def __init__(self, settings: Settings, database: Database, keystore: KeyStore) -> None:
        self.settings = settings
        self.database = database
        self.keystore = keystore
        self.directory = Directory(database, settings.public_base)
        self.commits = GroupCommit(database)

    async def start(self) -> None:
        await self.commits.start()

    async def stop(self) -> None:
        await self.commits.stop()

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
