"""What a scanner finds, how an exception is written down next to it, and how far a scan goes."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import date
from enum import StrEnum

from intaglio.core import clock


class Severity(StrEnum):
    """SARIF levels."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True)
class Rule:
    """What is looked for: a stable id, one sentence for people, and what to do instead."""

    id: str
    title: str
    remedy: str
    severity: Severity = Severity.ERROR


@dataclass(frozen=True)
class Finding:
    """One occurrence. ``place`` is a path, an address or a path inside an image or a commit; ``line`` counts from 1.

    ``waived`` is the reason of an exception, None when there is none. ``text`` never contains a secret.
    """

    rule: Rule
    place: str
    text: str
    line: int | None = None
    column: int | None = None
    waived: str | None = None

    @property
    def fingerprint(self) -> str:
        """Stays the same when lines move: rule, place and what was found."""
        what = f"{self.rule.id}\0{self.place}\0{self.text}"
        return hashlib.sha256(what.encode("utf-8", "surrogateescape")).hexdigest()[:32]


@dataclass(frozen=True)
class Limits:
    """How far a scan goes: octets of one file, number of files and findings, seconds."""

    octets: int = 2 * 1024 * 1024
    files: int = 200_000
    findings: int = 10_000
    seconds: float = 300.0


@dataclass
class Report:
    """The findings of a scan, and whether it saw everything. ``skipped`` are places it did not look into, with why."""

    findings: list[Finding] = field(default_factory=list)
    files: int = 0
    skipped: list[tuple[str, str]] = field(default_factory=list)
    complete: bool = True

    @property
    def open(self) -> list[Finding]:
        """Findings without an exception."""
        return [each for each in self.findings if each.waived is None]

    @property
    def failed(self) -> bool:
        """Whether there is an open finding worse than a note."""
        return any(each.rule.severity is not Severity.NOTE for each in self.open)


# ---- exceptions ------------------------------------------------------------------------------------------------------

#: ``scan: allow RULE until 2027-01-31 because REASON`` in a comment on the line itself or the line above.
_WAIVER = re.compile(
    r"\bscan:\s*allow\s+(?P<rule>[a-z0-9-]{3,60})(?:\s+until\s+(?P<until>\d{4}-\d{2}-\d{2}))?\s+because\s+(?P<reason>\S.{4,200})"
)
_COMMENT_END = re.compile(r"\s*(?:\*/|-->|#}|\*\))\s*$")


def waivers(text: str) -> dict[tuple[int, str], str]:
    """Reason by (line, rule) of every exception that is in force; it holds for its line and the next."""
    found: dict[tuple[int, str], str] = {}
    if "scan:" not in text:
        return found
    today = clock.now().date()
    for number, line in enumerate(text.splitlines(), start=1):
        match = _WAIVER.search(line[:1000])
        if match is None or _over(match["until"], today):
            continue
        reason = _COMMENT_END.sub("", match["reason"])
        for covered in (number, number + 1):
            found[covered, match["rule"]] = reason
    return found


def with_waivers(findings: Iterable[Finding], text: str) -> Iterator[Finding]:
    """The findings of one file, those with an exception marked."""
    known = waivers(text)
    for each in findings:
        reason = known.get((each.line or 0, each.rule.id))
        yield replace(each, waived=reason) if reason else each


def _over(until: str | None, today: date) -> bool:
    if until is None:
        return False
    try:
        return date.fromisoformat(until) < today
    except ValueError:
        return True
