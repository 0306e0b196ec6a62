"""Fetching what an authority over CRLs is read from, as far as it changed, and checking it before it is believed."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from intaglio.core import clock
from intaglio.core.errors import IntaglioError, Refused
from intaglio.platform import outgoing
from intaglio.validation.authorities import directories
from intaglio.validation.authorities.values import Authority, CrlPart
from intaglio.validation.context import Validation
from intaglio.validation.sources import fetching, ldap
from intaglio.validation.sources.crl_checks import (
    Before,
    Signers,
    about_of,
    check_covers,
    check_crl,
    check_same_scope,
    end_of,
    identity_of,
)
from intaglio.validation.sources.fetching import Fetched, Known
from intaglio.validation.sources.freshness import DELTA, SERIALS
from intaglio.validation.sources.serial_list import MAX_OCTETS
from intaglio.validation.sources.state import Part
from intaglio.x509.crl_reading import Crl, read_crl

#: What the facts of a part say: how often it was found unchanged since it was read.
UNCHANGED = "unchanged"
_TRUSTED = 12  # looks, of which the last does not rely on what the server says about the file
_AT_A_TIME = 8  # files of one authority


@dataclass
class Arrived:
    """A file that is new and passed its checks; of a CRL the frame, which is small, but not the octets. Or one that
    is not new, and was sent with other validators than before."""

    fetched: Fetched
    crl: dict[str, Any] = field(default_factory=dict)
    is_new: bool = True


@contextlib.asynccontextmanager
async def arrivals() -> AsyncIterator[dict[str, Arrived]]:
    """Files by part; all of them are closed at the end."""
    files: dict[str, Arrived] = {}
    try:
        yield files
    finally:
        for each in files.values():
            each.fetched.close()


async def fetch_all(
    validation: Validation,
    authority: Authority,
    before: Mapping[str, Part],
    arrived: dict[str, Arrived],
    failures: dict[str, IntaglioError],
    room: AbstractAsyncContextManager[Any],
) -> None:
    """Fetch and check every part: what is new is added to ``arrived``, what cannot be used to ``failures``.

    ``before`` is what is recorded of each part; ``room`` is entered for checking, which takes memory.
    """
    slots = asyncio.Semaphore(_AT_A_TIME)

    async def fetch(part: CrlPart, *, delta: bool) -> None:
        name = part.name + DELTA if delta else part.name
        async with slots:
            found = _fetch_crl(validation, authority, part, before.get(name), room, delta=delta)
            await _attempt(name, found, arrived, failures)

    async with asyncio.TaskGroup() as group:
        for part in authority.crl.crls:
            for delta in (False, True) if part.has_delta else (False,):
                group.create_task(fetch(part, delta=delta))
    if authority.crl.serial_list:
        await _attempt(SERIALS, _fetch_serials(validation, authority, before.get(SERIALS)), arrived, failures)


async def fetch_rest(
    validation: Validation,
    authority: Authority,
    before: Mapping[str, Part],
    arrived: dict[str, Arrived],
    failures: dict[str, IntaglioError],
    room: AbstractAsyncContextManager[Any],
) -> None:
    """Fetch the complete CRLs that are not new, too: for those that are taken in together."""

    async def again(part: CrlPart) -> Arrived | None:
        fetched = await fetch_part(validation, authority, part, None, delta=False)
        assert fetched is not None, "nothing was said to be known"
        return await _believed(fetched, authority, part, before.get(part.name), room, delta=False)

    for part in authority.crl.crls:
        if part.name not in failures and not (part.name in arrived and arrived[part.name].is_new):
            await _attempt(part.name, again(part), arrived, failures)


async def _attempt(
    name: str, fetch: Awaitable[Arrived | None], arrived: dict[str, Arrived], failures: dict[str, IntaglioError]
) -> None:
    try:
        found = await fetch
    except IntaglioError as error:
        failures[name] = error
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
) -> Arrived | None:
    """A CRL that is new and passed its checks; None when the one that is known is still the newest."""
    seen = None if known is None or _end_moved(known, authority.crl.max_age) else known
    fetched = await fetch_part(validation, authority, part, seen, delta=delta)
    if seen is not None and seen["complete"] and (fetched is None or fetched.digest == seen["digest"]):
        if fetched is not None:
            fetched.close()
        _require_current(seen)
        return None if fetched is None else Arrived(fetched, is_new=False)
    if fetched is None:
        return None
    return await _believed(fetched, authority, part, known, room, delta=delta)


async def _believed(
    fetched: Fetched,
    authority: Authority,
    part: CrlPart,
    known: Part | None,
    room: AbstractAsyncContextManager[Any],
    *,
    delta: bool,
) -> Arrived:
    """A CRL that passed its checks; else the file is closed."""
    try:
        async with room:
            facts = await asyncio.to_thread(_checked, fetched, authority, part, known, delta=delta)
    except BaseException:
        fetched.close()
        raise
    return Arrived(fetched, facts)


def _end_moved(known: Part, max_age: timedelta | None) -> bool:
    """Whether a CRL that does not say when it ends has to be looked at again, for that was set otherwise since."""
    if not known["facts"].get("open_ended"):
        return False
    return max_age is None or known["next_update"] != known["this_update"] + max_age


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
    """What the server is asked to compare with. Now and then nothing, in case its validators do not tell one file from
    the next: the clock that made them was set, or a copy kept the time of another file."""
    if known is None or not known["complete"] or known["facts"].get(UNCHANGED, 0) % _TRUSTED == _TRUSTED - 1:
        return Known()
    return Known(known["etag"], known["last_modified"])


def _checked(
    fetched: Fetched, authority: Authority, part: CrlPart, known: Part | None, *, delta: bool
) -> dict[str, Any]:
    """What is recorded of a CRL that passed its checks. Runs in a thread: a signature over megabytes takes time."""
    crl = read_crl(fetched.read())
    if crl.is_delta != delta:
        what = "a delta CRL where a complete one" if crl.is_delta else "a complete CRL where a delta"
        raise Refused(f"The CRL is not used: there is {what} is expected.", code="crl-kind-wrong")
    if delta and crl.number is None:
        raise Refused("The CRL is not used: a delta CRL needs a number.", code="crl-kind-wrong")
    number = None if known is None or known["crl_number"] is None else int(known["crl_number"])
    before = Before() if known is None else Before(number, known["this_update"])
    if delta and crl.scope.reasons is not None:
        raise Refused("The CRL is not used: a delta CRL for some reasons only.", code="crl-scope-unfit")
    options = authority.crl
    signers = Signers(authority.issuers, options.signers)
    check_crl(crl, signers, clock.now(), before, max_age=options.max_age)
    check_covers(crl.scope, authority.crl.covers, alone=len(authority.crl.crls) == 1)
    if known is not None and not delta:  # a delta has to go with its complete CRL
        check_same_scope(crl.scope, known["facts"], part.url)
    return _facts(crl, options.max_age)


def _facts(crl: Crl, max_age: timedelta | None) -> dict[str, Any]:
    return {
        "number": crl.number,
        "base": crl.delta_base,
        "this_update": crl.this_update,
        "next_update": end_of(crl, max_age),
        "identity": identity_of(crl),
        "point": hashlib.sha256(crl.scope.point).hexdigest(),
        "open_ended": crl.next_update is None,
        "about": about_of(crl.scope),
        "reasons": None if crl.scope.reasons is None else sorted(crl.scope.reasons),
        "urls": list(crl.scope.urls)[:5],
        "keeps_expired": crl.keeps_expired,
    }


async def _fetch_serials(validation: Validation, authority: Authority, known: Part | None) -> Arrived | None:
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
        return Arrived(fetched, is_new=False)
    return None if fetched is None else Arrived(fetched)
