"""Bearer tokens: their form, and how they are stored.

``igt_`` + 43 characters of randomness (256 bits) + 6 characters of checksum, all base 62. The prefix lets scanners
find leaked tokens, the checksum lets them (and us) discard what only looks like one without asking the database.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import string
import zlib

PREFIX = "igt_"
_ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
_RANDOM_LENGTH, _CHECKSUM_LENGTH = 43, 6
_FORM = re.compile(rf"{PREFIX}[0-9A-Za-z]{{{_RANDOM_LENGTH + _CHECKSUM_LENGTH}}}")


def new_token() -> str:
    """A fresh token. It is shown once and stored only as :func:`token_hash`."""
    body = "".join(secrets.choice(_ALPHABET) for _ in range(_RANDOM_LENGTH))
    return PREFIX + body + _checksum(body)


def is_token(text: str) -> bool:
    """Whether ``text`` has the form and the checksum of a token."""
    body = text[len(PREFIX) : len(PREFIX) + _RANDOM_LENGTH]
    return _FORM.fullmatch(text) is not None and text[-_CHECKSUM_LENGTH:] == _checksum(body)


def token_hash(token: str) -> bytes:
    """SHA-256 of a token. No salt and no stretching: the token has 256 bits of entropy."""
    return hashlib.sha256(token.encode()).digest()


def _checksum(body: str) -> str:
    value, digits = zlib.crc32((PREFIX + body).encode()), ""
    for _ in range(_CHECKSUM_LENGTH):
        value, digit = divmod(value, len(_ALPHABET))
        digits = _ALPHABET[digit] + digits
    return digits
