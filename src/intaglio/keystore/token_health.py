"""Whether the configured tokens work, asked now and then and remembered for a moment.

Asking means using: a session is taken, and a private key of ours is looked for in the token, as a signature would.
"""

from __future__ import annotations

import asyncio
from uuid import UUID

from sqlalchemy import select

from intaglio.core.clock import monotonic
from intaglio.core.errors import IntaglioError
from intaglio.keystore.models import hsm_token, private_key
from intaglio.keystore.tokens import PREFIX, Tokens, key_references

_REMEMBERED = 3.0  # seconds
_PATIENCE = 1.5  # seconds for all tokens together


class TokenHealth:
    """The state of every token, for those who ask often: ``ok``, or the code of what is wrong."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens
        self._database = tokens.database
        self._states: dict[str, str] = {}
        self._at = -_REMEMBERED
        self._asking = asyncio.Lock()

    async def states(self) -> dict[str, str]:
        """The state of every configured token, by provider. Raises Unavailable when the database is away."""
        async with self._asking:
            if monotonic() - self._at >= _REMEMBERED:
                self._states, self._at = await self._ask(), monotonic()
        return self._states

    async def keys_out_of_reach(self) -> dict[UUID, str]:
        """The private keys in tokens that do not work, with what is wrong."""
        faulty = {name: state for name, state in (await self.states()).items() if state != "ok"}
        if not faulty:
            return {}
        c = private_key.c
        async with self._database.read() as view:
            rows = await view.all(select(c.id, c.provider).where(c.provider.in_(faulty), c.destroyed_at.is_(None)))
        return {row["id"]: faulty[row["provider"]] for row in rows}

    async def _ask(self) -> dict[str, str]:
        async with self._database.read() as view:
            names = [PREFIX + row["name"] for row in await view.all(select(hsm_token.c.name))]
            references = await key_references(view) if names else {}
        found = await asyncio.gather(*(self._state(name, references.get(name, [])) for name in names))
        return dict(zip(names, found, strict=True))

    async def _state(self, name: str, references: list[bytes]) -> str:
        try:
            async with asyncio.timeout(_PATIENCE):
                async with self._database.read() as view:
                    provider = await self._tokens.provider(view, name)
                if provider is not None:
                    await provider.dispatcher.run(lambda: provider.examine(references[:1]))
        except IntaglioError as error:
            return error.code
        except TimeoutError:
            return "token-unavailable"
        return "ok"
