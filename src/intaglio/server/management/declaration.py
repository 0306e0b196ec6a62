"""The installation as a YAML document."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from intaglio.core.errors import IntaglioError
from intaglio.profiles import custom
from intaglio.profiles.declarations import validated
from intaglio.server import problems
from intaglio.server.management import encoding
from intaglio.server.management.access import Asker, Given
from intaglio.server.management.declarative import applying, checking, document, reading
from intaglio.server.management.declarative.applying import Taken
from intaglio.server.management.declarative.difference import difference
from intaglio.server.management.declarative.document import Document
from intaglio.server.management.declarative.steps import Step

router = APIRouter(tags=["declaration"])

LINES = "application/x-ndjson"


class Declaration(BaseModel):
    """YAML: organizations, CAs, custom profiles, live settings, trust domains, identities, policies, ingresses,
    pipelines, outbound credentials, status authorities and directories; a section that is left out is left alone."""

    model_config = ConfigDict(extra="forbid")

    declaration: str = Field(max_length=document.LARGEST)


class Change(BaseModel):
    """One object that changes; ``fields`` are (name, before, after)."""

    action: Literal["create", "change", "delete"]
    object: str
    fields: list[tuple[str, str, str]]

    @classmethod
    def of(cls, step: Step) -> Change:
        fields = [(each.name, each.before, each.after) for each in step.fields]
        return cls(action=step.action, object=step.object, fields=fields)


class Outcome(BaseModel):
    """What was, or with a dry run would be, changed. ``credentials`` of new clients are shown this once."""

    dry_run: bool
    changes: list[Change]
    credentials: list[encoding.IssuedCredential] = []
    notes: list[str] = []

    def add(self, taken: Taken) -> None:
        self.changes.append(Change.of(taken.step))
        self.credentials += [encoding.credential(made) for made in taken.credentials]
        self.notes += taken.notes


@router.get("/declaration")
async def export_declaration(services: Given, asker: Asker) -> Declaration:
    """Everything one sees, as YAML; nothing secret is in it."""
    return Declaration(declaration=document.dump(await reading.read(services, asker)))


@router.post("/declaration", responses={200: {"content": {LINES: {}}}}, response_model=Outcome)
async def apply_declaration(
    request: Request,
    services: Given,
    asker: Asker,
    body: Declaration,
    dry_run: Annotated[bool, Query(description="Only say what would change.")] = False,
    prune: Annotated[bool, Query(description="Also delete what is not named, in the sections that are there.")] = False,
) -> Outcome | StreamingResponse:
    """Make the installation what a document declares; repeating it changes nothing more.

    Steps are taken one by one. A refusal ends it; its `done` says what was changed until then, and `credentials` what
    was made. With `Accept: application/x-ndjson` the answer is one outcome per line as each step is done, or a
    `problem`: for documents that take longer than a request may.
    """
    wanted = _normal(document.parse(body.declaration))
    current = await reading.read(services, asker)
    checking.check(wanted, current)
    steps = difference(wanted, current, prune=prune)
    if dry_run:
        return Outcome(dry_run=True, changes=[Change.of(step) for step in steps])
    taken = applying.apply(services, asker, steps)
    if LINES in request.headers.get("accept", ""):
        return StreamingResponse(_lines(taken), media_type=LINES)
    outcome = Outcome(dry_run=False, changes=[])
    try:
        async for each in taken:
            outcome.add(each)
    except IntaglioError as error:
        error.extra["done"] = [f"{each.action} {each.object}" for each in outcome.changes]
        # They exist by now, and nobody else has them.
        error.extra["credentials"] = [each.model_dump(mode="json") for each in outcome.credentials]
        raise
    return outcome


async def _lines(taken: AsyncIterator[Taken]) -> AsyncIterator[str]:
    try:
        async for each in taken:
            outcome = Outcome(dry_run=False, changes=[])
            outcome.add(each)
            yield outcome.model_dump_json() + "\n"
    except IntaglioError as error:
        yield json.dumps({"problem": problems.problem(error)}, default=str) + "\n"


def _normal(wanted: Document) -> Document:
    """Profiles in the form in which they are compared: validated, with defaults left out."""
    if wanted.profiles is None:
        return wanted
    profiles = []
    for content in wanted.profiles:
        profile = validated({name: value for name, value in content.items() if name != "version"})
        normal_id = custom.check_custom_id(profile.id)
        profiles.append(reading.profile_content(profile.model_copy(update={"id": normal_id, "configurable": True})))
    return wanted.model_copy(update={"profiles": profiles})
