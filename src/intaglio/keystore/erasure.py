"""Destroying in tokens what was destroyed here: again and again until the token says that it is gone.

A key is first destroyed in the database, which makes it useless for everybody; what its token still holds is written
down there (``erasure_due``), so that neither a token that is away nor a process that ends leaves it behind for good.
"""

from __future__ import annotations

from sqlalchemy import select, update

from intaglio.audit.record import record
from intaglio.core.errors import IntaglioError
from intaglio.core.logging import get_logger
from intaglio.core.principal import SYSTEM
from intaglio.core.troubles import Troubles
from intaglio.db.engine import Database
from intaglio.keystore.models import private_key
from intaglio.keystore.service import KeyStore, stored_key

log = get_logger(__name__)

_BATCH = 50
_troubles = Troubles()


async def erase_due(database: Database, keystore: KeyStore) -> int:
    """Destroy in their tokens the keys that were destroyed here; returns how many are gone now.

    A token that is away is left for later. Any number of processes may do this. Raises Unavailable, TimedOut for the
    database.
    """
    c, erased = private_key.c, 0
    async with database.transaction() as tx:
        query = select(private_key).where(c.erasure_due).order_by(c.id).limit(_BATCH)
        for row in await tx.all(query.with_for_update(skip_locked=True)):
            stored = stored_key(row)
            try:
                provider = await keystore.provider(tx, stored.provider)
                assert provider.dispatcher is not None
                await provider.dispatcher.run(lambda p=provider, k=stored: p.destroy(k))  # type: ignore[misc]
            except IntaglioError as error:
                if _troubles.worth_reporting(stored.provider):
                    log.warning("a destroyed key is still in its token", key=str(stored.key_id), reason=error.detail)
                continue
            _troubles.over(stored.provider)
            await tx.execute(update(private_key).where(c.id == stored.key_id).values(erasure_due=False))
            record(tx, SYSTEM, "key.erase", "key", str(stored.key_id), provider=stored.provider)
            erased += 1
    return erased
