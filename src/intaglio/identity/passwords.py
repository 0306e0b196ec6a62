"""Passwords: strength, hashing with Argon2id, verification without telling whether the user exists."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from argon2 import PasswordHasher, Type
from argon2.exceptions import InvalidHashError, VerificationError
from pydantic import SecretStr

from intaglio.core.errors import InvalidInput, RateLimited

T = TypeVar("T")

SHORTEST, LONGEST = 12, 256
LOWEST_SCORE = 3  # of 4
_STRENGTH_WINDOW = 72  # zxcvbn's own limit; its cost grows faster than the length

# RFC 9106 section 4 parameter choice, with less memory so that a worker process stays small.
_hasher = PasswordHasher(time_cost=3, memory_cost=32 * 1024, parallelism=1, type=Type.ID)
_threads = ThreadPoolExecutor(2, thread_name_prefix="argon2")
_waiting = 0
_MOST_WAITING = 64


def require_strong(password: SecretStr, *, known: tuple[str, ...] = (), target: str = "password") -> None:
    """Raise InvalidInput (code ``password-too-weak``) unless the password is long and hard to guess.

    ``known`` are words an attacker knows, such as the user's name and address.
    """
    value = password.get_secret_value()
    if not SHORTEST <= len(value) <= LONGEST:
        raise InvalidInput(
            f"A password has {SHORTEST} to {LONGEST} characters.", code="password-too-weak", target=target
        )
    score, advice = strength(password, known=known)
    if score < LOWEST_SCORE:
        raise InvalidInput(
            f"The password is too easy to guess (strength {score} of 4, needed {LOWEST_SCORE}).",
            code="password-too-weak",
            remedy=advice or "Use several uncommon words or a generated password.",
            target=target,
        )


def strength(password: SecretStr, *, known: tuple[str, ...] = ()) -> tuple[int, str]:
    """How hard the password is to guess: 0 to 4, and advice in one or two sentences."""
    from zxcvbn import zxcvbn  # 1 MiB of dictionaries: loaded when the first password is set

    verdict = zxcvbn(password.get_secret_value()[:_STRENGTH_WINDOW], user_inputs=[word for word in known if word])
    feedback = verdict["feedback"]
    return int(verdict["score"]), " ".join(part for part in (feedback["warning"], *feedback["suggestions"]) if part)


async def hashed(password: SecretStr) -> str:
    """The Argon2id hash in PHC string format, computed in a thread."""
    return await _in_thread(_hasher.hash, password.get_secret_value())


async def matches(stored: str | None, password: SecretStr) -> bool:
    """Whether the password has this hash. Takes as long when there is no hash (no such user, no password set).

    Raises RateLimited when too many verifications wait already.
    """
    return await _in_thread(_verify, stored, password.get_secret_value()[: LONGEST + 1])


def _verify(stored: str | None, value: str) -> bool:
    try:
        _hasher.verify(stored or _nobodys_hash(), value)
    except (VerificationError, InvalidHashError):
        return False
    return stored is not None and len(value) <= LONGEST


@functools.cache
def _nobodys_hash() -> str:
    return _hasher.hash("nobody has this password")


async def _in_thread(call: Callable[..., T], *arguments: object) -> T:
    global _waiting
    if _waiting >= _MOST_WAITING:
        raise RateLimited("Too many logins at a time.", code="too-many-logins", retry_after=2)
    _waiting += 1
    try:
        return await asyncio.get_running_loop().run_in_executor(_threads, call, *arguments)
    finally:
        _waiting -= 1
