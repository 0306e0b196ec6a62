"""Nonces: given without writing anything, and taken once, over all processes and hosts.

A nonce names the key it was made under, says when, and carries a MAC; so nothing is stored of those that nobody uses.
Which were used is in the database, as long as they could be used again. Key and used nonces are in unlogged tables:
when PostgreSQL loses them after a crash, or a standby takes over, it loses both, and no nonce of before is good any
more. A client then gets ``badNonce`` with a new one, and repeats its request by itself (RFC 8555 section 6.5).

The key protects nothing but the size of the table (a nonce is free for whoever asks), so it is not sealed.
"""

from __future__ import annotations

import hmac
import os
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import text

from intaglio.core import clock
from intaglio.core.errors import Unavailable
from intaglio.db.engine import Database, Transaction
from intaglio.enrollment.acme.errors import BadNonce, Malformed
from intaglio.enrollment.acme.strict_json import decode_base64url, encode_base64url

#: For how long a nonce can be used.
LIFETIME: Final = timedelta(minutes=15)
#: By how much the clocks of two hosts may differ.
_TOLERANCE: Final = timedelta(minutes=1)
_KEY_ID: Final = 4
_TIME: Final = 4
_RANDOM: Final = 8
_MAC: Final = 16
_BODY: Final = _KEY_ID + _TIME + _RANDOM

_MAKE_KEY = text("INSERT INTO acme_nonce_key (id, name, key) VALUES (1, :name, :key) ON CONFLICT DO NOTHING")
_READ_KEY = text("SELECT name, key FROM acme_nonce_key WHERE id = 1")
_PRUNE = text("DELETE FROM acme_nonce WHERE expires_at < :now")


@dataclass(frozen=True)
class _Key:
    name: bytes
    secret: bytes = field(repr=False)

    def mac(self, body: bytes) -> bytes:
        return hmac.digest(self.secret, body, "sha256")[:_MAC]


@dataclass(frozen=True)
class OpenedNonce:
    """A nonce that is one of ours and not too old; whether it was used, the database knows."""

    body: bytes
    expires_at: datetime
    key_name: bytes


class Nonces:
    """The nonces that one process gives and recognizes."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._key: _Key | None = None

    async def fresh(self) -> str:
        """A new nonce. Raises Unavailable, TimedOut when there is no key yet and the database does not answer."""
        key = self._key or await self._load()
        body = key.name + int(clock.now().timestamp()).to_bytes(_TIME, "big") + os.urandom(_RANDOM)
        return encode_base64url(body + key.mac(body))

    async def opened(self, nonce: str) -> OpenedNonce:
        """A nonce as it came. Raises BadNonce for one that is not ours or too old; Unavailable, TimedOut."""
        key = self._key or await self._load()
        try:
            octets = decode_base64url(nonce, "The nonce")
        except Malformed:
            raise BadNonce("The nonce is not base64url.") from None
        body, mac = octets[:_BODY], octets[_BODY:]
        if len(octets) != _BODY + _MAC or body[:_KEY_ID] != key.name or not hmac.compare_digest(mac, key.mac(body)):
            raise BadNonce("The nonce is not one of this server, or from before a restart of its database.")
        made = datetime.fromtimestamp(int.from_bytes(body[_KEY_ID : _KEY_ID + _TIME], "big"), UTC)
        if not made - _TOLERANCE <= clock.now() <= made + LIFETIME:
            raise BadNonce("The nonce is too old.")
        return OpenedNonce(body, made + LIFETIME, key.name)

    def forget_key(self, name: bytes) -> None:
        """The key of this name is no longer in the database: nonces are made under the one that is."""
        if self._key is not None and self._key.name == name:
            self._key = None

    async def _load(self) -> _Key:
        async with self._database.transaction() as tx:
            row = await tx.one_or_none(_READ_KEY)
            if row is None:
                await tx.execute(_MAKE_KEY, {"name": os.urandom(_KEY_ID), "key": os.urandom(32)})
                row = await tx.one_or_none(_READ_KEY)
        if row is None:  # the tables were emptied this moment
            raise Unavailable("There is no key for nonces yet.", retry_after=1)
        self._key = _Key(bytes(row["name"]), bytes(row["key"]))
        return self._key


async def prune(tx: Transaction) -> None:
    """Forget the used nonces that are too old to be used again."""
    await tx.execute(_PRUNE, {"now": clock.now() - _TOLERANCE})
