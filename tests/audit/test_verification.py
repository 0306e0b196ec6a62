"""The trail of these tests: record 1 (the sealing key was made) and 35 more, under seals of ten."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

import pytest
from tests.audit.conftest import OPERATOR, Seal, Tamper, Verify, Write

from intaglio.audit import sealing
from intaglio.core import clock
from intaglio.db.engine import Database
from intaglio.keystore.audit_key import audit_signer, rotate_audit_key
from intaglio.keystore.service import KeyStore


@pytest.fixture(autouse=True)
async def _trail(write: Write, seal: Seal) -> None:
    await write(35)
    await seal()


async def findings(verify: Verify) -> list[tuple[str, int | None]]:
    return [(finding.kind, finding.seq) for finding in (await verify()).findings]


async def test_an_untouched_trail_is_intact(verify: Verify) -> None:
    report = await verify()
    assert report.intact, report.findings
    assert (report.records, report.seals, report.unsealed) == (36, 4, 0)


async def test_records_not_yet_sealed_are_counted(write: Write, verify: Verify) -> None:
    await write(5)
    report = await verify()
    assert report.intact
    assert report.unsealed == 5


async def test_records_that_stay_unsealed_are_reported(write: Write, verify: Verify) -> None:
    await write(5)
    with clock.frozen(clock.now() + timedelta(minutes=5)):
        assert await findings(verify) == [("sealing-overdue", 37)]


@pytest.mark.parametrize(
    "change",
    [
        "actor = 'somebody else'",
        "at = at + interval '1 second'",
        "action = 'thing.dodge'",
        "outcome = 'refused'",
        "detail = detail || '{\"value\": 0}'",
        "detail = detail - 'note'",
        "organization = ''",
        "source = 'elsewhere'",
        "correlation_id = 'x'",
    ],
)
async def test_an_edited_record_is_found(tamper: Tamper, verify: Verify, change: str) -> None:
    await tamper(f"UPDATE audit_record SET {change} WHERE seq = 17")
    report = await verify()
    assert [(finding.kind, finding.seq, finding.seal) for finding in report.findings] == [("record-edited", 17, 2)]
    assert report.first_bad_seq == 17


async def test_deleted_records_are_found(tamper: Tamper, verify: Verify) -> None:
    await tamper("DELETE FROM audit_record WHERE seq IN (10, 11, 36)")
    assert await findings(verify) == [("record-missing", 10), ("record-missing", 11), ("record-missing", 36)]


async def test_swapped_records_are_found(tamper: Tamper, verify: Verify) -> None:
    await tamper("UPDATE audit_record SET seq = -1 WHERE seq = 5")
    await tamper("UPDATE audit_record SET seq = 5 WHERE seq = 6")
    await tamper("UPDATE audit_record SET seq = 6 WHERE seq = -1")
    assert await findings(verify) == [("record-edited", 5), ("record-edited", 6)]


@pytest.mark.parametrize("seq", [0, -7, 1000])
async def test_a_record_that_was_never_journalled_is_found(tamper: Tamper, verify: Verify, seq: int) -> None:
    columns = "at, actor_kind, actor, action, object_kind, object, outcome, detail, correlation_id, source"
    await tamper(f"INSERT INTO audit_record (seq, {columns}) SELECT {seq}, {columns} FROM audit_record WHERE seq = 3")
    assert await findings(verify) == [("record-inserted", seq)]


async def test_a_truncated_tail_is_found(write: Write, tamper: Tamper, verify: Verify) -> None:
    await write(4)
    await tamper("DELETE FROM audit_record WHERE seq > 38")
    assert await findings(verify) == [("trail-truncated", 39)]


async def test_a_tail_truncated_with_its_seal_is_found(tamper: Tamper, verify: Verify) -> None:
    await tamper("DELETE FROM audit_record WHERE seq > 30")
    await tamper("DELETE FROM audit_seal WHERE number = 4")
    assert await findings(verify) == [("trail-truncated", 31)]


async def test_a_record_deleted_before_it_was_sealed_is_found(
    write: Write, tamper: Tamper, seal: Seal, verify: Verify
) -> None:
    await write(4)
    await tamper("DELETE FROM audit_record WHERE seq = 38")
    assert await findings(verify) == [("record-missing", 38)]
    await seal()
    report = await verify()
    assert [(finding.kind, finding.seq) for finding in report.findings] == [("record-missing", 38)]
    assert "before it was sealed" in report.findings[0].text


async def test_a_missing_seal_is_found(tamper: Tamper, verify: Verify) -> None:
    await tamper("DELETE FROM audit_seal WHERE number = 2")
    report = await verify()
    assert (report.findings[0].kind, report.findings[0].seal, report.findings[0].seq) == ("seal-missing", 2, 11)


@pytest.mark.parametrize(
    ("change", "kinds"),
    [
        ("signature = decode('00', 'hex')", {"seal-edited", "chain-broken"}),
        ("sealed_at = sealed_at - interval '1 day'", {"seal-edited", "chain-broken"}),
        ("root = sha256('x')", {"seal-edited", "chain-broken"}),
        ("leaves = leaves || leaves", {"seal-edited"}),
        ("leaves = set_byte(leaves, 3, get_byte(leaves, 3) # 1)", {"seal-edited"}),
        ("previous = sha256('x')", {"seal-edited", "chain-broken"}),
        ("key_id = gen_random_uuid()", {"seal-forged", "chain-broken"}),
    ],
)
async def test_an_edited_seal_is_found(tamper: Tamper, verify: Verify, change: str, kinds: set[str]) -> None:
    await tamper(f"UPDATE audit_seal SET {change} WHERE number = 2")
    report = await verify()
    assert {finding.kind for finding in report.findings} == kinds
    assert {finding.seal for finding in report.findings} <= {2, 3}


async def test_an_edited_record_is_not_covered_up_by_editing_its_leaf(
    database: Database, tamper: Tamper, verify: Verify
) -> None:
    await tamper("UPDATE audit_record SET actor = 'nobody' WHERE seq = 12")
    async with database.transaction() as tx:
        row = await tx.one_or_none(sealing.select(sealing.audit_record).where(sealing.audit_record.c.seq == 12))
        assert row is not None
        leaf = sealing.record_leaf(row).hex()
    await tamper(
        f"UPDATE audit_seal SET leaves = overlay(leaves placing decode('{leaf}', 'hex') from 33) WHERE number = 2"
    )
    report = await verify()
    assert [(finding.kind, finding.seal) for finding in report.findings] == [("seal-edited", 2)]


async def test_a_trail_replaced_as_a_whole_is_found_by_a_checkpoint(
    verify: Verify, tamper: Tamper, write: Write, seal: Seal
) -> None:
    kept = (await verify()).checkpoint
    assert kept is not None
    assert (kept.number, kept.last_seq) == (4, 36)
    assert (await verify(checkpoint=kept)).intact
    await tamper("TRUNCATE audit_record, audit_seal")
    await tamper("UPDATE journal_head SET audit_seq = 0")
    await write(36)
    await seal()
    assert (await verify()).intact
    assert [finding.kind for finding in (await verify(checkpoint=kept)).findings] == ["trail-replaced"]
    gone = dataclasses.replace(kept, number=99)
    assert [finding.kind for finding in (await verify(checkpoint=gone)).findings] == ["trail-replaced"]


async def test_the_trail_verifies_across_a_rotated_key(
    database: Database, keystore: KeyStore, write: Write, seal: Seal, verify: Verify
) -> None:
    before = await audit_signer(database, keystore)
    with clock.frozen(clock.now() + timedelta(seconds=5)):
        async with database.transaction() as tx:
            await rotate_audit_key(tx, keystore, principal=OPERATOR)
        await write(3)
        await seal()
    after = await audit_signer(database, keystore)
    assert after.key_id != before.key_id
    report = await verify()
    assert report.intact, report.findings
    assert report.seals == 5


async def test_progress_reaches_the_total(verify: Verify) -> None:
    seen: list[tuple[int, int]] = []
    await verify(progress=lambda done, total: seen.append((done, total)))
    assert seen == [(10, 36), (20, 36), (30, 36), (36, 36), (36, 36)]
