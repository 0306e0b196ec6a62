"""Passwords of key files and PKCS #12: how good one is, and generated ones."""

from __future__ import annotations

import hmac
import math
import secrets
from dataclasses import dataclass

from pydantic import SecretStr

from intaglio.core.errors import InvalidInput
from intaglio.identity import passwords as accounts

#: Characters of generated passwords: none that look alike, none that a shell or a keyboard layout changes.
_ALPHABET = "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789"
_GROUP = 5
FEWEST_BITS, DEFAULT_BITS, MOST_BITS = 64, 128, 512
SHORTEST, LONGEST = 12, 256
LOWEST_SCORE = accounts.LOWEST_SCORE


@dataclass(frozen=True)
class Strength:
    """How hard a password is to guess: ``score`` 0 to 4, ``sufficient`` for a key, ``advice`` in a sentence."""

    score: int
    sufficient: bool
    advice: str


def generate(bits: int = DEFAULT_BITS) -> str:
    """A random password with at least ``bits`` of entropy (64 to 512), in groups of five for reading aloud."""
    if not FEWEST_BITS <= bits <= MOST_BITS:
        raise InvalidInput(
            f"{bits} bits are not within {FEWEST_BITS} to {MOST_BITS}.", code="password-bits-out-of-range"
        )
    length = math.ceil(bits / math.log2(len(_ALPHABET)))
    text = "".join(secrets.choice(_ALPHABET) for _ in range(length))
    return "-".join(text[i : i + _GROUP] for i in range(0, length, _GROUP))


def strength(password: str, *, known: tuple[str, ...] = ()) -> Strength:
    """How good ``password`` is against somebody who has the file and the ``known`` words (names in the certificate)."""
    if not password:
        return Strength(0, False, "It is empty.")
    score, advice = accounts.strength(SecretStr(password), known=known)
    if len(password) < SHORTEST:
        return Strength(min(score, 2), False, f"Use at least {SHORTEST} characters. {advice}".strip())
    return Strength(score, score >= LOWEST_SCORE and len(password) <= LONGEST, advice)


def require_strong(password: str, *, known: tuple[str, ...] = ()) -> None:
    """Raise InvalidInput (``password-too-weak``) unless the password would hold against an attacker with the file."""
    accounts.require_strong(SecretStr(password), known=known)


def same(one: str, other: str) -> bool:
    """Whether two passwords are equal, compared in constant time. Key file and PKCS #12 should have distinct ones."""
    return hmac.compare_digest(one.encode(), other.encode())
