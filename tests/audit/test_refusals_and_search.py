from __future__ import annotations

import contextlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.audit.conftest import OPERATOR, Write

from intaglio.audit.record import record
from intaglio.audit.refusals import RefusalRecorder, _clean
from intaglio.audit.search import AuditRecord, get, search
from intaglio.core import clock
from intaglio.core.errors import Forbidden, IntaglioError, InvalidInput, NotFound, Unavailable
from intaglio.core.principal import ANONYMOUS, Permission, Principal
from intaglio.db.engine import Database
from intaglio.db.listing import Listing, ListQuery

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
ALICE = Principal("user", "alice", frozenset({Permission.AUDIT_VIEW}), "192.0.2.1")


async def everything(database: Database) -> list[AuditRecord]:
    async with database.read() as view:
        return (await search(view, OPERATOR, ListQuery(sort="seq", limit=1000))).items


async def test_a_refusal_leaves_a_record(database: Database) -> None:
    recorder = RefusalRecorder(database)
    recorder.record(ALICE, "ca.create", "ca", "demo~root", Forbidden("Not allowed."), organization="demo")
    await recorder.flush()
    [kept] = await everything(database)
    assert (kept.actor, kept.action, kept.object, kept.outcome, kept.source, kept.organization) == (
        *("alice", "ca.create", "demo~root"),
        *("refused", "192.0.2.1", "demo"),
    )
    assert kept.detail == {"code": "forbidden", "status": 403, "reason": "Not allowed.", "count": 1}


async def test_equal_refusals_of_a_moment_become_one_record(database: Database) -> None:
    recorder = RefusalRecorder(database)
    for _ in range(1000):
        recorder.record(ANONYMOUS, "user.login", "user", "admin", Forbidden("No."))
    recorder.record(ALICE, "user.login", "user", "admin", Forbidden("No."))
    assert recorder.waiting == 2
    await recorder.flush()
    assert sorted(kept.detail["count"] for kept in await everything(database)) == [1, 1000]


async def test_what_does_not_fit_is_counted_and_the_count_recorded(database: Database) -> None:
    recorder = RefusalRecorder(database, capacity=10)
    for number in range(25):
        recorder.record(ALICE, "ca.get", "ca", f"ca {number}", NotFound("No such CA."))
    assert recorder.lost == 15
    await recorder.flush()
    kept = await everything(database)
    assert len(kept) == 11
    assert (kept[-1].action, kept[-1].detail) == ("audit.overflow", {"lost": 15})


async def test_refusals_wait_while_the_database_is_away(database: Database) -> None:
    nowhere = Database("postgresql://nobody@127.0.0.1:1/nothing")
    recorder = RefusalRecorder(nowhere)
    recorder.record(ALICE, "ca.get", "ca", "x", NotFound("No."))
    with pytest.raises(Unavailable):
        await recorder.flush()
    recorder.record(ALICE, "ca.get", "ca", "x", NotFound("No."))
    assert recorder.waiting == 1
    recorder._database = database
    await recorder.stop()
    assert [kept.detail["count"] for kept in await everything(database)] == [2]
    await nowhere.close()


async def test_a_running_recorder_writes_by_itself_and_at_its_end(database: Database) -> None:
    recorder = RefusalRecorder(database)
    await recorder.start()
    recorder.record(ALICE, "ca.get", "ca", "x\0y" + "z" * 10_000, NotFound("No \0."))
    await recorder.stop()
    [kept] = await everything(database)
    assert kept.object.startswith("x�y")
    assert len(kept.object) == 500


@given(st.text(max_size=20) | st.sampled_from(["\ud800", "\0", "x" * 2000]))
def test_any_text_becomes_storable(text: str) -> None:
    stored = _clean(text)
    assert len(stored) <= 500
    assert "\0" not in stored
    assert stored.encode().decode() == stored


async def test_a_batch_that_cannot_be_written_does_not_hold_up_the_next(database: Database) -> None:
    recorder = RefusalRecorder(database)
    recorder.record(ALICE, "a\0b", "ca", "x", NotFound("No."))  # an action is ours, never outside text
    await recorder.flush()
    assert recorder.lost == 1
    recorder.record(ALICE, "ca.get", "ca", "\ud800", NotFound("No."))
    await recorder.stop()
    kept = await everything(database)
    assert [(item.action, item.object) for item in kept] == [("ca.get", "?"), ("audit.overflow", "refusals")]


async def test_a_fault_of_ours_is_recorded_as_failed(database: Database) -> None:
    recorder = RefusalRecorder(database)
    recorder.record(ALICE, "ca.get", "ca", "x", IntaglioError("Something broke."))
    await recorder.flush()
    assert [kept.outcome for kept in await everything(database)] == ["failed"]


async def test_the_trail_is_read_only_with_the_permission(database: Database) -> None:
    async with database.read() as view:
        with pytest.raises(Forbidden):
            await search(view, replace(ALICE, permissions=frozenset()))


