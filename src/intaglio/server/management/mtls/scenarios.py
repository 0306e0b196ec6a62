"""Scenarios that show what mutual TLS does, run on the loopback network of the server."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from intaglio.core.errors import IntaglioError
from intaglio.mtls.scenarios import runs
from intaglio.mtls.scenarios.values import CATALOGUE
from intaglio.mtls.scenarios.values import Row as FoundRow
from intaglio.mtls.scenarios.values import Run as FoundRun
from intaglio.server import problems
from intaglio.server.management.access import Asker
from intaglio.server.management.mtls.given import GivenMtls

router = APIRouter(prefix="/mtls/v1/scenarios", tags=["scenarios"])

_LINES = "application/x-ndjson"
_Told = FoundRow | str | FoundRun


class Row(BaseModel):
    """One try: from which address, with which certificate, what had to come of it and what did."""

    step: str
    source: str
    presents: str
    expected: str
    observed: str
    passed: bool

    @classmethod
    def of(cls, found: FoundRow) -> Row:
        return cls(**asdict(found), passed=found.passed)


class Run(BaseModel):
    """What a run showed; ``figures`` are measurements."""

    id: str
    number: int
    passed: bool
    rows: list[Row]
    figures: dict[str, float]
    started_by: str
    started_at: datetime
    finished_at: datetime

    @classmethod
    def of(cls, found: FoundRun) -> Run:
        return cls(
            id=str(found.id),
            number=found.number,
            passed=found.passed,
            rows=list(map(Row.of, found.rows)),
            figures=dict(found.figures),
            started_by=found.started_by,
            started_at=found.started_at,
            finished_at=found.finished_at,
        )


class Scenario(BaseModel):
    """A scenario: what an IP rule alone does, what mutual TLS adds, and its newest run."""

    number: int
    name: str
    title: str
    network_alone: str
    adds: str
    last_run: Run | None


class Scenarios(BaseModel):
    """All of them."""

    items: list[Scenario]


@router.get("")
async def list_scenarios(mtls: GivenMtls, asker: Asker) -> Scenarios:
    """The scenarios with their newest runs."""
    found = await runs.last_runs(mtls, asker)
    return Scenarios(
        items=[
            Scenario(**asdict(each), last_run=Run.of(found[number]) if number in found else None)
            for number, each in CATALOGUE.items()
        ]
    )


@router.post("/{number}/runs", response_class=StreamingResponse, responses={200: {"content": {_LINES: {}}}})
async def run_scenario(
    mtls: GivenMtls,
    asker: Asker,
    number: int,
    count: Annotated[int, Query(ge=1, le=runs.MOST_SERVICES, description="Services of the largest one.")] = 2000,
) -> StreamingResponse:
    """Run a scenario: one JSON object per line, `{"doing"}`, `{"row"}` and at the end `{"run"}`, or `{"problem"}`."""
    playing = runs.run_scenario(mtls, asker, number, count=count)
    first = await anext(playing)  # what is refused at once is refused with its own status
    return StreamingResponse(_lines(first, playing), media_type=_LINES)


async def _lines(first: _Told, rest: AsyncIterator[_Told]) -> AsyncIterator[str]:
    try:
        yield _line(first)
        async for each in rest:
            yield _line(each)
    except IntaglioError as error:
        yield json.dumps({"problem": problems.problem(error)}) + "\n"


def _line(each: _Told) -> str:
    found: dict[str, Any]
    match each:
        case str():
            found = {"doing": each}
        case FoundRow():
            found = {"row": Row.of(each).model_dump()}
        case FoundRun():
            found = {"run": Run.of(each).model_dump(mode="json")}
    return json.dumps(found) + "\n"
