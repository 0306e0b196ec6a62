"""Every check fails on the violation it is for, and on nothing else."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from tests.mtls.posture.states import DRILL, GOOD, NOW, certified, domain, ingress, scan

from intaglio.core.identifiers import new_id
from intaglio.mtls.posture.checks import CHECKS, STEPS
from intaglio.mtls.posture.report import judged
from intaglio.mtls.posture.values import EdgeState, Report, State, Status, Waiver

OLD = replace(DRILL, at=NOW - timedelta(days=93))
YEAR = NOW + timedelta(days=365)

#: What breaks each check, with the others that break with it.
VIOLATIONS: list[tuple[str, State, set[str]]] = [
    ("PC-01", domain(trouble="Its issuing CA is not active."), set()),
    ("PC-02", replace(GOOD, without_edges=("spiffe://prod.example/x",)), set()),
    ("PC-03", domain(foreign=("dev",)), set()),
    ("PC-04", certified(channel=""), set()),
    ("PC-05", certified(renewed=False), set()),
    ("PC-06", certified(not_after=NOW + timedelta(hours=80)), set()),
    ("PC-07", certified(channel="manual"), {"PC-05"}),
    ("PC-08", ingress(mode="off"), set()),
    ("PC-08", ingress(mode="permissive", permissive_until=NOW), set()),
    ("PC-09", ingress(trouble=("It fails open.",)), set()),
    ("PC-10", replace(GOOD, edges=(EdgeState("a", "b", "https", "permissive"),)), set()),
    ("PC-11", certified(team=""), set()),
    ("PC-11", certified(service=""), set()),
    ("PC-12", ingress(admits="It has no policy."), set()),
    ("PC-13", ingress(bound=61.0), set()),
    ("PC-13", ingress(bound=None), set()),
    ("PC-13", domain(revoke_drill=replace(DRILL, slowest=75.0)), set()),
    ("PC-14", domain(revoke_drill=OLD), set()),
    ("PC-14", domain(revoke_drill=replace(DRILL, passed=False)), set()),
    ("PC-14", domain(revoke_drill=None), set()),
    ("PC-15", domain(rotate_drill=OLD), set()),
    ("PC-15", domain(runbook_at=None), set()),
    ("PC-16", ingress(events=0), set()),
    ("PC-17", replace(GOOD, proofs={}), set()),
    ("PC-17", replace(GOOD, mutes={"unknown-ca": YEAR}), set()),
    ("PC-18", replace(GOOD, unmonitored=("CN=somebody",)), set()),
    ("PC-18", replace(GOOD, mutes={"expiry": YEAR}), set()),
    ("PC-19", replace(GOOD, scans=(*GOOD.scans[1:], *scan("code", "verify-off-python"))), set()),
    ("PC-20", replace(GOOD, scans=(*GOOD.scans[:2], *scan("endpoints", "endpoint-self-signed"))), set()),
    ("PC-21", replace(GOOD, scans=(*GOOD.scans, *scan("keys", "plaintext-key"))), set()),
    ("PC-22", ingress(ip_rule=None), set()),
    ("PC-22", ingress(ip_rule=("0.0.0.0/0",)), set()),
    ("PC-23", ingress(address_refuses=False), set()),
    ("PC-23", ingress(certificate_refuses=None), set()),
    ("PC-24", certified(weakness="An RSA key of 1024 bits can be factored."), set()),
    ("PC-25", replace(GOOD, without_owner=(("service:payments@prod.example", "alice"),)), set()),
]


def status_of(report: Report, check: str) -> Status:
    return next(each.status for each in report.results if each.id == check)


def failing(report: Report) -> set[str]:
    return {each.id for each in report.results if each.status is Status.FAIL}


def waiver(check: str = "PC-06", subject: str = "service:payments@prod.example", **changes: object) -> Waiver:
    made = Waiver(
        new_id(), "demo", check, subject, "alice", "It is replaced in July.", NOW + timedelta(days=30), "approved",
        "user:alice", NOW, "user:bob", NOW,
    )  # fmt: skip
    return replace(made, **changes)  # type: ignore[arg-type]


def test_good_state_holds_everywhere_and_reaches_the_last_stage() -> None:
    report = judged(GOOD)
    assert failing(report) == set()
    assert (report.passed, report.score, report.stage) == (True, 100, 3)
    assert all(step.done and not step.next_action for step in report.steps)
    assert all(barriers.proved for barriers in report.barriers)


@pytest.mark.parametrize(("check", "state", "also"), VIOLATIONS)
def test_violation_is_found_by_its_check(check: str, state: State, also: set[str]) -> None:
    report = judged(state)
    assert failing(report) == {check} | also
    result = next(each for each in report.results if each.id == check)
    assert result.findings[0].evidence
    assert result.remedy
    assert not report.passed


def test_there_is_a_violation_for_every_check() -> None:
    assert {check for check, _, _ in VIOLATIONS} == set(CHECKS) == {f"PC-{number:02}" for number in range(1, 26)}


def test_every_step_of_the_rollout_rests_on_checks_and_names_the_next_action() -> None:
    assert len(STEPS) == 6
    report = judged(ingress(mode="off"))
    step = report.steps[3]
    assert (step.number, step.done) == (4, False)
    assert step.next_action.startswith("PC-08 ")
    assert "intaglio mtls ingress mode" in step.next_action


def test_empty_organization_fails_where_something_is_missing_and_judges_nothing_else() -> None:
    report = judged(State("demo", NOW))
    assert failing(report) == {"PC-01", "PC-17"}
    assert status_of(report, "PC-19") is Status.UNKNOWN
    assert report.stage == 0


def test_scan_that_did_not_see_everything_proves_nothing() -> None:
    partial = tuple(replace(each, complete=False) for each in GOOD.scans)
    assert status_of(judged(replace(GOOD, scans=partial)), "PC-21") is Status.UNKNOWN


def test_waived_finding_does_not_fail_and_counts_half() -> None:
    state = certified(not_after=NOW + timedelta(hours=80))
    report = judged(state, [waiver()])
    assert status_of(report, "PC-06") is Status.WAIVED
    assert (report.passed, report.score) == (True, 98)
    assert report.stage == 2  # the certificates of machines themselves are not all right


@pytest.mark.parametrize(
    "changes",
    [
        {"until": NOW}, {"state": "pending"}, {"state": "withdrawn"}, {"check": "PC-05"}, {"subject": "service:other"},
    ],
)  # fmt: skip
def test_waiver_that_does_not_apply_changes_nothing(changes: dict[str, object]) -> None:
    report = judged(certified(not_after=NOW + timedelta(hours=80)), [waiver(**changes)])
    assert failing(report) == {"PC-06"}


def test_expired_waiver_is_told_with_the_finding() -> None:
    report = judged(certified(not_after=NOW + timedelta(hours=80)), [waiver(until=NOW - timedelta(seconds=1))])
    finding = next(each for each in report.results if each.id == "PC-06").findings[0]
    assert finding.expired is not None
    assert finding.waiver is None


def test_waiver_for_a_whole_check_covers_all_of_its_findings() -> None:
    assert judged(replace(GOOD, proofs={}), [waiver("PC-17", "*")]).passed


def test_stages_build_on_each_other() -> None:
    assert judged(ingress(ip_rule=None)).stage == 0
    assert judged(ingress(admits="No policy.")).stage == 1
