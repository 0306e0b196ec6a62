"""Which server a command talks to."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Connection:
    """Where the server is and who asks, as given on the command line."""

    server: str | None = None
    token_file: str | None = None
    ca_file: str | None = None
    json: bool = False
    data_dir: str | None = None

    def overridden(self, **given: Any) -> Connection:
        """With the values that were given after the noun, where they were given at all."""
        return replace(self, **{name: value for name, value in given.items() if value})
