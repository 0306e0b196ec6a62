"""Live settings."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

import intaglio.server.management.settings_groups  # noqa: F401 - groups that nobody has used yet are shown, too
from intaglio.platform import live_settings
from intaglio.platform.live_settings import SettingsGroup, Stored
from intaglio.server.management.access import Asked, Asker, Given
from intaglio.server.management.lists import Items, page

router = APIRouter(tags=["settings"])


class Group(BaseModel):
    """A group of settings; version 0 are the defaults."""

    name: str
    description: str
    values: dict[str, Any]
    version: int
    changed_at: datetime | None
    changed_by: str | None


class Changes(BaseModel):
    """Fields to change; others keep their values. ``version`` refuses the change when somebody else was faster."""

    model_config = ConfigDict(extra="forbid")

    values: dict[str, Any]
    version: int | None = Field(default=None, ge=0)


@router.get("/settings")
async def list_settings(services: Given, asker: Asker, asked: Asked) -> Items[Group]:
    """All groups of live settings."""
    async with services.database.read() as view:
        return page(map(_group, await live_settings.show_all(view, asker)), asked, key="name")


@router.get("/settings/{name}")
async def get_settings(services: Given, asker: Asker, name: str) -> Group:
    """One group."""
    async with services.database.read() as view:
        return _group(await live_settings.show(view, asker, name))


@router.patch("/settings/{name}")
async def change_settings(services: Given, asker: Asker, name: str, body: Changes) -> Group:
    """Change settings; every process uses them at once."""
    async with services.database.transaction() as tx:
        changed = await live_settings.change(tx, asker, name, body.values, expected_version=body.version)
    return _group(changed)


def _group(stored: Stored[SettingsGroup]) -> Group:
    return Group(
        name=stored.group,
        description=stored.description,
        values=stored.values.model_dump(mode="json"),
        version=stored.version,
        changed_at=stored.changed_at,
        changed_by=stored.changed_by,
    )
