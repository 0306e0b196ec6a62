"""What the use cases of mutual TLS identity work with, put together once per process."""

from __future__ import annotations

from intaglio.audit.refusals import RefusalRecorder
from intaglio.authority.context import Authority
from intaglio.core.secrets import MasterKey
from intaglio.core.settings import Settings
from intaglio.db.engine import Database
from intaglio.db.listen import Watch
from intaglio.gateway.service import Gateway


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

    @property
    def database(self) -> Database:
        return self.authority.database

    @property
    def settings(self) -> Settings:
        return self.authority.settings
