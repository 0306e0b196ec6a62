"""Partners, token issuers and other servers of tests are on this host, where nobody may have us connect to."""

from __future__ import annotations

from tests.support.authority import OPERATOR

from intaglio.core.outgoing import Guard
from intaglio.db.engine import Database
from intaglio.platform import live_settings

LOOPBACK = ("127.0.0.0/8", "::1/128")
LOOPBACK_GUARD = Guard.of(LOOPBACK)


async def list_networks(database: Database, *networks: str) -> None:
    """Let these networks, or else the loopback, be connected to."""
    async with database.transaction() as tx:
        await live_settings.change(tx, OPERATOR, "outgoing", {"networks": list(networks or LOOPBACK)})
