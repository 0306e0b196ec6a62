"""Import of access logs of ingresses made by others."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from intaglio.mtls.observation import importing
from intaglio.server.management.access import Asker
from intaglio.server.management.mtls.given import GivenMtls

router = APIRouter(prefix="/mtls/v1", tags=["access events"])

_DIGEST = "^[0-9a-f]{64}$"


class LogPosition(BaseModel):
    """How far a log was imported: octets, and SHA-256 of the last line before."""

    offset: int
    last: str


class LogChunk(BaseModel):
    """Whole lines of a log: ``source`` is SHA-256 of its first line, ``before`` of the line before the chunk, ``after``
    of the chunk's last; ``offset`` and ``octets`` are the place of the chunk in the file."""

    model_config = ConfigDict(extra="forbid")

    format: str = Field(max_length=40)
    source: str = Field(pattern=_DIGEST)
    offset: int = Field(ge=0, lt=1 << 61)
    octets: int = Field(ge=1, lt=1 << 61)
    before: str = Field(default="", pattern=f"{_DIGEST}|^$")
    after: str = Field(pattern=_DIGEST)
    text: str = Field(max_length=700_000)


class BadLogLine(BaseModel):
    """A line that was not understood."""

    line: int
    why: str


class ImportedLog(BaseModel):
    """What became of the lines; the first bad ones are shown. ``offset`` is where to go on."""

    lines: int
    events: int
    skipped: int
    bad: int
    shown: list[BadLogLine]
    offset: int


@router.get("/ingresses/{ingress}/log")
async def get_log_position(
    mtls: GivenMtls, asker: Asker, ingress: str, source: Annotated[str, Query(pattern=_DIGEST)]
) -> LogPosition:
    """How far a log was imported for an ingress."""
    found = await importing.import_position(mtls, asker, ingress, bytes.fromhex(source))
    return LogPosition(offset=found.offset, last=found.last.hex())


@router.post("/ingresses/{ingress}/log")
async def import_log(mtls: GivenMtls, asker: Asker, ingress: str, body: LogChunk) -> ImportedLog:
    """Turn the next lines of a log into access events."""
    chunk = importing.Chunk(
        format=body.format,
        source=bytes.fromhex(body.source),
        offset=body.offset,
        octets=body.octets,
        before=bytes.fromhex(body.before),
        after=bytes.fromhex(body.after),
        text=body.text,
    )
    found = await importing.import_chunk(mtls, asker, ingress, chunk)
    return ImportedLog(
        lines=found.lines,
        events=found.events,
        skipped=found.skipped,
        bad=found.bad,
        shown=[BadLogLine(line=each.line, why=each.why) for each in found.shown],
        offset=found.offset,
    )
