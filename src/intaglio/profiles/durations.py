"""Lifetimes as ISO 8601 durations with calendar arithmetic: P1Y, P30D, PT1440M, P1Y6M10D."""

from __future__ import annotations

import calendar
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Annotated

from pydantic import BeforeValidator, InstanceOf, PlainSerializer

from intaglio.core.errors import InvalidInput

_PATTERN = re.compile(
    r"P(?=\d|T\d)(?:(?P<years>\d{1,4})Y)?(?:(?P<months>\d{1,5})M)?(?:(?P<weeks>\d{1,6})W)?(?:(?P<days>\d{1,7})D)?"
    r"(?:T(?=\d)(?:(?P<hours>\d{1,9})H)?(?:(?P<minutes>\d{1,10})M)?(?:(?P<seconds>\d{1,12})S)?)?",
    re.ASCII,
)


@dataclass(frozen=True)
class Duration:
    """A positive span: whole calendar months, then whole seconds.

    A year or month keeps the day of the month where it exists and takes the last day otherwise (29 February plus one
    year is 28 February).
    """

    months: int = 0
    seconds: int = 0

    @classmethod
    def parse(cls, text: str) -> Duration:
        """Read ``PnYnMnWnDTnHnMnS`` with whole numbers. Raises InvalidInput, also for a duration of zero.

        Source: ISO 8601-1 section 5.5.2.
        """
        match = _PATTERN.fullmatch(text.strip().upper())
        if match is None:
            raise _invalid(f'"{text[:40]}" is not an ISO 8601 duration.')
        part = {name: int(value or 0) for name, value in match.groupdict().items()}
        months = part["years"] * 12 + part["months"]
        days = part["weeks"] * 7 + part["days"]
        seconds = days * 86400 + part["hours"] * 3600 + part["minutes"] * 60 + part["seconds"]
        if not months and not seconds:
            raise _invalid("A validity of zero length makes no certificate.")
        return cls(months, seconds)

    def after(self, start: datetime) -> datetime:
        """The moment this long after ``start``. Raises InvalidInput beyond the year 9999."""
        try:
            month = start.month - 1 + self.months
            year, month = start.year + month // 12, month % 12 + 1
            if year > 9999:
                raise OverflowError
            day = start.day if start.day < 29 else min(start.day, calendar.monthrange(year, month)[1])
            return start.replace(year=year, month=month, day=day) + self._rest
        except OverflowError:
            raise _invalid(f"A validity of {self} from {start:%Y-%m-%d} ends after the year 9999.") from None

    @cached_property
    def _rest(self) -> timedelta:
        return timedelta(seconds=self.seconds)

    def __str__(self) -> str:
        years, months = divmod(self.months, 12)
        days, rest = divmod(self.seconds, 86400)
        hours, rest = divmod(rest, 3600)
        minutes, seconds = divmod(rest, 60)
        date = _units((years, "Y"), (months, "M"), (days, "D"))
        time = _units((hours, "H"), (minutes, "M"), (seconds, "S"))
        return f"P{date}T{time}" if time else f"P{date}"


def _units(*parts: tuple[int, str]) -> str:
    return "".join(f"{number}{unit}" for number, unit in parts if number)


def _invalid(detail: str) -> InvalidInput:
    return InvalidInput(
        detail,
        code="validity-unreadable",
        remedy="Write for example P1Y, P90D, PT1440M or P1Y6M10D.",
        target="validityPeriod",
    )


def _from_text(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return Duration.parse(value)
    except InvalidInput as error:
        raise ValueError(error.detail.rstrip(".")) from None


#: A Duration as a pydantic field, written as its ISO 8601 text.
DurationField = Annotated[InstanceOf[Duration], BeforeValidator(_from_text), PlainSerializer(str, return_type=str)]
