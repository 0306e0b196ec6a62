from __future__ import annotations

import pytest
from sqlalchemy import select, text

from intaglio.audit.models import audit_record
from intaglio.core.errors import Forbidden, InvalidInput, NotFound, StateConflict, Unavailable
from intaglio.core.principal import Principal, operator
from intaglio.db.engine import Database
from intaglio.db.journal import journal_head
from intaglio.platform import live_settings
from intaglio.platform.live_settings import Logging, SettingsGroup

OPERATOR = operator("root")


async def change(
    database: Database, by: Principal = OPERATOR, /, **values: object
) -> live_settings.Stored[SettingsGroup]:
    async with database.transaction() as tx:
        return await live_settings.change(tx, by, "logging", values)


async def test_settings_have_defaults(database: Database) -> None:
    async with database.read() as view:
        assert await live_settings.current(view, Logging) == Logging()
        shown = {stored.group: stored for stored in await live_settings.show_all(view, OPERATOR)}
    assert (shown["logging"].version, shown["logging"].changed_by) == (0, None)


async def test_a_change_is_versioned_audited_and_moves_the_epoch(database: Database) -> None:
    changed = await change(database, level="DEBUG")
    assert (changed.version, changed.changed_by) == (1, "root")
    async with database.read() as view:
        assert (await live_settings.current(view, Logging)).level == "DEBUG"
        assert await view.scalar(select(journal_head.c.epoch)) == 1
        record = await view.one_or_none(select(audit_record))
    assert record is not None
    assert (record["action"], record["object"]) == ("settings.change", "logging")
    assert record["detail"] == {"version": 1, "changed": {"level": [None, "DEBUG"]}}


async def test_a_change_to_the_same_value_is_none(database: Database) -> None:
    await change(database, level="DEBUG")
    assert (await change(database, level="DEBUG")).version == 1


async def test_a_value_can_go_back_to_its_default(database: Database) -> None:
    await change(database, level="DEBUG")
    assert (await change(database, level=None)).values == Logging()


@pytest.mark.parametrize("values", [{"level": "LOUD"}, {"volume": 11}, {"level": ["DEBUG"]}, {"level": {"x": "y"}}])
async def test_wrong_values_are_refused_by_field(database: Database, values: dict[str, object]) -> None:
    with pytest.raises(InvalidInput) as refused:
        await change(database, **values)
    assert [pointer for pointer, _ in refused.value.fields] == [f"/{next(iter(values))}"]


async def test_two_administrators_do_not_overwrite_each_other(database: Database) -> None:
    await change(database, level="DEBUG")
    with pytest.raises(StateConflict) as refused:
        async with database.transaction() as tx:
            await live_settings.change(tx, OPERATOR, "logging", {"level": "WARN"}, expected_version=0)
    assert refused.value.code == "version-moved"


async def test_settings_need_the_permission_and_a_known_name(database: Database) -> None:
    with pytest.raises(Forbidden):
        await change(database, Principal("user", "bob"), level="DEBUG")
    async with database.read() as view:
        with pytest.raises(NotFound):
            await live_settings.show(view, OPERATOR, "nothing")


async def test_stored_values_that_do_not_fit_are_not_guessed_at(database: Database) -> None:
    await change(database, level="DEBUG")
    async with database.transaction() as tx:
        await tx.execute(text("UPDATE setting SET value = '{\"level\": 7}'"))
    async with database.read() as view:
        with pytest.raises(Unavailable) as refused:
            await live_settings.current(view, Logging)
    assert refused.value.code == "setting-invalid"


async def test_fields_of_another_version_are_left_out(database: Database) -> None:
    await change(database, level="DEBUG")
    async with database.transaction() as tx:
        await tx.execute(text("UPDATE setting SET value = value || '{\"from_the_future\": 1}'"))
    async with database.read() as view:
        assert (await live_settings.current(view, Logging)).level == "DEBUG"
