"""Live settings: what administrators change at run time, as typed groups with defaults.

A group is a pydantic model registered under a name. Only what differs from the defaults of a fresh installation is
stored; every change has a version, is audited with the values before and after, and moves the configuration epoch, so
that all processes use it at once. Settings hold no secrets: those are keys or sealed columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from intaglio.audit.record import record
from intaglio.core.errors import InvalidInput, NotFound, StateConflict, Unavailable
from intaglio.core.principal import Permission, Principal
from intaglio.db.engine import Row, Transaction
from intaglio.platform.models import setting


class SettingsGroup(BaseModel):
    """Base of all groups. A subclass gives ``group`` and a docstring (its description), and a default for every field;
    defining it registers it."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    group: ClassVar[str]

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        if (known := CATALOGUE.get(cls.group)) is not None and known.__qualname__ != cls.__qualname__:
            raise ValueError(f"two groups of settings are called {cls.group}")
        cls()  # every field has a valid default
        CATALOGUE[cls.group] = cls


CATALOGUE: dict[str, type[SettingsGroup]] = {}

G = TypeVar("G", bound=SettingsGroup)


class Logging(SettingsGroup):
    """What is logged."""

    group = "logging"

    level: Literal["TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL", "OFF"] | None = Field(
        default=None, description="Lowest level shown by every process; without it, the boot setting holds."
    )


class Stored(BaseModel, Generic[G]):
    """A group's values with their version; version 0 are the defaults, never changed."""

    group: str
    description: str
    values: G
    version: int
    changed_at: datetime | None
    changed_by: str | None


async def current(view: Transaction, group: type[G]) -> G:
    """The values in force. No permission needed: for use inside the product.

    Raises Unavailable (``setting-invalid``) when what is stored does not fit this version.
    """
    row = await view.one_or_none(select(setting).where(setting.c.name == group.group))
    return group() if row is None else _parsed(group, row)


async def show(view: Transaction, principal: Principal, name: str) -> Stored[SettingsGroup]:
    """One group. Needs ``platform.manage``. Raises NotFound."""
    principal.require(Permission.PLATFORM_MANAGE)
    group = _group(name)
    return _stored(group, await view.one_or_none(select(setting).where(setting.c.name == name)))


async def show_all(view: Transaction, principal: Principal) -> list[Stored[SettingsGroup]]:
    """All groups by name. Needs ``platform.manage``."""
    principal.require(Permission.PLATFORM_MANAGE)
    rows = {row["name"]: row for row in await view.all(select(setting))}
    return [_stored(group, rows.get(name)) for name, group in sorted(CATALOGUE.items())]


async def change(
    tx: Transaction,
    principal: Principal,
    name: str,
    values: Mapping[str, Any],
    *,
    expected_version: int | None = None,
) -> Stored[SettingsGroup]:
    """Change fields of a group; fields not named keep their values.

    Raises NotFound, InvalidInput with every wrong field, Forbidden, StateConflict (``version-moved``) when somebody
    changed the group since version ``expected_version``.
    """
    principal.require(Permission.PLATFORM_MANAGE)
    group = _group(name)
    row = await tx.one_or_none(select(setting).where(setting.c.name == name).with_for_update())
    before = _stored(group, row)
    if expected_version is not None and expected_version != before.version:
        raise StateConflict(
            f'The settings "{name}" are at version {before.version}, not {expected_version}.',
            code="version-moved",
            remedy="Read them again and repeat the change.",
        )
    anew = _merged(group, before.values, values)
    if anew == before.values:
        return before
    columns = {
        "value": anew.model_dump(mode="json", exclude_defaults=True),
        "version": before.version + 1,
        "changed_at": tx.now,
        "changed_by": principal.name,
    }
    statement = insert(setting).values(name=name, **columns)
    await tx.execute(statement.on_conflict_do_update(index_elements=["name"], set_=columns))
    old, new = before.values.model_dump(mode="json"), anew.model_dump(mode="json")
    changed = {key: [old[key], new[key]] for key in new if old[key] != new[key]}
    record(tx, principal, "settings.change", "settings", name, version=columns["version"], changed=changed)
    tx.changed_configuration()
    return _stored(group, {"name": name, **columns})


def _merged(group: type[SettingsGroup], before: SettingsGroup, values: Mapping[str, Any]) -> SettingsGroup:
    if len(values) > len(group.model_fields) + 20:
        raise InvalidInput("Too many fields.", code="setting-invalid")
    merged = {**before.model_dump(exclude_defaults=True), **values}
    try:
        return group.model_validate(merged)
    except ValidationError as error:
        wrong = [("/" + "/".join(map(str, e["loc"])), e["msg"]) for e in error.errors(include_input=False)]
        raise InvalidInput(
            f'The settings "{group.group}" are wrong in {", ".join(pointer for pointer, _ in wrong)}.',
            code="setting-invalid",
            fields=wrong,
        ) from None


def _group(name: str) -> type[SettingsGroup]:
    if name not in CATALOGUE:
        raise NotFound(
            f'There are no settings "{name[:50]}".',
            code="setting-unknown",
            remedy=f"There are: {', '.join(sorted(CATALOGUE))}.",
        )
    return CATALOGUE[name]


def _stored(group: type[SettingsGroup], row: Row | None) -> Stored[SettingsGroup]:
    return Stored[SettingsGroup](
        group=group.group,
        description=(group.__doc__ or "").strip(),
        values=group() if row is None else _parsed(group, row),
        version=0 if row is None else row["version"],
        changed_at=None if row is None else row["changed_at"],
        changed_by=None if row is None else row["changed_by"],
    )


def _parsed(group: type[G], row: Row) -> G:
    # A field that a newer or older version knew is left out; a value that does not fit is not guessed at.
    known = {key: value for key, value in row["value"].items() if key in group.model_fields}
    try:
        return group.model_validate(known)
    except ValidationError as error:
        raise Unavailable(
            f'The stored settings "{group.group}" do not fit this version: {error.errors()[0]["msg"]}.',
            code="setting-invalid",
            remedy="Set them again, or run the version that wrote them.",
        ) from None
