"""Security codes as text: made by the system, read back however people type them.

A code is 25 symbols of Crockford's base32 in groups of five, ``7M2QX-...``. The first group, the handle, finds the code
in the database and proves nothing; the other twenty are 100 random bits, of which only a keyed hash is stored.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass, field
from uuid import UUID

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
HANDLE_SYMBOLS, SECRET_SYMBOLS, GROUP = 5, 20, 5
_LONGEST_TEXT = 200
#: What people read instead: Crockford's base32 has no I, L, O, and gives the letters the value they look like.
_READ_AS = {"O": "0", "I": "1", "L": "1"}
_SEPARATORS = " -\t\r\n\u2010\u2011\u2012\u2013\u2014\u00a0"
_FORGIVEN = str.maketrans(_READ_AS | dict.fromkeys(_SEPARATORS))


@dataclass(frozen=True)
class SecurityCode:
    """A code in its two parts."""

    handle: str
    secret: str = field(repr=False)

    @property
    def text(self) -> str:
        """How it is shown: groups of five symbols."""
        symbols = self.handle + self.secret
        return "-".join(symbols[i : i + GROUP] for i in range(0, len(symbols), GROUP))


def new_code() -> SecurityCode:
    """A fresh code."""
    return SecurityCode(_random(HANDLE_SYMBOLS), _random(SECRET_SYMBOLS))


def read_code(text: str) -> SecurityCode | None:
    """The code a person typed, whatever its case, dashes and spaces; None when it cannot be one."""
    if len(text) > _LONGEST_TEXT:
        return None
    symbols = text.upper().translate(_FORGIVEN)
    if len(symbols) != HANDLE_SYMBOLS + SECRET_SYMBOLS or not set(symbols) <= set(ALPHABET):
        return None
    return SecurityCode(symbols[:HANDLE_SYMBOLS], symbols[HANDLE_SYMBOLS:])


def code_hash(server_key: bytes, code_id: UUID, code: SecurityCode) -> bytes:
    """What is stored of a code: HMAC-SHA-256 under the server key, bound to its row."""
    message = b"security code\0" + code_id.bytes + code.handle.encode() + code.secret.encode()
    return hmac.digest(server_key, message, hashlib.sha256)


def _random(symbols: int) -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(symbols))
