"""Scenarios show what they promise, and notice when they do not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from tests.server import management_client
from tests.server.management_client import Management
from tests.support.authority import OPERATOR

from intaglio.core.errors import Forbidden, InvalidInput, NotFound, StateConflict
from intaglio.core.principal import Permission, Principal
from intaglio.core.secrets import MasterKey
from intaglio.mtls.access.ingresses import list_ingresses
from intaglio.mtls.context import Mtls
from intaglio.mtls.scenarios import plays
from intaglio.mtls.scenarios.runs import last_runs, run_scenario
from intaglio.mtls.scenarios.stage import Stage
from intaglio.mtls.scenarios.values import CATALOGUE, Row, Run


@pytest_asyncio.fixture
async def mtls(database_url: str, master_key: MasterKey, tmp_path: Path) -> AsyncIterator[Mtls]:
    """Mutual TLS identity of a process that hears of changes."""
    async with management_client.management(database_url, master_key, tmp_path) as started:
        assert isinstance(started, Management)
        yield started.services.mtls
        await started.services.mtls.close()


async def _run(mtls: Mtls, number: int, *, count: int = 30) -> Run:
    run = None
    async for each in run_scenario(mtls, OPERATOR, number, count=count):
        run = each
    assert isinstance(run, Run)
    return run


@pytest.mark.parametrize("number", CATALOGUE)
async def test_scenario_shows_what_it_promises(mtls: Mtls, number: int) -> None:
    run = await _run(mtls, number)
    assert [row for row in run.rows if not row.passed] == []
    assert run.passed
    assert len(run.rows) >= 4
    assert await list_ingresses(mtls, OPERATOR) == []


async def test_stolen_credential_is_useless_within_seconds(mtls: Mtls) -> None:
    run = await _run(mtls, 7)
    assert 0 <= run.figures["cut_seconds"] < 10
    assert run.figures["refused_seconds"] < 10


async def test_rotation_is_counted(mtls: Mtls) -> None:
    run = await _run(mtls, 8, count=40)
    assert (run.figures["issued_failures"], run.figures["rotated_failures"]) == (0, 0)
    assert run.figures["rotated_per_second"] > 0
    assert Row("certificates rotated", "", "", "40", "40") in run.rows


async def test_scenario_can_be_run_again_and_its_last_run_is_kept(mtls: Mtls) -> None:
    await _run(mtls, 2)
    second = await _run(mtls, 2)
    kept = await last_runs(mtls, OPERATOR)
    assert set(kept) == {2}
    assert (kept[2].id, kept[2].rows, kept[2].started_by) == (second.id, second.rows, "root")


async def test_difference_is_noticed(mtls: Mtls, monkeypatch: pytest.MonkeyPatch) -> None:
    async def wrong(stage: Stage) -> None:
        await stage.open("allow", networks=None)
        await stage.expect("nobody", "200", source="127.0.0.1")

    monkeypatch.setitem(plays.PLAYS, 1, wrong)
    run = await _run(mtls, 1)
    assert not run.passed
    assert run.rows[0].observed == "no_certificate"


async def test_what_goes_wrong_on_the_way_is_raised_and_cleaned_up(
    mtls: Mtls, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(stage: Stage) -> None:
        await stage.open("allow", networks=None)
        raise NotFound("The stage is gone.")

    monkeypatch.setitem(plays.PLAYS, 1, broken)
    with pytest.raises(NotFound, match="stage"):
        await _run(mtls, 1)
    assert await list_ingresses(mtls, OPERATOR) == []
    assert await last_runs(mtls, OPERATOR) == {}


async def test_two_at_once_are_refused(mtls: Mtls) -> None:
    first = run_scenario(mtls, OPERATOR, 2)
    await anext(first)
    with pytest.raises(StateConflict):
        await _run(mtls, 2)
    await first.aclose()


@pytest.mark.parametrize(("number", "count", "error"), [(9, 1, NotFound), (0, 1, NotFound), (8, 0, InvalidInput)])
async def test_impossible_wish_is_refused(mtls: Mtls, number: int, count: int, error: type[Exception]) -> None:
    with pytest.raises(error):
        await anext(run_scenario(mtls, OPERATOR, number, count=count))


async def test_scenarios_need_both_permissions(mtls: Mtls) -> None:
    for permission in (Permission.MTLS_POLICY, Permission.MTLS_IDENTITIES):
        with pytest.raises(Forbidden):
            await anext(run_scenario(mtls, Principal("user", "eve", frozenset({permission})), 1))
