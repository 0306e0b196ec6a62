"""What bearer tokens of automatic issuance look like.

A prefix that secret scanners find, 43 characters of randomness (256 bits), 6 of checksum, all base 62. A bootstrap
token has a handle of 12 characters before them, which names it in lists and logs and proves nothing.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import string
import zlib

BOOTSTRAP = "igb_"
LOGIN = "igv_"
_ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
_HANDLE, _RANDOM, _CHECK = 12, 43, 6
_BOOTSTRAP_FORM = re.compile(rf"{BOOTSTRAP}[0-9A-Za-z]{{{_HANDLE + _RANDOM + _CHECK}}}", re.ASCII)
_LOGIN_FORM = re.compile(rf"{LOGIN}[0-9A-Za-z]{{{_RANDOM + _CHECK}}}", re.ASCII)


def new_bootstrap() -> str:
    """A fresh bootstrap token; it is shown once and kept only as a hash."""
    return _complete(BOOTSTRAP, _HANDLE + _RANDOM)


def new_login() -> str:
    """A fresh token of the Vault-compatible interface."""
    return _complete(LOGIN, _RANDOM)


def handle_of(token: str) -> str | None:
    """The handle of a bootstrap token; None for what cannot be one."""
    if _BOOTSTRAP_FORM.fullmatch(token) is None or not _is_complete(BOOTSTRAP, token):
        return None
    return token[len(BOOTSTRAP) :][:_HANDLE]


def is_login(token: str) -> bool:
    """Whether this can be a token of the Vault-compatible interface."""
    return _LOGIN_FORM.fullmatch(token) is not None and _is_complete(LOGIN, token)


def hash_of(token: str) -> bytes:
    """What is kept of a token: SHA-256, without salt or stretching, because it has 256 bits of entropy."""
    return hashlib.sha256(token.encode()).digest()


def _complete(prefix: str, length: int) -> str:
    body = "".join(secrets.choice(_ALPHABET) for _ in range(length))
    return prefix + body + _checksum(prefix, body)


def _is_complete(prefix: str, token: str) -> bool:
    return token[-_CHECK:] == _checksum(prefix, token[len(prefix) : -_CHECK])


def _checksum(prefix: str, body: str) -> str:
    value, digits = zlib.crc32((prefix + body).encode()), ""
    for _ in range(_CHECK):
        value, digit = divmod(value, len(_ALPHABET))
        digits = _ALPHABET[digit] + digits
    return digits
