"""Conditions on the claims of an identity token: which of an issuer's many tokens prove one identity.

A condition is a claim with the values it may have; all claims must fit, for each one value is enough. A value is exact,
or ends with ``*`` after one of ``/ : . -`` and stands for everything that begins so: ``repo:acme/shop:ref:*`` is said
by nobody but that repository, which ``repo:acme*`` would not be.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from intaglio.core.errors import InvalidInput

Conditions = Mapping[str, Sequence[str]]

_CLAIM = re.compile(r"[A-Za-z_][A-Za-z0-9_./:-]{0,127}")
_MOST_CLAIMS, _MOST_VALUES, _LONGEST = 20, 50, 500
_WILDCARD_AFTER = "/:.-"
#: Claims that every token of an issuer has alike, or that say nothing about who asks.
_TELL_NOTHING = frozenset({"iss", "aud", "exp", "nbf", "iat", "jti"})


def checked(given: Conditions) -> dict[str, list[str]]:
    """Conditions in the form they are kept in. Raises InvalidInput (``conditions-invalid``)."""
    if not 1 <= len(given) <= _MOST_CLAIMS or not given.keys() - _TELL_NOTHING:
        raise _invalid(
            "A pipeline needs a condition that tells it from others.", "Say which sub, repository or project it is."
        )
    return {_claim(name): _values(name, values) for name, values in given.items()}


def hold(conditions: Conditions, claims: Mapping[str, Any]) -> bool:
    """Whether claims fit. A claim that is a list fits when one of its members does."""
    return all(_fits(claims.get(name), values) for name, values in conditions.items())


def _fits(claim: Any, values: Sequence[str]) -> bool:
    members = claim if isinstance(claim, list) else [claim]
    texts = [text for text in map(_text, members) if text is not None]
    return any(_matches(value, text) for value in values for text in texts)


def _matches(value: str, text: str) -> bool:
    return text.startswith(value[:-1]) and len(text) >= len(value) if value.endswith("*") else text == value


def _text(member: Any) -> str | None:
    """A claim as it is compared: text as it is, ``true`` and ``false``, whole numbers in digits; nothing else."""
    if isinstance(member, bool):
        return "true" if member else "false"
    if isinstance(member, int):
        return str(member)
    return member if isinstance(member, str) else None


def _claim(name: str) -> str:
    if _CLAIM.fullmatch(name) is None:
        raise _invalid(f'"{name[:40]}" is not the name of a claim.', "Write it as it stands in the token.")
    return name


def _values(name: str, values: Sequence[str]) -> list[str]:
    if not 1 <= len(values) <= _MOST_VALUES:
        raise _invalid(f"The claim {name} needs 1 to {_MOST_VALUES} values.", "")
    for value in values:
        if not 0 < len(value) <= _LONGEST or not value.isprintable():
            raise _invalid(f"A value of {name} has 1 to {_LONGEST} printable characters.", "")
        body = value.removesuffix("*")
        if "*" in body or (value.endswith("*") and body[-1:] not in tuple(_WILDCARD_AFTER)):
            raise _invalid(
                f'"{value[:80]}" may stand for more than is meant.',
                f"A * is the last character, after one of {' '.join(_WILDCARD_AFTER)}.",
            )
    return list(dict.fromkeys(values))


def _invalid(detail: str, remedy: str) -> InvalidInput:
    return InvalidInput(detail, code="conditions-invalid", remedy=remedy, target="conditions")
