"""Timestamp responses around finished tokens. Source: RFC 3161 section 2.4.2."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from intaglio.asn1 import der
from intaglio.timestamping.rejections import Failure

_GRANTED: Final = der.sequence(der.integer(0))
_REJECTION: Final = der.integer(2)
_LONGEST_TEXT: Final = 300


def granted(token: bytes) -> bytes:
    """TimeStampResp with a token (a ContentInfo in DER)."""
    return _before(len(token)) + token


@lru_cache(maxsize=256)
def _before(octets: int) -> bytes:
    """What stands before a token of that length."""
    return der.tlv(der.SEQUENCE, _GRANTED + bytes(octets))[:-octets]


@lru_cache(maxsize=256)
def rejected(failure: Failure, text: str) -> bytes:
    """TimeStampResp without a token; ``text`` tells a person why."""
    status = der.sequence(
        _REJECTION,
        der.sequence(der.utf8_string(text[:_LONGEST_TEXT])),
        der.named_bits(frozenset((int(failure),))),
    )
    return der.sequence(status)
