"""Printing: tables for people, JSON for programs; results to standard output, everything else to standard error.

Much of what is printed was chosen by strangers: names in certificates, paths of requests, files that were scanned. None
of it may command the terminal, or look like a row of ours.
"""

from __future__ import annotations

import contextlib
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from intaglio.core.errors import IntaglioError


class Output:
    """Where a command's result goes. ``as_json`` prints exactly one JSON value per result."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json

    def result(self, value: Any, text: str | None = None) -> None:
        """A result: the value as JSON, or ``text`` for people (default: as a list of its members)."""
        if self.as_json:
            print(_json(value))
        elif text is not None:
            print(harmless(text))
        else:
            self.members(value)

    def table(self, rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str], *, empty: str = "None.") -> None:
        """Rows as a table: ``columns`` maps a member (dotted for nested ones) to its heading."""
        if self.as_json:
            print(_json(list(rows)))
            return
        if not rows:
            self.note(empty)
            return
        from rich.box import SIMPLE_HEAD
        from rich.table import Table

        table = Table(box=SIMPLE_HEAD, pad_edge=False)
        for heading in columns.values():
            table.add_column(heading, overflow="fold")
        for row in rows:
            # A line end in a value would begin something that looks like a row of its own.
            table.add_row(*(_cell(_member(row, path)).replace("\n", "\\n") for path in columns))
        self._console().print(table)

    def members(self, value: Mapping[str, Any]) -> None:
        """One object for people: its members below each other, empty ones left out."""
        from rich.table import Table

        table = Table(box=None, show_header=False, pad_edge=False)
        table.add_column(style="bold")
        table.add_column(overflow="fold")
        for name, member in value.items():
            if member not in (None, "", [], {}):
                table.add_row(name.replace("_", " "), _cell(member))
        self._console().print(table)

    def note(self, text: str) -> None:
        """A sentence for the person at the terminal; not part of the result."""
        if not self.as_json:
            print(harmless(text), file=sys.stderr)

    def warning(self, text: str) -> None:
        print(harmless(f"warning: {text}"), file=sys.stderr)

    def error(self, detail: str, remedy: str = "") -> None:
        print(harmless(f"error: {detail} {remedy}".rstrip()), file=sys.stderr)

    def refusal(self, error: IntaglioError) -> None:
        """A refusal on standard error: a sentence with its remedy, or an object with ``--json``."""
        if self.as_json:
            members = {"code": error.code, "detail": error.detail, "remedy": error.remedy, "target": error.target}
            fields = [{"target": target, "message": message} for target, message in error.fields]
            print(json.dumps({"error": {**members, "errors": fields, **error.extra}}, indent=2), file=sys.stderr)
            return
        self.error(error.detail, error.remedy)
        for target, message in error.fields:
            if message == error.detail:
                continue
            print(harmless(f"  {target}: {message}"), file=sys.stderr)
        for blocking in error.extra.get("blocking", ()):
            print(f"  {_cell(blocking)}", file=sys.stderr)

    @contextlib.contextmanager
    def waiting(self, text: str) -> Iterator[None]:
        """Show that something is under way, on a terminal only."""
        if self.as_json or not sys.stderr.isatty():
            yield
            return
        from rich.console import Console

        with Console(stderr=True).status(text):
            yield

    def _console(self) -> Any:
        from rich.console import Console

        # Output that is not a terminal is read by programs such as grep: one row must stay one line.
        return Console(width=None if sys.stdout.isatty() else 100_000, highlight=False, markup=False, emoji=False)


#: Controls of the terminal (C0 and C1), of the direction of writing, other ends of lines, and what cannot be encoded.
_COMMANDING = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def harmless(text: str) -> str:
    """A text with everything that could command a terminal spelt out; line ends and tabulators stay."""
    return _COMMANDING.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def _json(value: Any) -> str:
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return _COMMANDING.sub(lambda found: json.dumps(found[0])[1:-1], text)


def _member(row: Mapping[str, Any], path: str) -> Any:
    value: Any = row
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={_cell(member)}" for name, member in value.items() if member not in (None, ""))
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(_cell(member) for member in value)
    return harmless(str(value))