async def test_paging_shows_every_record_once_while_others_are_written(database: Database, write: Write) -> None:
    await write(25)
    seen: list[int] = []
    cursor = None
    while True:
        async with database.read() as view:
            page = await search(view, ALICE, ListQuery(limit=10, cursor=cursor, total=True))
        seen += [item.seq for item in page.items]
        if (cursor := page.next_cursor) is None:
            break
        await write(3)
    assert seen == list(range(25, 0, -1))
    assert page.total == 31


async def test_records_are_found_by_every_field(database: Database) -> None:
    async with database.transaction() as tx:
        record(tx, OPERATOR, "ca.create", "ca", "demo~root", organization="demo")
        record(tx, ALICE, "certificate.revoke", "certificate", "4F", organization="other", outcome="refused")
    conditions = {
        "action=ca.create": [1],
        "action~REVOKE": [2],
        "actor!=root": [2],
        "actor_kind=user": [2],
        "outcome=refused": [2],
        "organization=demo": [1],
        "object_kind=ca": [1],
        "object=demo~root": [1],
        "seq>=2": [2],
        "seq<2": [1],
        "source=192.0.2.1": [2],
        "at>=2020-01-01T00:00:00Z": [2, 1],
        "at<2020-01-01T00:00:00Z": [],
        "correlation_id=": [2, 1],
    }
    async with database.read() as view:
        for condition, expected in conditions.items():
            found = await search(view, ALICE, ListQuery(filter=[condition]))
            assert [item.seq for item in found.items] == expected, condition
        both = await search(view, ALICE, ListQuery(filter=["action~c", "outcome=success"], sort="at"))
        assert [item.seq for item in both.items] == [1]


async def test_a_view_can_be_limited_to_organizations_since_they_were_created(database: Database) -> None:
    with clock.frozen(NOON) as advance:
        for organization in ("demo", "other", None, "demo"):
            async with database.transaction() as tx:
                record(tx, OPERATOR, "ca.create", "ca", "x", organization=organization)
            advance(timedelta(hours=1))
    nobody = replace(ALICE, permissions=frozenset())
    async with database.read() as view:
        for organizations, expected in (
            ({"demo": NOON}, [4, 1]),
            ({"demo": NOON + timedelta(seconds=1)}, [4]),
            ({"demo": NOON, "other": NOON}, [4, 2, 1]),
            ({"none": NOON}, []),
            ({}, []),
        ):
            page = await search(view, nobody, ListQuery(total=True), organizations=organizations)
            assert ([item.seq for item in page.items], page.total) == (expected, len(expected))
            filtered = await search(view, nobody, ListQuery(filter=["organization=other"]), organizations=organizations)
            assert [item.seq for item in filtered.items] == [seq for seq in expected if seq == 2]
        assert (await get(view, nobody, 4, organizations={"demo": NOON})).seq == 4
        for hidden in (2, 3, 99):
            with pytest.raises(NotFound):
                await get(view, nobody, hidden, organizations={"demo": NOON})


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        (ListQuery(filter=["nothing"]), "filter-invalid"),
        (ListQuery(filter=["password=x"]), "filter-invalid"),
        (ListQuery(filter=["seq=x"]), "filter-invalid"),
        (ListQuery(filter=["seq=99999999999999999999"]), "filter-invalid"),
        (ListQuery(filter=["at>=yesterday"]), "filter-invalid"),
        (ListQuery(filter=["actor=\0"]), "filter-invalid"),
        (ListQuery(filter=["actor=x"] * 21), "filter-invalid"),
        (ListQuery(filter=["actor=" + "x" * 2000]), "filter-invalid"),
        (ListQuery(sort="detail"), "sort-invalid"),
        (ListQuery(limit=0), "limit-invalid"),
        (ListQuery(limit=1001), "limit-invalid"),
        (ListQuery(cursor="x"), "cursor-invalid"),
        (ListQuery(cursor="W10="), "cursor-invalid"),
    ],
)
async def test_what_is_not_understood_is_refused(database: Database, asked: ListQuery, code: str) -> None:
    async with database.read() as view:
        with pytest.raises(InvalidInput) as refused:
            await search(view, ALICE, asked)
    assert refused.value.code == code


@given(st.text(max_size=60) | st.builds("seq{}{}".format, st.sampled_from("=<>~"), st.text(max_size=20)))
def test_any_condition_is_either_understood_or_refused(text: str) -> None:
    from intaglio.audit.search import _LISTING

    listing: Listing = _LISTING
    with contextlib.suppress(InvalidInput):
        assert len(listing._conditions([text])) == 1


@given(st.text(max_size=60) | st.binary(max_size=60).map(lambda octets: octets.hex()))
def test_any_cursor_is_either_understood_or_refused(text: str) -> None:
    from intaglio.audit.search import _LISTING

    with pytest.raises(InvalidInput):
        _LISTING._position(ListQuery(cursor=text), "seq")
