"""Whether keys are where they belong, asked for health; what is known is remembered, for anybody may ask."""

from __future__ import annotations

import asyncio
from typing import Final
from uuid import UUID

from intaglio.core.clock import monotonic
from intaglio.core.errors import IntaglioError
from intaglio.keystore.service import KeyStore, Signer

_REMEMBERED: Final = 3.0  # seconds
_PATIENCE: Final = 1.5  # seconds for one token; whoever asks for health does not wait for long


class KeyProofs:
    """Proofs of one process: a key in a token signs something, at most once in a while."""

    def __init__(self, keystore: KeyStore) -> None:
        self._keystore = keystore
        self._known: dict[UUID, tuple[float, str]] = {}
        self._lock = asyncio.Lock()

    async def trouble(self, key: Signer) -> str:
        """What is wrong with a key; empty when nothing is. Keys that sign inline are in memory and need no proof."""
        if key.inline:
            return ""
        async with self._lock:
            at, said = self._known.get(key.key_id, (float("-inf"), ""))
            if monotonic() - at > _REMEMBERED:
                said = await self._prove(key)
                self._known[key.key_id] = monotonic(), said
            return said

    async def _prove(self, key: Signer) -> str:
        try:
            async with asyncio.timeout(_PATIENCE):
                await self._keystore.prove(key)
        except IntaglioError as error:
            return error.detail
        except TimeoutError:
            return f"The key does not answer within {_PATIENCE:g} seconds."
        return ""
