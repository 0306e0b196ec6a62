"""JSON and base64url from outside, read so that two readers cannot understand it differently."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any, NoReturn

from intaglio.enrollment.acme.errors import Malformed


def read_object(data: bytes, what: str) -> dict[str, Any]:
    """The JSON object in ``data``: UTF-8, no name twice, no NaN, no lone surrogates. Raises Malformed."""
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
        if not isinstance(value, dict):
            raise Malformed(f"{what} is not a JSON object.")
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError):  # UnicodeError is a ValueError
        raise Malformed(f"{what} is not well-formed JSON.") from None
    return value


def text_member(values: dict[str, Any], name: str, what: str) -> str:
    """A member that has to be a string. Raises Malformed."""
    value = values.get(name)
    if not isinstance(value, str):
        raise Malformed(f'{what} has no string "{name}".')
    return value


def decode_base64url(text: str, what: str) -> bytes:
    """The octets of base64url without padding, in the one spelling there is (RFC 7515 section 2). Raises Malformed."""
    try:
        octets = text.encode("ascii")
        decoded = base64.b64decode(octets + b"=" * (-len(octets) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise Malformed(f"{what} is not base64url.") from None
    if encode_base64url(decoded) != text:
        raise Malformed(f"{what} is not base64url without padding.")
    return decoded


def encode_base64url(octets: bytes) -> str:
    """base64url without padding."""
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode("ascii")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name occurs twice")
    return found


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")
