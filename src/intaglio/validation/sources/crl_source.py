"""One look at the CRLs (and the list of serial numbers) of an authority: fetch, check, take in.

1. Every part is fetched, if it changed, and checked; one that cannot be used is reported, and what is known of it stays
   until it ends.
2. What is new is taken in by one transaction, together with how far each part has been read.

CRLs that are about some reasons only may name the same certificate: they are taken in together, as one, whenever one of
them is new.

With delta CRLs, a set is kept at the highest number that is known: a complete CRL below it says nothing new, a delta
counts when its base is not above it (RFC 5280 section 5.2.4).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Literal

from intaglio.audit.record import record
from intaglio.authority import locks
from intaglio.core.errors import IntaglioError, Refused, StateConflict
from intaglio.core.principal import SYSTEM
from intaglio.db.engine import Transaction
from intaglio.validation.authorities import reading
from intaglio.validation.authorities.values import Authority
from intaglio.validation.context import Validation
from intaglio.validation.sources import importing, state
from intaglio.validation.sources.crl_checks import check_reasons, check_together
from intaglio.validation.sources.crl_fetching import UNCHANGED, Arrived, arrivals, fetch_all, fetch_rest
from intaglio.validation.sources.freshness import DELTA, SERIALS
from intaglio.validation.sources.importing import Changes
from intaglio.validation.sources.serial_list import serials
from intaglio.validation.sources.state import Part
from intaglio.x509.crl_reading import Entry, read_crl

#: Called before the commit of what was read: raises when another process has taken over.
Confirm = Callable[[Transaction], Awaitable[None]]


@dataclass
class Looked:
    """What came of one look: which parts were new, which failed and why, how many certificates changed."""

    new: list[str] = field(default_factory=list)
    failures: dict[str, IntaglioError] = field(default_factory=dict)
    changed: int = 0

    @property
    def outcome(self) -> Literal["changed", "unchanged", "failed"]:
        return "failed" if self.failures else "changed" if self.new else "unchanged"

    @property
    def detail(self) -> str:
        """A sentence for people."""
        if self.failures:
            part, error = next(iter(self.failures.items()))
            return f"{part}: {error.detail}" if part else error.detail
        return f"{self.changed} certificates changed." if self.new else "Nothing new."


async def look(
    validation: Validation,
    authority: Authority,
    confirm: Confirm,
    progress: importing.Progress,
    room: AbstractAsyncContextManager[Any] | None = None,
) -> Looked:
    """Look at everything that an authority is read from, once.

    ``progress`` is told how many entries have been read; ``room`` is entered for what takes memory (checking, taking
    in) and not for waiting for servers, so that a slow one holds up nobody. A part that cannot be used is in the
    result; what concerns the whole raises: Unavailable, TimedOut (the database), StateConflict (``source-busy``,
    ``source-replaced``).
    """
    looked, room = Looked(), room or contextlib.nullcontext()
    async with validation.database.read() as view:
        before = await state.parts_of(view, authority.set_id)
    async with arrivals() as arrived:
        await fetch_all(validation, authority, before, arrived, looked.failures, room)
        if _are_together(before, arrived) and _has_changed(authority, before, arrived):
            await fetch_rest(validation, authority, before, arrived, looked.failures, room)
        async with room if any(each.is_new for each in arrived.values()) else contextlib.nullcontext():
            await _take_in(validation, authority, arrived, looked, confirm, progress)
    return looked


# ---- taking in -------------------------------------------------------------------------------------------------------


async def _take_in(
    validation: Validation,
    authority: Authority,
    arrived: Mapping[str, Arrived],
    looked: Looked,
    confirm: Confirm,
    progress: importing.Progress,
) -> None:
    """Take in what arrived, and note every look, in one transaction. A CRL that turns out to be broken inside, or not
    to go with what is known, is left out, and the others are taken in."""
    names = _names(authority)
    while True:
        try:
            async with validation.database.transaction() as tx, importing.unhurried(tx):
                await _require_ours(tx, authority)
                good = {name: each for name, each in arrived.items() if name not in looked.failures}
                await _apply(tx, authority, names, good, looked, progress)
                await confirm(tx)
            return
        except _Broken as broken:
            looked.failures[broken.part] = broken.error
            looked.new.clear()


class _Broken(Exception):
    """A part that cannot be taken in; the transaction is rolled back."""

    def __init__(self, part: str, error: IntaglioError) -> None:
        super().__init__(part)
        self.part, self.error = part, error


async def _require_ours(tx: Transaction, authority: Authority) -> None:
    if not await locks.try_lock(tx, "status-source", authority.set_id):
        raise StateConflict("Another process is taking this source in.", code="source-busy", retry_after=1)
    current = await reading.load_by_id(tx, authority.id)
    if current is None or current.set_id != authority.set_id:
        raise StateConflict("The authority has another source by now.", code="source-replaced")


async def _apply(
    tx: Transaction,
    authority: Authority,
    names: list[str],
    arrived: Mapping[str, Arrived],
    looked: Looked,
    progress: importing.Progress,
) -> None:
    before = await state.parts_of(tx, authority.set_id)
    numbers = _numbers(names, before)
    changes = Changes()
    together: dict[str, int] | None = None
    if _are_together(before, arrived):
        together = await _apply_together(tx, authority, before, numbers, arrived, looked, changes, progress)
    if together is None or together:
        await _forget_removed(tx, authority, names, before, changes, entries_too=together is None)
    for name in names:
        if name in looked.failures:
            error = looked.failures[name]
            await state.note_failure(tx, authority.id, authority.set_id, name, numbers[name], error)
        elif name not in arrived or not arrived[name].is_new:
            seen = _seen_again(before.get(name), arrived.get(name))
            await state.note_ok(tx, authority.id, authority.set_id, name, numbers[name], **seen)
        else:
            try:
                await _apply_part(tx, authority, name, numbers[name], arrived[name], together, changes, progress)
            except IntaglioError as error:
                raise _Broken(name, error) from error
            looked.new.append(name)
    await _check_together(tx, authority, looked.new)
    looked.changed = changes.count
    if looked.new:
        # Also when no status changed: answers tell when the source said so, and until when it counts.
        await importing.announce(tx, authority.set_id, changes if changes.count else None)
        details: dict[str, Any] = {"parts": looked.new[:50], "changed": changes.count}
        record(tx, SYSTEM, "status-source.import", "status-authority", authority.name, **details)
    elif changes.count:
        await importing.announce(tx, authority.set_id, changes)


def _seen_again(known: Part | None, arrived: Arrived | None) -> dict[str, Any]:
    """What is noted of a part that is what it was."""
    facts = {} if known is None else known["facts"]
    seen: dict[str, Any] = {"facts": {**facts, UNCHANGED: facts.get(UNCHANGED, 0) + 1}}
    if arrived is not None:
        seen |= {"etag": arrived.fetched.etag, "last_modified": arrived.fetched.last_modified}
    return seen


async def _check_together(tx: Transaction, authority: Authority, new: list[str]) -> None:
    """See that complete CRLs for one kind of certificates are not taken for the whole. Raises _Broken."""
    last = next((name for name in reversed(new) if name != SERIALS and not name.endswith(DELTA)), None)
    parts = await state.parts_of(tx, authority.set_id) if last is not None else {}
    known = [parts[part.name] for part in authority.crl.crls if part.name in parts and parts[part.name]["complete"]]
    if last is None or len(known) < len(authority.crl.crls):
        return
    try:
        check_together({part["facts"].get("about", "all") for part in known}, authority.crl.covers)
        reasons = [part["facts"].get("reasons") for part in known]
        check_reasons([None if each is None else frozenset(each) for each in reasons])
    except IntaglioError as error:
        raise _Broken(last, error) from error


async def _apply_part(
    tx: Transaction,
    authority: Authority,
    name: str,
    number: int,
    arrived: Arrived,
    together: Mapping[str, int] | None,
    changes: Changes,
    progress: importing.Progress,
) -> None:
    set_id, fetched = authority.set_id, arrived.fetched
    seen: dict[str, Any] = {"etag": fetched.etag, "last_modified": fetched.last_modified, "digest": fetched.digest}
    if name == SERIALS:
        seen["facts"] = {}
        seen["entries"] = await importing.apply_serials(tx, set_id, serials(fetched.file), changes, progress)
    else:
        seen |= await _apply_crl(tx, authority, name, number, arrived, together, changes, progress)
    await state.note_ok(tx, authority.id, set_id, name, number, complete=True, **seen)


_KEPT = ("identity", "point", "about", "urls", "keeps_expired", "reasons", "open_ended")


async def _apply_crl(
    tx: Transaction,
    authority: Authority,
    name: str,
    number: int,
    arrived: Arrived,
    together: Mapping[str, int] | None,
    changes: Changes,
    progress: importing.Progress,
) -> dict[str, Any]:
    set_id, facts = authority.set_id, arrived.crl
    parts = await state.parts_of(tx, set_id)
    main = name.removesuffix(DELTA)
    reached = _reached(parts, main)
    seen: dict[str, Any] = {
        "crl_number": facts["number"],
        "this_update": facts["this_update"],
        "next_update": facts["next_update"],
        "facts": {key: facts[key] for key in _KEPT},
    }
    if together is not None:
        if name.endswith(DELTA):
            raise Refused("A delta CRL does not go with CRLs for some reasons only.", code="crl-scope-unfit")
        _check_twice(facts["identity"], main, parts)
        return {**seen, "entries": together[name], "facts": {**seen["facts"], _TOGETHER: True}}
    crl = await asyncio.to_thread(lambda: read_crl(arrived.fetched.read()))
    if name.endswith(DELTA):
        _check_delta(facts, parts.get(main), reached)
        if reached is None or facts["number"] > reached:
            await importing.apply_delta(tx, set_id, number, crl.entries(_names_of(authority)), changes, progress)
    elif reached is not None and facts["number"] is not None and facts["number"] < reached:
        pass  # what deltas said since then is known already
    else:
        _check_twice(facts["identity"], main, parts)
        entries = crl.entries(_names_of(authority))
        crls = authority.crl.crls
        # With deltas that cannot be; what two CRLs name is then forgotten when the one that named it last does not.
        among_others = len(crls) > 1 and not any(part.has_delta for part in crls)
        seen["entries"] = await importing.apply_crl(
            tx, set_id, number, entries, changes, progress, among_others=among_others
        )
        if changes.overlap:
            seen["facts"][_TOGETHER] = True
    return seen


def _names_of(authority: Authority) -> frozenset[bytes]:
    """Whose certificates the entries of an indirect CRL have to be about."""
    return frozenset(each.subject.key for each in authority.issuers)


def _reached(parts: Mapping[str, Part], main: str) -> int | None:
    """The highest number that was taken in, of the complete CRL and of its deltas."""
    known = [parts[name]["crl_number"] for name in (main, main + DELTA) if name in parts and parts[name]["complete"]]
    return max((int(number) for number in known if number is not None), default=None)


def _check_delta(facts: Mapping[str, Any], main: Part | None, reached: int | None) -> None:
    if main is None or not main["complete"] or reached is None:
        raise Refused("The delta CRL has to wait for its complete CRL.", code="crl-delta-base")
    if facts["base"] > reached:
        raise Refused(
            f"The delta CRL goes with number {facts['base']} and later; {reached} is known.",
            code="crl-delta-base",
            remedy="Publish the complete CRL it goes with.",
        )
    if main["facts"].get("identity") != facts["identity"]:
        raise Refused("The delta CRL is about something else than its complete CRL.", code="crl-scope-unfit")


def _check_twice(identity: str, main: str, parts: Mapping[str, Part]) -> None:
    for other, row in parts.items():
        if other not in (main, main + DELTA) and row["facts"].get("identity") == identity:
            raise Refused(
                f'The CRL is the same as "{other}": two parts would undo each other.',
                code="crl-twice",
                remedy="Give each partition once.",
            )


# ---- CRLs for some reasons only --------------------------------------------------------------------------------------

#: What the facts of a part say whose entries were taken in with those of the others; it stays so.
_TOGETHER = "together"


def _are_together(before: Mapping[str, Part], arrived: Mapping[str, Arrived]) -> bool:
    """Whether the CRLs of an authority are taken in together: a certificate that is on two of them must not be
    forgotten when it is no longer on one."""
    return any(part["facts"].get(_TOGETHER) for part in before.values()) or any(
        each.crl.get("reasons") is not None for each in arrived.values()
    )


def _has_changed(authority: Authority, before: Mapping[str, Part], arrived: Mapping[str, Arrived]) -> bool:
    """Whether a CRL is new, or not read any more."""
    is_new = any(each.is_new for name, each in arrived.items() if name != SERIALS)
    return is_new or not before.keys() <= set(_names(authority))


async def _apply_together(
    tx: Transaction,
    authority: Authority,
    before: Mapping[str, Part],
    numbers: Mapping[str, int],
    arrived: Mapping[str, Arrived],
    looked: Looked,
    changes: Changes,
    progress: importing.Progress,
) -> dict[str, int]:
    """Make the revoked certificates of a set those of all its CRLs; returns how many each of them has. Empty when
    nothing is new, or one of them is missing: then the others wait for it."""
    names = [part.name for part in authority.crl.crls]
    new = [name for name in names if name in arrived and arrived[name].is_new]
    if len(new) < len(names):
        waits = Refused("The CRL waits for those about the other reasons.", code="crl-waits-for-others")
        looked.failures |= dict.fromkeys(new, waits)
        return {}
    counts, reading, about = dict.fromkeys(new, 0), new[0], _names_of(authority)

    def entries() -> Iterator[Entry]:
        nonlocal reading
        for reading in new:
            for entry in read_crl(arrived[reading].fetched.read()).entries(about):
                counts[reading] += 1
                yield entry

    try:
        await importing.apply_crl(tx, authority.set_id, numbers[new[0]], entries(), changes, progress)
    except IntaglioError as error:
        raise _Broken(reading, error) from error
    for number in {row["number"] for row in before.values()} - {numbers[new[0]]}:
        await importing.forget_part(tx, authority.set_id, number, changes)
    return counts


async def _forget_removed(
    tx: Transaction,
    authority: Authority,
    names: list[str],
    before: Mapping[str, Part],
    changes: Changes,
    *,
    entries_too: bool,
) -> None:
    """Forget the parts that the configuration does not have any more."""
    for name, row in before.items():
        if name in names:
            continue
        if name == SERIALS:
            await importing.apply_serials(tx, authority.set_id, (), changes, lambda _: None)
        elif entries_too and not name.endswith(DELTA):
            await importing.forget_part(tx, authority.set_id, row["number"], changes)
        await state.forget(tx, authority.set_id, name)


def _names(authority: Authority) -> list[str]:
    """The parts in the order in which they are taken in: a delta after its complete CRL, the list last."""
    found: list[str] = []
    for part in authority.crl.crls:
        found += [part.name, part.name + DELTA] if part.has_delta else [part.name]
    return found + ([SERIALS] if authority.crl.serial_list else [])


def _numbers(names: list[str], before: Mapping[str, Part]) -> dict[str, int]:
    """The number of each part's entries; a delta has that of its complete CRL."""
    numbers = {name: row["number"] for name, row in before.items()}
    free = state.free_number(before)
    for name in names:
        main = name.removesuffix(DELTA)
        if main not in numbers:
            numbers[main], free = free, free + 1
        numbers[name] = numbers[main]
    return numbers


