"""Reading lists of identities from CSV and JSON files."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

from intaglio.core.errors import InvalidInput

COLUMNS = (
    *("domain", "kind", "name", "display_name", "email", "team", "service", "roles", "version", "owner", "dns_names"),
    "properties",
)
_LISTS = ("roles", "dns_names")
_MOST = 100_000
_LARGEST = 32 << 20  # characters
_LONGEST_VALUE = 4096


def read_identities(text: str, *, domain: str = "", kind: str = "") -> list[dict[str, Any]]:
    """The identities in a CSV file with a header line, or in a JSON list of objects, as the API takes them.

    ``domain`` and ``kind`` are those of entries that name none. In CSV, roles and DNS names are separated by spaces.
    At most 100,000 entries in 32 MiB. Raises InvalidInput (``import-invalid``) naming the line or entry.
    """
    if len(text) > _LARGEST:
        raise _invalid(f"it has more than {_LARGEST} characters")
    text = text.removeprefix("\ufeff")
    rows = _from_json(text) if text.lstrip()[:1] in ("[", "{") else _from_csv(text)
    if not rows:
        raise _invalid("it names nobody")
    return [{"domain": domain, "kind": kind} | {k: v for k, v in row.items() if v not in ("", None)} for row in rows]


def _from_csv(text: str) -> list[dict[str, Any]]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True, restkey="too many values")
    found: list[dict[str, Any]] = []
    try:
        columns = [name.strip().lower() for name in reader.fieldnames or ()]
        _check_columns(columns, "the header line")
        if "properties" in columns:
            raise _invalid("properties are for JSON files only")
        reader.fieldnames = columns
        for row in reader:
            if len(found) >= _MOST:
                raise _invalid(f"it has more than {_MOST} entries")
            if "too many values" in row:
                raise _invalid(f"line {reader.line_num} has more values than there are columns")
            values = {name: (value or "").strip() for name, value in row.items()}
            found.append({name: value.split() if name in _LISTS else value for name, value in values.items()})
    except csv.Error as error:
        raise _invalid(f"line {reader.line_num}: {error}") from None
    return found


def _from_json(text: str) -> list[dict[str, Any]]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _invalid(f"it is not JSON ({str(error)[:100]})") from None
    entries = content.get("identities") if isinstance(content, dict) else content
    if not isinstance(entries, list) or len(entries) > _MOST:
        raise _invalid(f"it is not a list of at most {_MOST} objects")
    for position, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise _invalid(f"entry {position} is not an object")
        _check_columns(list(entry), f"entry {position}")
        for name, value in entry.items():
            if not _fits(name, value):
                raise _invalid(f'entry {position}: "{name}" is of the wrong type or too long')
    return entries


def _fits(name: str, value: object) -> bool:
    if name in _LISTS:
        return isinstance(value, list) and len(value) <= 100 and all(isinstance(each, str) for each in value)
    if name == "properties":
        return isinstance(value, dict) and all(isinstance(each, str) for each in value.values())
    return value is None or (isinstance(value, str) and len(value) <= _LONGEST_VALUE)


def _check_columns(names: list[str], where: str) -> None:
    unknown = [name for name in names if name not in COLUMNS]
    if unknown or len(set(names)) < len(names):
        wrong = f'"{unknown[0][:40]}", which is not known' if unknown else "the same column twice"
        raise _invalid(f"{where} has {wrong}")


def _invalid(why: str) -> InvalidInput:
    return InvalidInput(
        f"The list of identities cannot be read: {why}.",
        code="import-invalid",
        remedy=f"Write CSV with a header line, or a JSON list of objects, with: {', '.join(COLUMNS)}.",
    )
