"""Whether what is known of an authority's certificates may still be answered from.

Knowledge that was never complete, or that is older than its source allows, is answered with ``tryLater`` and never with
good. CRLs say themselves until when they count; a feed counts until it has failed for ``stale_after``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import select

from intaglio.core.spans import parse_span
from intaglio.db.engine import Transaction
from intaglio.validation import models

_A, _S = models.status_authority, models.status_source

#: Ends of the names of parts that go with a CRL, and the part that is a list of serial numbers.
DELTA = ":delta"
SERIALS = ":serials"


@dataclass(frozen=True, slots=True)
class State:
    """How current the knowledge about one authority is, which is in the set ``set_id``.

    ``this_update`` is when it was true: the thisUpdate of the oldest CRL, or the last successful look at a feed;
    ``next_update`` when the first CRL ends; ``last_ok_at`` the last successful look at its slowest part;
    ``stale_reason`` why it may not be answered from, judged when the state was read; ``stale_at`` the moment from which
    it may not, unless something newer arrives.
    """

    authority_id: UUID
    set_id: UUID
    complete: bool
    this_update: datetime | None
    next_update: datetime | None
    last_ok_at: datetime | None
    stale_reason: str | None
    stale_at: datetime | None = None
    entries: int = 0
    last_error: str | None = None

    def reason_at(self, now: datetime) -> str | None:
        """Why it may not be answered from at this moment; None when it may."""
        if self.stale_reason is not None:
            return self.stale_reason
        return "source-stale" if self.stale_at is not None and now >= self.stale_at else None


async def states(view: Transaction, now: datetime) -> dict[UUID, State]:
    """The state of every enabled authority with a source of its own; native ones need none and are left out."""
    query = (
        select(_A.c.id, _A.c.set_id, _A.c.source, _A.c.options, *(_S.c[name] for name in _MEMBERS))
        .join_from(_A, _S, _S.c.set_id == _A.c.set_id, isouter=True)
        .where(_A.c.enabled, _A.c.source != "native")
    )
    found: dict[UUID, list[Mapping[Any, Any]]] = {}
    for row in await view.all(query):
        found.setdefault(row["id"], []).append(row)
    return {authority_id: _state(authority_id, rows, now) for authority_id, rows in found.items()}


_MEMBERS = ("part", "this_update", "next_update", "last_ok_at", "last_error", "entries", "complete")


def _state(authority_id: UUID, rows: Sequence[Mapping[Any, Any]], now: datetime) -> State:
    source, options = rows[0]["source"], rows[0]["options"]
    parts = {row["part"]: row for row in rows if row["part"] is not None}
    expected = expected_parts(source, options)
    known = [parts[name] for name in expected if name in parts]
    complete = len(known) == len(expected) and all(part["complete"] for part in known)
    last_ok = min((part["last_ok_at"] for part in known if part["last_ok_at"]), default=None)
    if source == "gateway":
        this_update, next_update = last_ok, None
        stale_at = None if last_ok is None else last_ok + _span(options, "stale_after", timedelta(minutes=5))
    else:
        this_update = _crl_this_update(expected, parts)
        next_update = min((part["next_update"] for part in known if part["next_update"]), default=None)
        stale_at = next_update
    reason = None
    if not complete:
        reason = "source-never-complete"
    elif stale_at is not None and now >= stale_at:
        reason = "feed-failing" if source == "gateway" else "crl-expired"
    return State(
        authority_id,
        rows[0]["set_id"],
        complete,
        this_update,
        next_update,
        last_ok,
        reason,
        stale_at,
        sum(part["entries"] for part in known),
        next((part["last_error"] for part in known if part["last_error"]), None),
    )


def expected_parts(source: str, options: Mapping[str, Any]) -> list[str]:
    """The parts that must have been read for the knowledge to be complete, by the stored options of a source."""
    if source == "gateway":
        return [""]
    names: list[str] = []
    for crl in options.get("crls", ()):
        names.append(crl.get("name", ""))
        if crl.get("delta_url") or crl.get("delta"):
            names.append(crl.get("name", "") + DELTA)
    return names + ([SERIALS] if options.get("serial_list") else [])


def _crl_this_update(expected: Iterable[str], parts: Mapping[str, Mapping[Any, Any]]) -> datetime | None:
    """The oldest thisUpdate of the CRLs; a delta makes the CRL it goes with as new as itself."""
    moments = []
    for name in expected:
        if name.endswith((DELTA, SERIALS)) or name not in parts:
            continue
        own = [parts[each]["this_update"] for each in (name, name + DELTA) if each in parts]
        moments += [max(moment for moment in own if moment)] if any(own) else []
    return min(moments, default=None)


def _span(options: Mapping[str, Any], name: str, default: timedelta) -> timedelta:
    text = options.get(name)
    return parse_span(text) if isinstance(text, str) else default
