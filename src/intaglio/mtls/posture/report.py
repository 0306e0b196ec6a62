"""The posture report: every check judged, waivers applied, stage, score, steps and the proof of the two barriers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from intaglio.authority.access import require_organization
from intaglio.core.errors import IntaglioError
from intaglio.core.principal import Permission, Principal
from intaglio.mtls.access.readiness import flush_events
from intaglio.mtls.context import Mtls
from intaglio.mtls.posture.checks import CHECKS, STEPS, Check
from intaglio.mtls.posture.state import certificates_to_probe_with, gather, ingresses_of, probed
from intaglio.mtls.posture.values import (
    Barriers,
    CheckResult,
    Finding,
    IngressState,
    Outcome,
    Report,
    State,
    Status,
    Step,
    Waiver,
)
from intaglio.mtls.posture.waivers import waivers_of

#: Findings of a check that are listed; the rest is counted.
MOST_FINDINGS = 200


async def make_report(mtls: Mtls, principal: Principal, organization: str) -> Report:
    """The posture of an organization as of now. Needs ``mtls.view``. Raises NotFound."""
    snapshot = await mtls.authority.current()
    await flush_events(mtls)
    async with mtls.database.read() as view:
        found = await require_organization(view, principal, organization, Permission.MTLS_VIEW)
        state = await gather(mtls, snapshot, view, found)
        ingresses = await ingresses_of(view, found.id)
        certificates = await certificates_to_probe_with(view, found.id)
        waivers = await waivers_of(view, found.id)
    probes = {}
    for each in ingresses:
        try:
            probes[each.full_name] = await probed(mtls, each, certificates.get(each.domain), state.now)
        except IntaglioError:  # it was made or retired in the meantime, or its trust domain has no CA: nothing refuses
            probes[each.full_name] = (None, None)
    return judged(replace(state, ingresses=tuple(_with_probe(each, probes) for each in state.ingresses)), waivers)


def judged(state: State, waivers: Sequence[Waiver] = ()) -> Report:
    """The report on a state. Pure."""
    results = tuple(_result(check, check.judge(state), waivers, state) for check in CHECKS.values())
    by_id = {each.id: each for each in results}
    return Report(
        organization=state.organization,
        made_at=state.now,
        passed=not any(each.status is Status.FAIL for each in results),
        score=round(sum(_WORTH[each.status] for each in results) / len(results)),
        stage=_stage(results),
        results=results,
        steps=tuple(_step(number, *step, by_id) for number, step in enumerate(STEPS, 1)),
        barriers=tuple(Barriers(i.name, i.address_refuses, i.certificate_refuses) for i in state.ingresses),
        waivers=tuple(waivers),
    )


_WORTH = {Status.PASS: 100, Status.WAIVED: 50, Status.FAIL: 0, Status.UNKNOWN: 0}


def _result(check: Check, outcome: Outcome, waivers: Sequence[Waiver], state: State) -> CheckResult:
    findings = []
    for offence in outcome.offences:
        about = [each for each in waivers if each.is_about(check.id, offence.subject) and each.state == "approved"]
        covering = next((each for each in about if each.covers(check.id, offence.subject, state.now)), None)
        expired = max(about, key=lambda each: each.until, default=None) if covering is None else None
        findings.append(Finding(check.id, offence.subject, offence.evidence, covering, expired))
    open_ = [each for each in findings if each.waiver is None]
    if open_:
        status, evidence = Status.FAIL, f"{len(open_)} findings."
    elif findings:
        status, evidence = Status.WAIVED, f"{len(findings)} findings, all waived."
    elif outcome.unknown:
        status, evidence = Status.UNKNOWN, outcome.unknown
    else:
        status, evidence = Status.PASS, outcome.evidence
    listed = tuple((open_ + [each for each in findings if each.waiver])[:MOST_FINDINGS])
    return CheckResult(
        check.id, check.title, check.rule, check.stage, status, evidence, check.remedy, len(findings), listed
    )


def _stage(results: Sequence[CheckResult]) -> int:
    """The highest stage reached: none unless the one below is. Stage 3 takes no waiver for machines' certificates."""
    holds = (Status.PASS, Status.WAIVED)
    for stage in (1, 2):
        if not all(each.status in holds for each in results if each.stage == stage):
            return stage - 1
    workloads = ("PC-04", "PC-05", "PC-06", "PC-07", "PC-11")
    return 3 if all(each.status is Status.PASS for each in results if each.id in workloads) else 2


def _step(number: int, label: str, title: str, checks: tuple[str, ...], results: dict[str, CheckResult]) -> Step:
    holds = [results[each].status in (Status.PASS, Status.WAIVED) for each in checks]
    open_ = next((results[each] for each, held in zip(checks, holds, strict=True) if not held), None)
    action = f"{open_.id} {open_.title}: {open_.evidence} {open_.remedy}" if open_ is not None else ""
    return Step(number, label, title, open_ is None, sum(holds), checks, action)


def _with_probe(each: IngressState, probes: dict[str, tuple[bool | None, bool | None]]) -> IngressState:
    address, certificate = probes.get(each.name, (None, None))
    return replace(each, address_refuses=address, certificate_refuses=certificate)
