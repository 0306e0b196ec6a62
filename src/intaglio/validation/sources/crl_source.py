"""One look at the CRLs (and the list of serial numbers) of an authority: fetch, check, take in.

1. Every part is fetched, if it changed, and checked; one that cannot be used is reported, and what is known of it stays
   until it ends.
2. What is new is taken in by one transaction, together with how far each part has been read.

With delta CRLs, a set is kept at the highest number that is known: a complete CRL below it says nothing new, a delta
counts when its base is not above it (RFC 5280 section 5.2.4).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Literal

from intaglio.audit.record import record
from intaglio.authority import locks
from intaglio.core import clock
from intaglio.core.errors import IntaglioError, Refused, StateConflict
from intaglio.core.principal import SYSTEM
from intaglio.db.engine import Transaction
from intaglio.platform import outgoing
from intaglio.validation.authorities import directories, reading
from intaglio.validation.authorities.values import Authority, CrlPart
from intaglio.validation.context import Validation
from intaglio.validation.sources import fetching, importing, ldap, state
from intaglio.validation.sources.crl_checks import Before, check_covers, check_crl, identity_of
from intaglio.validation.sources.fetching import Fetched, Known
from intaglio.validation.sources.freshness import DELTA, SERIALS
from intaglio.validation.sources.importing import Changes
from intaglio.validation.sources.serial_list import MAX_OCTETS, serials
from intaglio.validation.sources.state import Part
from intaglio.x509.crl_reading import Crl, read_crl

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


@dataclass
class _Arrived:
    """A file that is new and passed its checks; of a CRL the frame, which is small, but not the octets."""

    fetched: Fetched
    crl: dict[str, Any] = field(default_factory=dict)


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
    async with _files() as arrived:
        await _fetch_all(validation, authority, before, arrived, looked, room)
        async with room if arrived else contextlib.nullcontext():
            await _take_in(validation, authority, arrived, looked, confirm, progress)
    return looked


# ---- fetching and checking -------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def _files() -> AsyncIterator[dict[str, _Arrived]]:
    files: dict[str, _Arrived] = {}
    try:
        yield files
    finally:
        for each in files.values():
            each.fetched.close()


async def _fetch_all(
    validation: Validation,
    authority: Authority,
    before: Mapping[str, Part],
    arrived: dict[str, _Arrived],
    looked: Looked,
    room: AbstractAsyncContextManager[Any],
) -> None:
    for part in authority.crl.crls:
        for delta in (False, True) if part.has_delta else (False,):
            name = part.name + DELTA if delta else part.name
            fetch = _fetch_crl(validation, authority, part, before.get(name), room, delta=delta)
            await _attempt(name, fetch, arrived, looked)
    if authority.crl.serial_list:
        await _attempt(SERIALS, _fetch_serials(validation, authority, before.get(SERIALS)), arrived, looked)


async def _attempt(
    name: str, fetch: Awaitable[_Arrived | None], arrived: dict[str, _Arrived], looked: Looked
) -> None:
    try:
        found = await fetch
    except IntaglioError as error:
        looked.failures[name] = error
    else:
        if found is not None:
            arrived[name] = found


async def _fetch_crl(
    validation: Validation,
    authority: Authority,
    part: CrlPart,
    known: Part | None,
    room: AbstractAsyncContextManager[Any],
    *,
    delta: bool,
) -> _Arrived | None:
    """A CRL that is new and passed its checks; None when the one that is known is still the newest."""
    fetched = await fetch_part(validation, authority, part, known, delta=delta)
    if known is not None and known["complete"] and (fetched is None or fetched.digest == known["digest"]):
        if fetched is not None:
            fetched.close()
        _require_current(known)
        return None
    if fetched is None:
        return None
    try:
        async with room:
            facts = await asyncio.to_thread(_checked, fetched, authority, known, delta=delta)
    except BaseException:
        fetched.close()
        raise
    return _Arrived(fetched, facts)


def _require_current(known: Part) -> None:
    if known["next_update"] is not None and known["next_update"] <= clock.now():
        raise Refused(
            f"The CRL expired at {known['next_update']:%Y-%m-%d %H:%M:%S}, and there is no newer one.",
            code="crl-expired",
            remedy="Ask those who run the CA.",
        )


async def fetch_part(
    validation: Validation, authority: Authority, part: CrlPart, known: Part | None, *, delta: bool
) -> Fetched | None:
    """A CRL as it is where it is read from; None when the server says that it is the known one."""
    options = authority.crl
    async with validation.database.read() as view:
        guard = await outgoing.guard_of(view)
        directory = await directories.load(view, validation.master_key, part.directory) if part.directory else None
    if directory is not None:
        attribute = part.delta_attribute if delta else part.attribute
        values = await ldap.read_attribute(
            directory, guard, part.entry, attribute, timeout=options.timeout, limit=options.max_octets
        )
        return fetching.in_memory(await asyncio.to_thread(_newest, values))
    return await fetching.fetch(
        part.delta_url if delta else part.url,
        guard,
        fetching.trust_of(options.server_ca),
        timeout=options.timeout,
        limit=options.max_octets,
        known=_known(known),
    )


def _newest(values: list[bytes]) -> bytes:
    """Of several CRLs in one attribute the one that was made last."""
    return values[0] if len(values) == 1 else max(values, key=lambda value: read_crl(value).this_update)


def _known(known: Part | None) -> Known:
    if known is None or not known["complete"]:
        return Known()
    return Known(known["etag"], known["last_modified"])


def _checked(fetched: Fetched, authority: Authority, known: Part | None, *, delta: bool) -> dict[str, Any]:
    """What is recorded of a CRL that passed its checks. Runs in a thread: a signature over megabytes takes time."""
    crl = read_crl(fetched.read())
    if crl.is_delta != delta:
        what = "a delta CRL where a complete one" if crl.is_delta else "a complete CRL where a delta"
        raise Refused(f"The CRL is not used: there is {what} is expected.", code="crl-kind-wrong")
    if delta and crl.number is None:
        raise Refused("The CRL is not used: a delta CRL needs a number.", code="crl-kind-wrong")
    number = None if known is None or known["crl_number"] is None else int(known["crl_number"])
    before = Before() if known is None else Before(number, known["this_update"])
    check_crl(crl, authority.issuers, clock.now(), before)
    check_covers(crl.scope, authority.crl.covers, alone=len(authority.crl.crls) == 1)
    return _facts(crl)


def _facts(crl: Crl) -> dict[str, Any]:
    return {
        "number": crl.number,
        "base": crl.delta_base,
        "this_update": crl.this_update,
        "next_update": crl.next_update,
        "identity": identity_of(crl),
        "urls": list(crl.scope.urls)[:5],
        "keeps_expired": crl.keeps_expired,
    }


async def _fetch_serials(validation: Validation, authority: Authority, known: Part | None) -> _Arrived | None:
    options = authority.crl
    async with validation.database.read() as view:
        guard = await outgoing.guard_of(view)
    fetched = await fetching.fetch(
        options.serial_list,
        guard,
        fetching.trust_of(options.server_ca),
        timeout=options.timeout,
        limit=MAX_OCTETS,
        known=_known(known),
    )
    if fetched is not None and known is not None and known["digest"] == fetched.digest and known["complete"]:
        fetched.close()
        return None
    return None if fetched is None else _Arrived(fetched)


# ---- taking in -------------------------------------------------------------------------------------------------------


async def _take_in(
    validation: Validation,
    authority: Authority,
    arrived: Mapping[str, _Arrived],
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
    arrived: Mapping[str, _Arrived],
    looked: Looked,
    progress: importing.Progress,
) -> None:
    before = await state.parts_of(tx, authority.set_id)
    numbers = _numbers(names, before)
    changes = Changes()
    await _forget_removed(tx, authority, names, before, changes)
    for name in names:
        if name in looked.failures:
            error = looked.failures[name]
            await state.note_failure(tx, authority.id, authority.set_id, name, numbers[name], error)
        elif name not in arrived:
            await state.note_ok(tx, authority.id, authority.set_id, name, numbers[name])
        else:
            try:
                await _apply_part(tx, authority, name, numbers[name], arrived[name], changes, progress)
            except IntaglioError as error:
                raise _Broken(name, error) from error
            looked.new.append(name)
    looked.changed = changes.count
    if looked.new:
        # Also when no status changed: answers tell when the source said so, and until when it counts.
        await importing.announce(tx, authority.set_id, changes if changes.count else None)
        details: dict[str, Any] = {"parts": looked.new[:50], "changed": changes.count}
        record(tx, SYSTEM, "status-source.import", "status-authority", authority.name, **details)
    elif changes.count:
        await importing.announce(tx, authority.set_id, changes)


async def _apply_part(
    tx: Transaction,
    authority: Authority,
    name: str,
    number: int,
    arrived: _Arrived,
    changes: Changes,
    progress: importing.Progress,
) -> None:
    set_id, fetched = authority.set_id, arrived.fetched
    seen: dict[str, Any] = {"etag": fetched.etag, "last_modified": fetched.last_modified, "digest": fetched.digest}
    if name == SERIALS:
        seen["entries"] = await importing.apply_serials(tx, set_id, serials(fetched.file), changes, progress)
    else:
        seen |= await _apply_crl(tx, authority, name, number, arrived, changes, progress)
    await state.note_ok(tx, authority.id, set_id, name, number, complete=True, **seen)


async def _apply_crl(
    tx: Transaction,
    authority: Authority,
    name: str,
    number: int,
    arrived: _Arrived,
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
        "facts": {key: facts[key] for key in ("identity", "urls", "keeps_expired")},
    }
    crl = await asyncio.to_thread(lambda: read_crl(arrived.fetched.read()))
    if name.endswith(DELTA):
        _check_delta(facts, parts.get(main), reached)
        if reached is None or facts["number"] > reached:
            await importing.apply_delta(tx, set_id, number, crl.entries(), changes, progress)
    elif reached is not None and facts["number"] is not None and facts["number"] < reached:
        pass  # what deltas said since then is known already
    else:
        _check_twice(facts["identity"], main, parts)
        seen["entries"] = await importing.apply_crl(tx, set_id, number, crl.entries(), changes, progress)
    return seen


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


async def _forget_removed(
    tx: Transaction, authority: Authority, names: list[str], before: Mapping[str, Part], changes: Changes
) -> None:
    """Forget the parts that the configuration does not have any more."""
    for name, row in before.items():
        if name in names:
            continue
        if name == SERIALS:
            await importing.apply_serials(tx, authority.set_id, (), changes, lambda _: None)
        elif not name.endswith(DELTA):
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


