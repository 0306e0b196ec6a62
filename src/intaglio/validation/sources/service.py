"""What operators do with sources: look at them, have them read now, and check them from end to end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import text

from intaglio.audit.record import record
from intaglio.core import clock
from intaglio.core.errors import IntaglioError, StateConflict
from intaglio.core.principal import Permission, Principal
from intaglio.validation.authorities import reading
from intaglio.validation.authorities.values import Authority
from intaglio.validation.context import Validation
from intaglio.validation.sources import fetching, freshness, leases, state
from intaglio.validation.sources.crl_checks import Before, Signers, check_covers, check_crl, check_reasons, end_of
from intaglio.validation.sources.freshness import DELTA, SERIALS, State
from intaglio.validation.sources.leases import Pull
from intaglio.x509.crl_reading import read_crl

_TABLES = ("status_authority", "status_entry", "status_source", "status_pull", "status_change", "status_head")
_LIST_SAMPLE = 1_000  # lines of a list of serial numbers that a check looks at


@dataclass(frozen=True)
class SourcePart:
    """One file or feed that an authority is read from, and how far it has been read."""

    part: str
    entries: int
    complete: bool
    crl_number: int | None
    this_update: datetime | None
    next_update: datetime | None
    last_ok_at: datetime | None
    last_tried_at: datetime | None
    last_error: str | None


@dataclass(frozen=True)
class Source:
    """Everything about the source of an authority; ``state`` is None while the authority is disabled, or native."""

    authority: Authority
    state: State | None
    pull: Pull
    parts: tuple[SourcePart, ...]


@dataclass(frozen=True)
class Finding:
    """One thing that was checked."""

    about: str
    ok: bool
    detail: str


async def sources(validation: Validation, principal: Principal, name: str | None = None) -> list[Source]:
    """The sources of all authorities, or of one. Needs ``validation.view``. Raises NotFound."""
    principal.require(Permission.VALIDATION_VIEW)
    async with validation.database.read() as view:
        wanted = [await reading.load(view, name)] if name else await reading.load_all(view)
        states = await freshness.states(view, view.now)
        return [
            Source(
                each,
                states.get(each.id),
                await leases.pull_of(view, each.id),
                tuple(map(_part, (await state.parts_of(view, each.set_id)).values())),
            )
            for each in wanted
        ]


async def pull(validation: Validation, principal: Principal, name: str) -> Pull:
    """Ask for a look at a source now; it is taken by the process that reads it. Needs ``validation.manage``.

    Raises NotFound, StateConflict (``source-not-read``) for a native or disabled authority.
    """
    principal.require(Permission.VALIDATION_MANAGE)
    async with validation.database.transaction() as tx:
        found = await reading.load(tx, name)
        if found.source == "native" or not found.enabled:
            why = "is read where it is written" if found.source == "native" else "is disabled"
            raise StateConflict(f'The source of "{name}" {why}.', code="source-not-read")
        await leases.ask(tx, found.id)
        record(tx, principal, "status-source.pull", "status-authority", name)
        return await leases.pull_of(tx, found.id)


async def check(validation: Validation, principal: Principal, name: str) -> list[Finding]:
    """Look at everything an authority is read from, without taking it in. Needs ``validation.manage``: it connects.

    Raises NotFound.
    """
    principal.require(Permission.VALIDATION_MANAGE)
    async with validation.database.read() as view:
        authority = await reading.load(view, name)
    checks = {"crl": _check_crls, "gateway": _check_gateway, "native": _check_native}
    return [finding async for finding in checks[authority.source](validation, authority)]


async def check_database(validation: Validation, principal: Principal) -> list[Finding]:
    """Whether the database answers, has the tables, and lets this role write them. Needs ``validation.view``."""
    principal.require(Permission.VALIDATION_VIEW)
    try:
        async with validation.database.read() as view:
            version = await view.scalar(text("SHOW server_version"))
            found = [Finding("database", True, f"PostgreSQL {str(version).split()[0]} answers.")]
            for table in _TABLES:
                lacking = await view.scalar(_LACKING, {"name": table})
                if lacking is None:
                    found.append(Finding(table, False, "The table is missing; run: intaglio db migrate"))
                elif lacking:
                    found.append(Finding(table, False, f"The database role lacks {', '.join(lacking)}."))
                else:
                    found.append(Finding(table, True, "It can be read and written."))
            return found
    except IntaglioError as error:
        return [Finding("database", False, error.detail)]


_LACKING = text(
    "SELECT CASE WHEN to_regclass(:name) IS NULL THEN NULL ELSE "
    "ARRAY(SELECT kind FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS kind "
    "WHERE NOT has_table_privilege(to_regclass(:name), kind)) END"
)


def _part(row: state.Part) -> SourcePart:
    names = ("part", "entries", "complete", "this_update", "next_update", "last_ok_at", "last_tried_at", "last_error")
    number = None if row["crl_number"] is None else int(row["crl_number"])
    return SourcePart(crl_number=number, **{name: row[name] for name in names})


async def _check_native(validation: Validation, authority: Authority) -> AsyncIterator[Finding]:
    ca = (await validation.authority.snapshot()).cas.get(authority.ca_id) if authority.ca_id else None
    if ca is None or ca.state == "deleted":
        yield Finding(authority.ca or "", False, "The CA is not here any more.")
    else:
        yield Finding(ca.full_id, True, f"The CA is {ca.state}; its status is read where it is written.")


async def _check_crls(validation: Validation, authority: Authority) -> AsyncIterator[Finding]:
    for part in authority.crl.crls:
        for delta in (False, True) if part.has_delta else (False,):
            about = (part.name + DELTA if delta else part.name) or "crl"
            try:
                fetched = await _fetched(validation, authority, part, delta=delta)
                yield Finding(about, True, await asyncio.to_thread(_judged, fetched, authority))
            except IntaglioError as error:
                yield Finding(about, False, str(error))
    if authority.crl.serial_list:
        try:
            yield Finding(SERIALS, True, await _check_serials(validation, authority))
        except IntaglioError as error:
            yield Finding(SERIALS, False, str(error))


async def _fetched(validation: Validation, authority: Authority, part: Any, *, delta: bool) -> bytes:
    from intaglio.validation.sources.crl_fetching import fetch_part

    fetched = await fetch_part(validation, authority, part, None, delta=delta)
    assert fetched is not None, "nothing is known, so nothing can be unchanged"
    try:
        return fetched.read()
    finally:
        fetched.close()


def _judged(data: bytes, authority: Authority) -> str:
    """What a CRL says of itself, once it passed every check. Raises Refused, InvalidInput."""
    crl = read_crl(data)
    options = authority.crl
    check_crl(crl, Signers(authority.issuers, options.signers), clock.now(), Before(), max_age=options.max_age)
    check_covers(crl.scope, options.covers, alone=len(options.crls) == 1)
    if len(options.crls) == 1:
        check_reasons([crl.scope.reasons])
    entries = sum(1 for _ in crl.entries(frozenset(each.subject.key for each in authority.issuers)))
    number = "without a number" if crl.number is None else f"number {crl.number}"
    end = end_of(crl, options.max_age)
    return f"CRL {number} of the configured CA, {entries} entries, until {end:%Y-%m-%d %H:%M:%S} UTC."


async def _check_serials(validation: Validation, authority: Authority) -> str:
    from itertools import islice

    from intaglio.platform import outgoing
    from intaglio.validation.sources.serial_list import MAX_OCTETS, serials

    options = authority.crl
    async with validation.database.read() as view:
        guard = await outgoing.guard_of(view)
    tls = fetching.trust_of(options.server_ca)
    known = fetching.Known()
    fetched = await fetching.fetch(
        options.serial_list, guard, tls, timeout=options.timeout, limit=MAX_OCTETS, known=known
    )
    assert fetched is not None, "nothing is known, so nothing can be unchanged"
    try:
        looked_at = sum(1 for _ in islice(serials(fetched.file), _LIST_SAMPLE))
    finally:
        fetched.close()
    return f"{fetched.octets} octets; the first {looked_at} serial numbers are readable."


async def _check_gateway(validation: Validation, authority: Authority) -> AsyncIterator[Finding]:
    from intaglio.validation.sources import gateway_source

    try:
        client = await gateway_source.connect(validation, authority)
    except IntaglioError as error:
        yield Finding("credential", False, str(error))
        return
    try:
        yield Finding("credential", True, "There is a client credential that has not expired.")
        role = await gateway_source.check_gateway(client, authority)
        yield Finding("ca", True, "The gateway is reachable, and its CA is the configured one.")
        yield Finding("account", True, f"Our account is {role or 'of an unknown role'} there, and may read events.")
        page = await client.events(None, 1, with_certificates=False)
        told = "The first event can be read." if page.events else "There are no events yet."
        yield Finding("events", True, told)
    except IntaglioError as error:
        yield Finding("gateway", False, str(error))
    finally:
        await client.close()


def all_ok(findings: Sequence[Finding]) -> bool:
    """Whether nothing is wrong."""
    return all(finding.ok for finding in findings)
