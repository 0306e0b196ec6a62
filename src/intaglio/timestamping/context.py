"""What the use cases of timestamping work with."""

from __future__ import annotations

from dataclasses import dataclass

from intaglio.authority.context import Authority
from intaglio.core.secrets import MasterKey
from intaglio.db.listen import Watch


@dataclass(frozen=True)
class Timestamps:
    """The authority that certifies signers, the key that seals, and what is heard from other processes."""

    authority: Authority
    master: MasterKey
    watch: Watch
