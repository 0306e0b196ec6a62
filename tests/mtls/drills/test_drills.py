"""Drills: what is rehearsed really happens, is measured, and is kept as evidence."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy import text, update
from tests.mtls.access.conftest import House, self_made
from tests.support.authority import OPERATOR, tenant
from tests.support.outgoing import list_networks

from intaglio.core import clock
from intaglio.core.errors import Forbidden, InvalidInput, NotFound, Refused, StateConflict
from intaglio.core.principal import Permission
from intaglio.db.listing import ListQuery
from intaglio.mtls.access import ingresses
from intaglio.mtls.drills import rotation, runbook, service, silence
from intaglio.mtls.drills.models import drill
from intaglio.mtls.drills.probes import Network
from intaglio.mtls.drills.rotation import rotation_drill
from intaglio.mtls.drills.service import revocation_drill
from intaglio.mtls.identities import domains, registry
from intaglio.mtls.posture.report import make_report
from intaglio.mtls.posture.values import Status
from intaglio.mtls.scenarios.stage import DOMAIN, Stage


async def status(house: House, check: str) -> Status:
    await house.settled()
    report = await make_report(house.mtls, OPERATOR, "demo")
    return next(each.status for each in report.results if each.id == check)


@pytest.fixture
def short_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who does not refuse in silence is asked for two seconds only."""
    monkeypatch.setattr(service, "refused_in_silence", partial(silence.refused_in_silence, patience=2.0))


async def test_revocation_drill_measures_every_ingress_and_passes(house: House) -> None:
    await house.ingress("web", type="gateway")
    await house.ingress("api", ip_rule=["10.0.0.0/8"])
    found = await revocation_drill(house.mtls, OPERATOR, "prod.example")
    assert found.state == "passed", found.rows
    refused = {row.ingress: row for row in found.rows if row.step == "refuses the revoked certificate"}
    assert {name: row.observed for name, row in refused.items()} == {"demo~api": "revoked", "demo~web": "revoked"}
    assert all(row.seconds is not None and row.seconds < 60 for row in refused.values())
    assert found.figures["slowest_seconds"] == max(row.seconds or 0 for row in refused.values())
    assert await status(house, "PC-14") is Status.PASS


async def test_identity_made_for_a_drill_is_retired_afterwards(house: House) -> None:
    await house.ingress(type="gateway")
    await revocation_drill(house.mtls, OPERATOR, "prod.example")
    listed = await registry.list_identities(house.mtls, OPERATOR, ListQuery(filter=("team=drill",)))
    assert [each.state for each in listed.identities] == ["retired"]


async def test_drill_for_a_named_service_leaves_its_own_certificate_alone(house: House) -> None:
    web = await house.ingress(type="gateway")
    found = await revocation_drill(house.mtls, OPERATOR, "prod.example", service="service:payments")
    assert found.state == "passed"
    assert (await house.decide(web, house.payments.certificate)).allowed


async def test_permissive_ingress_fails_the_drill(house: House) -> None:
    await house.ingress(mode="permissive", type="gateway")
    found = await revocation_drill(house.mtls, OPERATOR, "prod.example", sla=0.5)
    assert found.state == "failed"
    row = next(row for row in found.rows if row.step == "refuses the revoked certificate")
    assert (row.observed, row.passed) == ("let in (permissive)", False)
    assert await status(house, "PC-14") is Status.FAIL


async def test_ingress_that_decides_by_itself_is_judged_by_its_bound(house: House) -> None:
    await house.ingress(revocation_source="crl", refresh_seconds=600)
    found = await revocation_drill(house.mtls, OPERATOR, "prod.example")
    (row,) = [row for row in found.rows if row.step == "refuses a revoked certificate (computed)"]
    assert found.state == "failed"
    assert not row.passed
    assert float(row.observed.removesuffix(" s")) > 600


async def test_ingress_that_fails_open_fails_the_drill(house: House, short_silence: None) -> None:
    await house.ingress(fail_mode="open")
    found = await revocation_drill(house.mtls, OPERATOR, "prod.example")
    assert [row.passed for row in found.rows if "no status is known" in row.step] == [False]


