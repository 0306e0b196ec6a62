"""What the use cases of the validation authority work with, put together once per process."""

from __future__ import annotations

from intaglio.authority.context import Authority
from intaglio.core.secrets import MasterKey
from intaglio.core.settings import Settings
from intaglio.db.engine import Database
from intaglio.db.listen import Watch
from intaglio.keystore.service import KeyStore


class Validation:
    """Authority, master key and watch of one process.

    ``master_key`` seals the passwords of directories; ``watch`` says whether this process has heard of every change.
    """

    def __init__(self, authority: Authority, master_key: MasterKey, watch: Watch) -> None:
        self.authority = authority
        self.master_key = master_key
        self.watch = watch

    @property
    def database(self) -> Database:
        return self.authority.database

    @property
    def keystore(self) -> KeyStore:
        return self.authority.keystore

    @property
    def settings(self) -> Settings:
        return self.authority.settings
