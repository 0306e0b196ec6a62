"""What the use cases of the validation authority work with, put together once per process."""

from __future__ import annotations

from typing import Protocol

from intaglio.authority.context import Authority
from intaglio.core.secrets import MasterKey
from intaglio.core.settings import Settings
from intaglio.db.engine import Database
from intaglio.db.listen import Watch
from intaglio.keystore.service import KeyStore
from intaglio.transport.contexts import ServerIdentity


class OutboundCredentials(Protocol):
    """Client credentials that are kept, shared and rotated elsewhere in the platform."""

    async def identity(self, reference: str, host: str) -> ServerIdentity:
        """The one in use of ORGANIZATION~NAME, to be shown to ``host``.

        Raises NotFound, StateConflict (there is none), Refused (expired, or not for this host).
        """
        ...


class Validation:
    """Authority, master key and watch of one process.

    ``master_key`` seals the passwords of directories; ``watch`` says whether this process has heard of every change;
    ``outbound`` has the credentials that gateways may be called with beside our own.
    """

    def __init__(
        self,
        authority: Authority,
        master_key: MasterKey,
        watch: Watch,
        outbound: OutboundCredentials | None = None,
    ) -> None:
        self.authority = authority
        self.master_key = master_key
        self.watch = watch
        self.outbound = outbound

    @property
    def database(self) -> Database:
        return self.authority.database

    @property
    def keystore(self) -> KeyStore:
        return self.authority.keystore

    @property
    def settings(self) -> Settings:
        return self.authority.settings
