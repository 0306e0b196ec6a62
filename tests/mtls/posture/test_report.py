"""The posture of a real organization: what is recorded is what is judged."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import insert, select, text, update
from tests.mtls.access.conftest import House
from tests.support.authority import OPERATOR, tenant
from tests.support.identities import issue, make_domain, make_service

from intaglio.core import clock
from intaglio.core.errors import Forbidden, InvalidInput, NotFound, StateConflict
from intaglio.mtls.access.ingress_values import IngressChanges
from intaglio.mtls.access.ingresses import edit_ingress
from intaglio.mtls.access.policies import NewPolicy, activate, put_policy
from intaglio.mtls.identities import edges as trust_edges
from intaglio.mtls.identities import models as identities
from intaglio.mtls.identities.values import Channel
from intaglio.mtls.observation.events import AccessEvent
from intaglio.mtls.posture import scan_results, service_edges, waivers
from intaglio.mtls.posture.report import make_report
from intaglio.mtls.posture.values import Report, Status

BOB = replace(OPERATOR, name="bob")


async def report_of(house: House) -> Report:
    await house.settled()
    return await make_report(house.mtls, OPERATOR, "demo")


async def found(house: House, check: str) -> tuple[Status, list[str]]:
    """What became of a check, and what its findings are about."""
    result = next(each for each in (await report_of(house)).results if each.id == check)
    return result.status, [each.subject for each in result.findings]


async def policy(house: House, source: str = "allow if team == finance") -> None:
    await put_policy(house.mtls, OPERATOR, NewPolicy("main", "demo", source))
    await activate(house.mtls, OPERATOR, "main")


async def renewed(house: House) -> None:
    """Give payments a certificate of the agent, renewed by it."""
    old = await issue(house.mtls, house.payments.identity, channel=Channel.AGENT)
    await issue(house.mtls, house.payments.identity, channel=Channel.AGENT, renews=old.binding_id)
    async with house.mtls.database.transaction() as tx:
        await tx.execute(update(identities.binding).where(identities.binding.c.channel == "manual").values(
            replaced_by=old.binding_id
        ))  # fmt: skip


async def test_well_kept_installation_fails_only_what_was_never_rehearsed(house: House) -> None:
    await renewed(house)
    await policy(house)
    web = await house.ingress(ip_rule=["10.0.0.0/8"], policy="main", type="gateway")
    edge = await trust_edges.propose_edge(house.mtls, OPERATOR, "service:payments", "prod.example")
    await trust_edges.approve_edge(house.mtls, BOB, edge.id)
    house.mtls.events.record(
        AccessEvent(clock.now(), organization_id=web.organization_id, ingress_id=web.id, ingress="demo~web")
    )
    for kind in scan_results.KINDS:
        await scan_results.record_scan(house.mtls, OPERATOR, "demo", kind, "all", complete=True, findings=[])
    await service_edges.declare_edge(house.mtls, OPERATOR, "demo", "orders", "payments", "enforced")
    report = await report_of(house)
    assert {each.id for each in report.results if each.status is not Status.PASS} == {"PC-14", "PC-15", "PC-17"}
    assert report.stage == 1
    assert [step.done for step in report.steps] == [True, True, True, True, False, False]
    assert report.barriers[0].proved


async def test_certificate_by_hand_without_team_and_renewal_is_found(house: House) -> None:
    about = ["service:payments@prod.example"]
    assert await found(house, "PC-05") == (Status.FAIL, about)
    assert await found(house, "PC-07") == (Status.FAIL, about)
    assert await found(house, "PC-04") == (Status.PASS, [])
    async with house.mtls.database.transaction() as tx:
        await tx.execute(update(identities.identity).values(team=""))
    assert await found(house, "PC-11") == (Status.FAIL, about)


async def test_service_without_certificate_or_with_a_revoked_one_is_found(house: House) -> None:
    await make_service(house.mtls, "orders")
    async with house.mtls.database.transaction() as tx:
        await tx.execute(text("UPDATE certificate SET status = 'revoked'"))
    about = ["service:payments@prod.example", "service:orders@prod.example"]
    assert await found(house, "PC-04") == (Status.FAIL, about)


async def test_shared_ca_is_found(house: House) -> None:
    other = await make_domain(house.mtls, "dev.example", "dev")
    assert await found(house, "PC-03") == (Status.PASS, [])
    async with house.mtls.database.transaction() as tx:
        values = {"domain_id": other.id, "ca_id": house.domain.ca_ids[0], "added_at": tx.now}
        await tx.execute(insert(identities.domain_ca).values(**values))
        tx.changed_configuration()
    await house.mtls.authority.reload()
    assert await found(house, "PC-03") == (Status.FAIL, ["dev.example", "prod.example"])


@pytest.mark.parametrize(
    ("check", "settings"),
    [
        ("PC-08", {"mode": "off"}),
        ("PC-09", {"fail_mode": "open"}),
        ("PC-09", {"type": "caddy", "revocation_source": "crl"}),
        ("PC-12", {}),
        ("PC-13", {"revocation_source": "crl", "refresh_seconds": 300}),
        ("PC-16", {}),
        ("PC-22", {}),
        ("PC-22", {"ip_rule": ["10.0.0.0/8", "::/0"]}),
        ("PC-23", {"mode": "permissive", "ip_rule": ["10.0.0.0/8"]}),
        ("PC-23", {}),
    ],
)
async def test_badly_configured_ingress_is_found(house: House, check: str, settings: dict[str, Any]) -> None:
    await house.ingress(**settings)
    assert await found(house, check) == (Status.FAIL, ["demo~web"])


async def test_policy_that_any_certificate_meets_is_found(house: House) -> None:
    await policy(house, "allow GET /public/*")
    await house.ingress(policy="main")
    assert await found(house, "PC-12") == (Status.FAIL, ["demo~web"])


async def test_permissive_ingress_is_found_when_its_time_is_over(house: House) -> None:
    await house.ingress(mode="permissive", permissive_days=1)
    assert await found(house, "PC-08") == (Status.PASS, [])
    async with house.mtls.database.transaction() as tx:
        await tx.execute(text("UPDATE mtls_ingress SET permissive_until = now() - interval '1 minute'"))
    assert await found(house, "PC-08") == (Status.FAIL, ["demo~web"])


async def test_fixed_ingress_is_found_no_more(house: House) -> None:
    await house.ingress(type="gateway")
    await edit_ingress(house.mtls, OPERATOR, "web", IngressChanges(ip_rule=["10.0.0.0/8"]))
    assert await found(house, "PC-22") == (Status.PASS, [])
    assert await found(house, "PC-23") == (Status.PASS, [])


async def test_certificate_in_use_that_nobody_knows_is_found(house: House) -> None:
    web = await house.ingress(type="gateway")
    seen = AccessEvent(
        clock.now(), organization_id=web.organization_id, ingress_id=web.id, ingress="demo~web", decision="allow",
        fingerprint=b"\1" * 32, claimed="CN=stranger", recorder="import",
    )  # fmt: skip
    house.mtls.events.record(seen)
    assert await found(house, "PC-18") == (Status.FAIL, ["CN=stranger"])


async def test_scan_findings_fail_until_a_later_scan_is_clean(house: House) -> None:
    one = scan_results.ScanFinding("verify-off-python", "main.py", "verify=False")
    allowed = replace(one, waived="a test of ours")
    for findings, status in (([one], Status.FAIL), ([allowed], Status.PASS), ([], Status.PASS)):
        await scan_results.record_scan(
            house.mtls, OPERATOR, "demo", "code", "repository", complete=True, findings=findings
        )
        assert (await found(house, "PC-19"))[0] is status
    assert len(await scan_results.list_scans(house.mtls, OPERATOR, "demo")) == 1


async def test_calls_seen_at_ingresses_become_edges_and_declared_ones_stay(house: House) -> None:
    web = await house.ingress(type="gateway", mode="permissive")
    same = {"organization_id": web.organization_id, "ingress_id": web.id, "ingress": "demo~web", "decision": "allow"}
    for changes in (
        {"identity": "spiffe://a", "mode": "enforce"}, {"identity": "spiffe://b", "mode": "permissive"},
        {"source_ip": "10.0.0.9", "mode": "permissive"},
    ):  # fmt: skip
        house.mtls.events.record(AccessEvent(clock.now(), **(same | changes)))
    await service_edges.declare_edge(house.mtls, OPERATOR, "demo", "spiffe://a", "demo~web", "none")
    await service_edges.discover_edges(house.mtls, OPERATOR, "demo")
    edges = {each.caller: each.state for each in await service_edges.list_edges(house.mtls, OPERATOR, "demo")}
    assert edges == {"spiffe://a": "none", "spiffe://b": "permissive", "10.0.0.9": "none"}
    assert len((await found(house, "PC-10"))[1]) == 3


# ---- waivers ---------------------------------------------------------------------------------------------------------


def wanted(**changes: Any) -> waivers.NewWaiver:
    values = {"organization": "demo", "check": "PC-07", "subject": "service:payments@prod.example", "owner": "alice"}
    values |= {"reason": "Replaced soon", "until": clock.now() + timedelta(days=10)}
    return waivers.NewWaiver(**(values | changes))


async def test_waiver_counts_when_a_second_person_agrees_and_until_its_end(house: House) -> None:
    made = await waivers.request_waiver(house.mtls, OPERATOR, wanted())
    assert (await found(house, "PC-07"))[0] is Status.FAIL
    with pytest.raises(Forbidden) as refused:
        await waivers.decide_waiver(house.mtls, OPERATOR, made.id, "approved")
    assert refused.value.code == "second-person-needed"
    await waivers.decide_waiver(house.mtls, BOB, made.id, "approved")
    assert (await found(house, "PC-07"))[0] is Status.WAIVED
    async with house.mtls.database.transaction() as tx:
        await tx.execute(text("UPDATE mtls_waiver SET until = now() - interval '1 second'"))
    assert (await found(house, "PC-07"))[0] is Status.FAIL


async def test_waiver_that_is_withdrawn_counts_no_more(house: House) -> None:
    made = await waivers.request_waiver(house.mtls, OPERATOR, wanted())
    await waivers.decide_waiver(house.mtls, BOB, made.id, "approved")
    await waivers.decide_waiver(house.mtls, OPERATOR, made.id, "withdrawn")
    assert (await found(house, "PC-07"))[0] is Status.FAIL
    with pytest.raises(StateConflict):
        await waivers.decide_waiver(house.mtls, BOB, made.id, "approved")


@pytest.mark.parametrize(
    "changes",
    [
        {"reason": " "}, {"owner": ""}, {"subject": "a\nb"}, {"until": clock.now() - timedelta(days=1)},
        {"until": clock.now() + timedelta(days=500)},
    ],
)  # fmt: skip
async def test_waiver_without_owner_reason_or_a_sensible_end_is_refused(house: House, changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        await waivers.request_waiver(house.mtls, OPERATOR, wanted(**changes))


async def test_stranger_sees_no_posture_and_waives_nothing(house: House) -> None:
    stranger = tenant("eve")
    made = await waivers.request_waiver(house.mtls, OPERATOR, wanted())
    for refused in (
        make_report(house.mtls, stranger, "demo"),
        waivers.request_waiver(house.mtls, stranger, wanted()),
        waivers.decide_waiver(house.mtls, stranger, made.id, "approved"),
        service_edges.list_edges(house.mtls, stranger, "demo"),
        scan_results.record_scan(house.mtls, stranger, "demo", "code", "x", complete=True, findings=[]),
    ):
        with pytest.raises(NotFound):
            await refused


# ---- many ------------------------------------------------------------------------------------------------------------


async def test_thousands_of_identities_are_judged_within_seconds(house: House) -> None:
    async with house.mtls.database.transaction() as tx:
        one = await tx.scalar(select(identities.identity.c.id))
        columns = ", ".join(c.name for c in identities.identity.c if c.name not in ("id", "name"))
        await tx.execute(
            text(
                f"INSERT INTO mtls_identity (id, name, {columns}) SELECT gen_random_uuid(), 's' || n, {columns} "
                "FROM mtls_identity, generate_series(1, 5000) n WHERE mtls_identity.id = :one"
            ),
            {"one": one},
        )
    started = clock.monotonic()
    result = next(each for each in (await report_of(house)).results if each.id == "PC-04")
    assert clock.monotonic() - started < 15
    assert (result.count, len(result.findings)) == (5000, 200)
