"""The installation as a YAML document."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from intaglio.profiles import custom
from intaglio.profiles.declarations import validated
from intaglio.server.management import encoding
from intaglio.server.management.access import Asker, Given
from intaglio.server.management.declarative import applying, document, reading
from intaglio.server.management.declarative.difference import Step, difference
from intaglio.server.management.declarative.document import Document

router = APIRouter(tags=["declaration"])


class Declaration(BaseModel):
    """YAML: organizations, CAs, custom profiles, live settings; a section that is left out is left alone."""

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


@router.get("/declaration")
async def export_declaration(services: Given, asker: Asker) -> Declaration:
    """Everything one sees, as YAML; nothing secret is in it."""
    return Declaration(declaration=document.dump(await reading.read(services, asker)))


@router.post("/declaration")
async def apply_declaration(
    services: Given,
    asker: Asker,
    body: Declaration,
    dry_run: Annotated[bool, Query(description="Only say what would change.")] = False,
    prune: Annotated[bool, Query(description="Also delete what is not named, in the sections that are there.")] = False,
) -> Outcome:
    """Make the installation what a document declares; repeating it changes nothing more.

    Steps are taken one by one. A refusal ends it and names in `done` what was changed until then.
    """
    wanted = _normal(document.parse(body.declaration))
    steps = difference(wanted, await reading.read(services, asker), prune=prune)
    changes = [Change.of(step) for step in steps]
    if dry_run:
        return Outcome(dry_run=True, changes=changes)
    applied = await applying.apply(services, asker, steps)
    return Outcome(
        dry_run=False,
        changes=changes,
        credentials=[encoding.credential(made) for made in applied.credentials],
        notes=applied.notes,
    )


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