async def test_ingress_that_cannot_be_reached_fails_the_drill(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "_KNOWN_SECONDS", 2.0)
    await house.ingress(type="gateway")
    authority, _ = self_made(ca=True)
    network = Network({"web": "https://127.0.0.1:1/"}, authority.public_bytes(Encoding.PEM))
    with pytest.raises(Refused) as refusal:  # a drill is no way to look at what only the server can reach
        await revocation_drill(house.mtls, OPERATOR, "prod.example", network=network)
    assert refusal.value.code == "address-not-allowed"
    await list_networks(house.mtls.database)
    found = await revocation_drill(house.mtls, OPERATOR, "prod.example", network=network)
    assert found.state == "failed"
    assert found.rows[0].observed.startswith("no connection")


async def test_drill_connects_to_a_gateway_and_measures_real_handshakes(house: House) -> None:
    async with Stage(house.mtls, OPERATOR, "drill", lambda told: None) as stage:
        await stage.open("allow if kind == service", networks=["127.0.0.0/8"])
        url = f"https://127.0.0.1:{stage.port}/"
        await list_networks(house.mtls.database)
        network = Network({stage.ingress: url}, stage.server_authority.pem)
        found = await revocation_drill(house.mtls, OPERATOR, DOMAIN, network=network)
    assert found.state == "passed", found.rows
    (row,) = [row for row in found.rows if row.step == "refuses the revoked certificate"]
    assert (row.observed, row.ingress) == ("revoked", stage.ingress)


async def test_rotation_drill_exchanges_a_ca_while_both_count(house: House) -> None:
    await house.ingress(type="gateway")
    before = await domains.get_domain(house.mtls, OPERATOR, "prod.example")
    found = await rotation_drill(house.mtls, OPERATOR, "prod.example")
    assert found.state == "passed", found.rows
    steps = {row.step: row.observed for row in found.rows}
    assert steps["the trust bundle while it is rotating"] == "rotating, 2 CAs"
    assert steps["refuses one of the old CA"] in ("unknown_ca", "wrong_environment")
    assert (await domains.get_domain(house.mtls, OPERATOR, "prod.example")).cas == before.cas
    assert await status(house, "PC-15") is Status.FAIL  # the runbook is missing yet
    await runbook.make_runbook(house.mtls, OPERATOR, "prod.example")
    assert await status(house, "PC-15") is Status.PASS


async def test_rotation_drill_leaves_no_ca_and_no_ingress_behind(house: House) -> None:
    await house.ingress(type="gateway")
    before = await cas(house)
    await rotation_drill(house.mtls, OPERATOR, "prod.example")
    assert await cas(house) == before
    assert [each.name for each in await ingresses.list_ingresses(house.mtls, OPERATOR)] == ["web"]
    made = [each for each in await domains.list_domains(house.mtls, OPERATOR) if each.name.startswith("drill-")]
    assert [each.state for each in made] == ["retired"]


