"""Looks through a tree of code and configuration for verification that is switched off."""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from intaglio.mtls.posture.scanners import kubernetes, patterns, python_code
from intaglio.mtls.posture.scanners.findings import Finding, Limits, Report, with_waivers
from intaglio.mtls.posture.scanners.patterns import PATTERNS, Pattern
from intaglio.mtls.posture.scanners.trees import Blob, files, is_binary, scanned

_PYTHON = (".py", ".pyi", ".pyw")
_YAML = (".yml", ".yaml", ".json")
#: How a line comment starts, by file ending; what is not listed has ``#``.
_SLASHES = frozenset(
    {
        ".go", ".js", ".mjs", ".cjs", ".ts", ".mts", ".cts", ".jsx", ".tsx", ".java", ".kt", ".kts", ".scala",
        ".groovy", ".cs", ".fs", ".php", ".c", ".h", ".cc", ".cpp", ".cxx", ".hpp", ".m", ".mm", ".swift", ".rs",
    }
)  # fmt: skip
_LONGEST_LINE = 4_000
_SHOWN = 120


def scan_code(root: Path, *, limits: Limits = Limits(), gitignore: bool = False) -> Report:
    """Findings in the files below ``root`` (or in the one file ``root``).

    ``gitignore`` leaves out what git ignores. Raises InvalidInput (``path-unreadable``, ``not-a-repository``).
    """
    return scanned(files(root, limits, gitignore=gitignore), judge, limits)


def judge(blob: Blob) -> Iterator[Finding]:
    """Findings in one file, those with an exception in the file marked."""
    applicable = _applicable(blob.place)
    python = blob.place.endswith(_PYTHON)
    if not (applicable or python) or is_binary(blob.content):
        return
    text = blob.content.decode("utf-8", "replace")
    found = _python(blob.place, text) if python else _textual(blob.place, text, applicable)
    yield from with_waivers(found, text)


def _python(place: str, text: str) -> Iterator[Finding]:
    for line, column, what in python_code.findings(text):
        yield Finding(patterns.PYTHON, place, what, line, column)


def _textual(place: str, text: str, applicable: list[Pattern]) -> Iterator[Finding]:
    starts = _line_starts(text)
    seen: set[tuple[str, int]] = set()
    lowered = text.lower()
    comment = "//" if PurePosixPath(place).suffix in _SLASHES else "#"
    for pattern in applicable:
        if pattern.hints and not any(hint in lowered for hint in pattern.hints):
            continue
        for match in pattern.expression.finditer(text):
            at = match.start() + len(match[0]) - len(match[0].lstrip())
            line = bisect.bisect_right(starts, at)
            begin = starts[line - 1]
            if (pattern.rule.id, line) in seen or _in_comment(text[begin : min(at, begin + _LONGEST_LINE)], comment):
                continue
            seen.add((pattern.rule.id, line))
            yield Finding(pattern.rule, place, _shown(match[0]), line, at - begin + 1)
    if place.endswith(_YAML):
        for line, what in kubernetes.unverified(text):
            yield Finding(patterns.ISTIO, place, what, line, 1)


def _applicable(place: str) -> list[Pattern]:
    name = PurePosixPath(place).name
    if name.startswith(("Dockerfile.", "Containerfile.")):
        name = "Dockerfile"
    return [each for each in PATTERNS if name.endswith(each.files)]


def _line_starts(text: str) -> list[int]:
    return [0, *(match.end() for match in re.finditer("\n", text))]


def _in_comment(before: str, comment: str) -> bool:
    """Whether the part of the line in front of a match opens a comment."""
    stripped = before.lstrip()
    if stripped.startswith((comment, "*", "/*", "<!--", ";")) or (comment == "#" and stripped.startswith("//")):
        return True
    position = before.find(f" {comment}")
    return position >= 0 and before[:position].count('"') % 2 == 0 and before[:position].count("'") % 2 == 0


def _shown(text: str) -> str:
    return " ".join(text.split())[:_SHOWN]
