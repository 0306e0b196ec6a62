"""The validityPeriod of a request, in every spelling clients use."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from intaglio.core.errors import InvalidInput
from intaglio.profiles.durations import Duration
from intaglio.profiles.engine import RequestedValidity

_TARGET = "/optionalCertificateRequestDetails/validityPeriod"
_MOMENT = re.compile(
    r"(\d{4})-(\d{2})-(\d{2})(?:[Tt ](\d{2}):(\d{2})(?::(\d{2})(?:[.,]\d+)?)?\s*([Zz]|[+-]\d{2}:?\d{2})?)?",
    re.ASCII,
)


def parse_validity_period(text: str, *, target: str = _TARGET) -> RequestedValidity:
    """``start/end``, ``start/duration``, ``duration/end`` is not possible; a duration alone counts from now.

    Either side of the slash may be empty. Raises InvalidInput (``validity-unreadable``).
    Source: ISO 8601-1 section 5.5.4 (time intervals).
    """
    text = text.strip()
    if "/" not in text:
        if text[:1] in "Pp":
            return RequestedValidity(duration=_duration(text, target))
        return RequestedValidity(not_after=parse_moment(text, target=target))
    start, _, end = (part.strip() for part in text.partition("/"))
    if not start and not end:
        raise _unreadable(text, target)
    not_before = parse_moment(start, target=target) if start else None
    if end[:1] in ("P", "p"):
        return RequestedValidity(not_before=not_before, duration=_duration(end, target))
    return RequestedValidity(not_before=not_before, not_after=parse_moment(end, target=target) if end else None)


def parse_moment(text: str, *, target: str) -> datetime:
    """An ISO 8601 date and time: seconds and fractions may be missing, no zone means UTC, a date alone is midnight.

    Raises InvalidInput (``validity-unreadable``).
    """
    match = _MOMENT.fullmatch(text.strip())
    if match is None:
        raise _unreadable(text, target)
    year, month, day, hour, minute, second = (int(part or 0) for part in match.groups()[:6])
    try:
        moment = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
        return moment - _offset(match[7])
    except (ValueError, OverflowError):
        raise _unreadable(text, target) from None


def _offset(zone: str | None) -> timedelta:
    if zone is None or zone in "Zz":
        return timedelta()
    digits = zone[1:].replace(":", "")
    offset = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
    return -offset if zone[0] == "-" else offset


def _duration(text: str, target: str) -> Duration:
    try:
        return Duration.parse(text)
    except InvalidInput as error:
        raise InvalidInput(error.detail, code=error.code, remedy=error.remedy, target=target) from None


def _unreadable(text: str, target: str) -> InvalidInput:
    return InvalidInput(
        f'"{text[:80]}" is not a moment or period of time.',
        code="validity-unreadable",
        remedy="Write 2026-01-02T08:33:49Z, 2026-01-02T08:33:49Z/2027-01-02T08:33:49Z, P90D or PT1440M.",
        target=target,
    )