async def test_what_a_broken_off_rotation_drill_left_is_cleared_away_by_the_next(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    await house.ingress(type="gateway")
    before = await cas(house)

    async def dies(*_: object) -> None:
        raise asyncio.CancelledError

    with monkeypatch.context() as patched:
        patched.setattr(rotation, "finish_rotation", dies)
        patched.setattr(domains, "retire_domain", dies)
        with pytest.raises(asyncio.CancelledError):
            await rotation_drill(house.mtls, OPERATOR, "prod.example")
    assert len(await cas(house)) == len(before) + 4
    async with house.mtls.database.transaction() as tx:
        await tx.execute(text("UPDATE mtls_drill SET started_at = now() - interval '1 hour'"))
    assert (await rotation_drill(house.mtls, OPERATOR, "prod.example")).state == "passed"
    assert await cas(house) == before


async def test_refusal_while_no_status_is_known_is_seen_and_not_computed(house: House) -> None:
    await house.ingress(type="gateway")
    found = await revocation_drill(house.mtls, OPERATOR, "prod.example")
    rows = {row.step: row for row in found.rows if "status is known" in row.step}
    silent = rows["refuses everybody while no status is known"]
    assert (silent.observed, silent.passed) == ("status_unavailable", True)
    assert silent.seconds is not None
    assert silent.seconds < 15
    assert rows["takes it again when status is known"].observed == "accepted"
    assert [each.name for each in await ingresses.list_ingresses(house.mtls, OPERATOR)] == ["web"]


async def cas(house: House) -> list[str]:
    """The CAs there are."""
    found = (await house.mtls.authority.current()).cas.values()
    return sorted(each.full_id for each in found if each.state != "deleted")


async def test_rotation_drill_without_exchange_is_not_passed(house: House) -> None:
    await house.ingress(type="gateway")
    assert (await rotation_drill(house.mtls, OPERATOR, "prod.example", rollover=False)).state == "failed"


async def test_drill_is_overdue_after_a_quarter(house: House) -> None:
    await house.ingress(type="gateway")
    due = {each.kind: each for each in await service.due_drills(house.mtls, OPERATOR, "demo")}
    assert all(each.overdue and each.last is None for each in due.values())
    await revocation_drill(house.mtls, OPERATOR, "prod.example")
    due = {each.kind: each for each in await service.due_drills(house.mtls, OPERATOR, "demo")}
    assert not due["revoke"].overdue
    async with house.mtls.database.transaction() as tx:
        await tx.execute(update(drill).values(finished_at=clock.now() - timedelta(days=93)))
    due = {each.kind: each for each in await service.due_drills(house.mtls, OPERATOR, "demo")}
    assert due["revoke"].overdue
    assert await status(house, "PC-14") is Status.FAIL


async def test_one_drill_at_a_time_and_one_that_was_broken_off_blocks_nothing(house: House) -> None:
    await house.ingress(type="gateway")
    await revocation_drill(house.mtls, OPERATOR, "prod.example")
    async with house.mtls.database.transaction() as tx:
        await tx.execute(text("UPDATE mtls_drill SET state = 'running', finished_at = NULL"))
    with pytest.raises(StateConflict) as refused:
        await revocation_drill(house.mtls, OPERATOR, "prod.example")
    assert refused.value.code == "drill-running"
    async with house.mtls.database.transaction() as tx:
        await tx.execute(text("UPDATE mtls_drill SET started_at = now() - interval '1 hour'"))
    assert (await revocation_drill(house.mtls, OPERATOR, "prod.example")).state == "passed"
    states = [each.state for each in await service.list_drills(house.mtls, OPERATOR, "demo")]
    assert states == ["passed", "aborted"]


async def test_runbook_says_what_there_is_and_what_to_do(house: House) -> None:
    await house.ingress(type="gateway")
    made = await runbook.make_runbook(house.mtls, OPERATOR, "prod.example")
    markdown, page = runbook.as_markdown(made), runbook.as_html(made)
    for form in (markdown, page):
        assert "intaglio mtls ca create prod.example" in form
        assert "demo~web" in form
        assert "manual" in form
    assert "<script" not in page


async def test_nothing_to_drill_and_nobody_to_drill_is_refused(house: House) -> None:
    with pytest.raises(StateConflict) as refused:
        await revocation_drill(house.mtls, OPERATOR, "prod.example")
    assert refused.value.code == "drill-without-ingress"
    await house.ingress(type="gateway")
    with pytest.raises(NotFound):
        await revocation_drill(house.mtls, tenant("eve"), "prod.example")
    viewer = replace(OPERATOR, permissions=frozenset({Permission.MTLS_VIEW, Permission.MTLS_POLICY}))
    with pytest.raises(Forbidden):
        await revocation_drill(house.mtls, viewer, "prod.example")
    with pytest.raises(NotFound):
        await revocation_drill(house.mtls, OPERATOR, "prod.example", network=Network({"x": "https://x/"}, b"x"))


@pytest.mark.parametrize("url", ["http://web.example/", "https://", "https://me@web.example/", "file:///etc/passwd"])
def test_drill_connects_by_https_only(url: str) -> None:
    with pytest.raises(InvalidInput):
        Network({"web": url}, b"x")


def test_drill_connects_to_no_server_that_nobody_vouches_for() -> None:
    with pytest.raises(InvalidInput):
        Network({"web": "https://web.example/"}, b"")
