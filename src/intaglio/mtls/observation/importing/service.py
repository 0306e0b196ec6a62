"""Importing a log, chunk by chunk: what was imported is remembered, so that no line becomes two events."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, cast

import psycopg
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from intaglio.audit import record as audit
from intaglio.core.errors import InvalidInput, StateConflict, TooLarge
from intaglio.core.principal import Permission, Principal
from intaglio.db.engine import Transaction
from intaglio.mtls.access.ingress_values import Ingress
from intaglio.mtls.access.ingresses import visible
from intaglio.mtls.access.values import ReasonCode
from intaglio.mtls.context import Mtls
from intaglio.mtls.identities import models as identities
from intaglio.mtls.identities.values import Kind, spiffe_id
from intaglio.mtls.observation.events import AccessEvent, copy_rows, rows
from intaglio.mtls.observation.importing.entries import BadLine, Entry
from intaglio.mtls.observation.importing.formats import FORMATS, parse_line
from intaglio.mtls.observation.models import log_import

#: Characters and lines of one chunk.
LARGEST_CHUNK: Final = 700_000
MOST_LINES: Final = 20_000
_SHOWN: Final = 20


@dataclass(frozen=True)
class Chunk:
    """Whole lines of a log.

    ``source`` tells one log from another: SHA-256 of its first line. ``offset`` is where the chunk begins, ``octets``
    how long it is in the file. ``before`` and ``after`` are SHA-256 of the last line before the chunk (empty at the
    beginning) and of its own last line, so that another file is not taken for the same.
    """

    format: str
    source: bytes
    offset: int
    octets: int
    before: bytes
    after: bytes
    text: str = field(repr=False)


@dataclass(frozen=True)
class Position:
    """How far a log was imported: ``offset`` octets, whose last line has the SHA-256 ``last``."""

    offset: int = 0
    last: bytes = b""


@dataclass(frozen=True)
class Bad:
    """A line that was not understood: its number in the chunk, and why."""

    line: int
    why: str


@dataclass(frozen=True)
class Imported:
    """What became of a chunk. ``skipped`` lines say nothing about access, or were recorded as they happened; of the
    ``bad`` ones the first are in ``shown``."""

    lines: int
    events: int
    skipped: int
    bad: int
    shown: tuple[Bad, ...]
    offset: int


@dataclass(frozen=True)
class _Known:
    """The identity that a certificate was issued to, by its binding."""

    uri: str
    kind: str
    issuer: str
    not_after: Any


async def import_position(mtls: Mtls, principal: Principal, ingress: str, source: bytes) -> Position:
    """How far a log was imported for an ingress. Needs ``mtls.policy``. Raises NotFound."""
    async with mtls.database.read() as view:
        found = await visible(view, principal, ingress, Permission.MTLS_POLICY)
        return await _position(view, found, _digest(source, "source"))


async def import_chunk(mtls: Mtls, principal: Principal, ingress: str, chunk: Chunk) -> Imported:
    """Turn the next lines of a log into access events of an ingress. Needs ``mtls.policy``.

    Events, position and audit record are one transaction. A chunk that was imported before changes nothing. Raises
    NotFound, InvalidInput, TooLarge, StateConflict (``log-out-of-order``, ``log-differs``).
    """
    _check(chunk)
    entries, skipped, bad = await asyncio.to_thread(_read, chunk)
    async with mtls.database.transaction() as tx:
        found = await visible(tx, principal, ingress, Permission.MTLS_POLICY)
        position = await _locked(tx, principal, found, chunk)
        lines = len(entries) + skipped + len(bad)
        if position.offset >= chunk.offset + chunk.octets:
            return Imported(lines, 0, lines, 0, (), position.offset)
        _require_next(position, chunk)
        known = await _known(tx, found, entries)
        events = [_event(found, entry, known.get(entry.serial)) for entry in entries]
        if events:
            await copy_rows(await _driver(tx), rows(events))
        await _advance(tx, principal, found, chunk)
        audit.record(
            tx, principal, "access-log.import", "ingress", found.full_name, organization=found.organization,
            format=chunk.format, lines=lines, events=len(events), bad=len(bad), source=chunk.source.hex(),
            offset=chunk.offset,
        )  # fmt: skip
    return Imported(lines, len(events), skipped, len(bad), tuple(bad[:_SHOWN]), chunk.offset + chunk.octets)


# ---- steps -----------------------------------------------------------------------------------------------------------


def _check(chunk: Chunk) -> None:
    if chunk.format not in FORMATS:
        raise InvalidInput(
            f'"{chunk.format[:40]}" is not a format of logs.',
            code="log-format-unknown",
            remedy=f"Use one of: {', '.join(FORMATS)}.",
            target="format",
        )
    if len(chunk.text) > LARGEST_CHUNK or chunk.text.count("\n") > MOST_LINES:
        allowed = f"{LARGEST_CHUNK} characters and {MOST_LINES} lines"
        raise TooLarge(f"A chunk has at most {allowed}.", code="chunk-too-large")
    if chunk.offset < 0 or chunk.octets < 1 or chunk.offset + chunk.octets >= 1 << 62:
        raise InvalidInput("The place of the chunk in the log is not possible.", target="offset")
    _digest(chunk.source, "source")
    _digest(chunk.after, "after")
    if chunk.offset:
        _digest(chunk.before, "before")


def _digest(value: bytes, target: str) -> bytes:
    if len(value) != 32:
        raise InvalidInput("A digest is SHA-256: 32 octets.", target=target)
    return value


def _read(chunk: Chunk) -> tuple[list[Entry], int, list[Bad]]:
    entries: list[Entry] = []
    bad: list[Bad] = []
    skipped = 0
    for number, line in enumerate(_lines(chunk.text), 1):
        try:
            entry = parse_line(chunk.format, line)
        except BadLine as error:
            bad.append(Bad(number, str(error)))
            continue
        if entry is None:
            skipped += 1
        else:
            entries.append(entry)
    return entries, skipped, bad


def _lines(text: str) -> Iterator[str]:
    """Lines by line feeds alone: a log may have anything else in it."""
    for line in text.removesuffix("\n").split("\n"):
        yield line.removesuffix("\r")


async def _position(view: Transaction, ingress: Ingress, source: bytes) -> Position:
    t = log_import.c
    row = await view.one_or_none(
        select(t.position, t.last).where(t.ingress_id == ingress.id, t.source == source)
    )
    return Position() if row is None else Position(row["position"], bytes(row["last"]))


async def _locked(tx: Transaction, principal: Principal, ingress: Ingress, chunk: Chunk) -> Position:
    """The position, nobody else importing the same log until the end."""
    values = {
        "ingress_id": ingress.id, "source": chunk.source, "position": 0, "last": b"", "imported_by": principal.name,
        "changed_at": tx.now,
    }  # fmt: skip
    await tx.execute(insert(log_import).values(**values).on_conflict_do_nothing())
    t = log_import.c
    await tx.scalar(
        select(t.position).where(t.ingress_id == ingress.id, t.source == chunk.source).with_for_update()
    )
    return await _position(tx, ingress, chunk.source)


def _require_next(position: Position, chunk: Chunk) -> None:
    if position.offset != chunk.offset:
        raise StateConflict(
            f"The log was imported up to octet {position.offset}; the chunk begins at {chunk.offset}.",
            code="log-out-of-order",
            remedy="Go on from there.",
            extra={"offset": position.offset},
        )
    if chunk.offset and position.last != chunk.before:
        raise StateConflict(
            "The log begins like one that was imported, and goes on differently.",
            code="log-differs",
            remedy="It was changed or cut since. Import what is new of it as a file of its own.",
        )


async def _advance(tx: Transaction, principal: Principal, ingress: Ingress, chunk: Chunk) -> None:
    t = log_import
    await tx.execute(
        t.update()
        .where(t.c.ingress_id == ingress.id, t.c.source == chunk.source)
        .values(
            position=chunk.offset + chunk.octets, last=chunk.after, imported_by=principal.name, changed_at=tx.now
        )
    )


async def _known(view: Transaction, ingress: Ingress, entries: Iterable[Entry]) -> Mapping[bytes, _Known]:
    """The identities behind the serial numbers, as far as they were given in the trust domain of the ingress."""
    serials = {entry.serial for entry in entries if entry.serial}
    if not serials:
        return {}
    b, i, d = identities.binding.c, identities.identity.c, identities.trust_domain.c
    query = (
        select(b.serial, b.ca, b.not_after, i.kind, i.name, i.team, d.name.label("domain"), d.environment)
        .join_from(identities.binding, identities.identity, b.identity_id == i.id)
        .join(identities.trust_domain, d.id == i.domain_id)
        .where(b.serial.in_(serials), d.id == ingress.domain_id)
    )
    return {
        bytes(row["serial"]): _Known(
            spiffe_id(row["domain"], row["environment"], row["team"], Kind(row["kind"]), row["name"]),
            row["kind"],
            row["ca"],
            row["not_after"],
        )
        for row in await view.all(query)
    }


def _event(ingress: Ingress, entry: Entry, known: _Known | None) -> AccessEvent:
    """The event of an entry. A serial number names an identity only where the ingress had verified the certificate."""
    good = entry.reason is None and entry.verified
    claimed = known.uri if known else entry.uri or entry.subject
    reason = entry.reason
    if entry.ip_allowed is False:
        reason = ReasonCode.IP_DENIED
    return AccessEvent(
        at=entry.at,
        kind=entry.kind,
        recorder="import",
        organization_id=ingress.organization_id,
        ingress_id=ingress.id,
        ingress=ingress.full_name,
        source_ip=entry.source_ip,
        identity=(known.uri if known else entry.uri) if good else "",
        claimed=claimed,
        identity_kind=known.kind if good and known else "",
        serial=entry.serial,
        fingerprint=entry.fingerprint,
        issuer=entry.issuer,
        san=f"uniformResourceIdentifier:{entry.uri}" if entry.uri else "",
        not_after=known.not_after if known else entry.not_after,
        tls_version=entry.tls_version,
        cipher=entry.cipher,
        decision="allow" if entry.served else "deny",
        mode=ingress.mode,
        reason=reason or "",
        certificate_reason=entry.reason or "",
        ip_allowed=entry.ip_allowed,
        method=entry.method,
        host=entry.host,
        path=entry.path,
        detail=entry.detail,
    )


async def _driver(tx: Transaction) -> psycopg.AsyncConnection[Any]:
    """The driver's connection of a transaction, for COPY as a part of it."""
    raw = await tx.connection.get_raw_connection()
    return cast("psycopg.AsyncConnection[Any]", raw.driver_connection)


__all__: Sequence[str] = ("Bad", "Chunk", "Imported", "Position", "import_chunk", "import_position")
