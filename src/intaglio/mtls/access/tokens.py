"""Ingress tokens: how an enforcement point proves to the decision endpoint which ingress it is.

``igi_`` + 43 characters of randomness (256 bits) + 6 characters of checksum, all base 62.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import string
import zlib
from functools import lru_cache

PREFIX = "igi_"
_ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
_RANDOM, _CHECK = 43, 6
_FORM = re.compile(rf"{PREFIX}[0-9A-Za-z]{{{_RANDOM + _CHECK}}}")


def new_token() -> str:
    """A fresh token. It is shown once and stored only as :func:`token_hash`."""
    body = "".join(secrets.choice(_ALPHABET) for _ in range(_RANDOM))
    return PREFIX + body + _checksum(body)


@lru_cache(maxsize=1024)
def token_hash(token: str) -> bytes | None:
    """SHA-256 of a token, None for what cannot be one. No salt and no stretching: it has 256 bits of entropy."""
    if _FORM.fullmatch(token) is None or token[-_CHECK:] != _checksum(token[len(PREFIX) : -_CHECK]):
        return None
    return hashlib.sha256(token.encode()).digest()


def _checksum(body: str) -> str:
    value, digits = zlib.crc32((PREFIX + body).encode()), ""
    for _ in range(_CHECK):
        value, digit = divmod(value, len(_ALPHABET))
        digits = _ALPHABET[digit] + digits
    return digits
