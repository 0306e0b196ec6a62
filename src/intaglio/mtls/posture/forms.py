"""The posture report for people (text, HTML), for programs (JSON), and as SARIF 2.1.0 for collections of findings."""

from __future__ import annotations

import hashlib
import html
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any
from uuid import UUID

from intaglio import __version__
from intaglio.core.clock import rfc3339
from intaglio.mtls.posture.checks import CHECKS
from intaglio.mtls.posture.values import Barriers, CheckResult, Finding, Report, Status

_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_STAGES = ("none", "1 (addresses)", "2 (mutual TLS)", "3 (workload identity)")
_WORDS = {True: "refuses", False: "LETS IN", None: "not tried"}


def as_json(report: Report) -> dict[str, Any]:
    """The report as a JSON object."""
    found: dict[str, Any] = _plain(asdict(report))
    for plain, barriers in zip(found["barriers"], report.barriers, strict=True):
        plain["proved"] = barriers.proved
    return found


def as_text(report: Report) -> str:
    """The report for a terminal or a mail."""
    lines = [
        f"Posture of {report.organization} at {rfc3339(report.made_at)}",
        f"{_verdict(report)} Score {report.score} of 100. Stage reached: {_STAGES[report.stage]}.",
        "",
    ]
    for step in report.steps:
        lines.append(f"{'[x]' if step.done else '[ ]'} Step {step.number}: {step.title} ({_progress(step)})")
        if step.next_action:
            lines.append(f"    Next: {step.next_action}")
    lines.append("")
    for each in report.results:
        lines.append(f"{each.id} {each.status.value.upper():8}{each.title}: {each.evidence}")
        for finding in each.findings:
            lines.append(f"    {finding.subject}: {finding.evidence}{_borne(finding)}")
        if each.count > len(each.findings):
            lines.append(f"    and {each.count - len(each.findings)} more")
        if each.status is Status.FAIL:
            lines.append(f"    Remedy: {each.remedy}")
    lines += ["", "Two barriers, each asked with the other one satisfied:"]
    lines += [f"    {each.ingress}: {_barriers(each)}" for each in report.barriers] or ["    no ingress"]
    return "\n".join(lines) + "\n"


def as_sarif(report: Report) -> dict[str, Any]:
    """The report as a SARIF log with one run; waived findings are suppressed ones."""
    ids = list(CHECKS)
    rules = [
        {
            "id": check.id,
            "shortDescription": {"text": check.title},
            "fullDescription": {"text": f"{check.title} ({check.rule})."},
            "help": {"text": check.remedy},
            "defaultConfiguration": {"level": "error"},
        }
        for check in CHECKS.values()
    ]
    results = [
        _sarif_result(report, each, finding, ids.index(each.id)) for each in report.results for finding in each.findings
    ]
    driver = {"name": "intaglio posture", "version": __version__, "semanticVersion": __version__, "rules": rules}
    run = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "invocations": [{"executionSuccessful": True, "endTimeUtc": rfc3339(report.made_at)}],
        "results": results,
    }
    return {"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}


def as_html(report: Report) -> str:
    """The report as one page without scripts or anything from elsewhere, which prints well."""
    title = html.escape(f"Posture of {report.organization}")
    body = "\n".join(
        [
            f"<h1>{title}</h1>",
            f"<p>Made {rfc3339(report.made_at)}. <strong>{_verdict(report)}</strong> Score {report.score} of 100. "
            f"Stage reached: {_STAGES[report.stage]}.</p>",
            "<h2>Rollout</h2>",
            _table(
                ("Step", "Done", "Checks", "Next action"),
                [
                    (f"{s.number} {s.title}", "yes" if s.done else "no", _progress(s), s.next_action)
                    for s in report.steps
                ],
            ),
            "<h2>Two barriers</h2>",
            "<p>Each was asked on its own, with the other one satisfied.</p>",
            _table(
                ("Ingress", "Address alone", "Certificate alone"),
                [(b.ingress, _WORDS[b.address_refuses], _WORDS[b.certificate_refuses]) for b in report.barriers],
            ),
            "<h2>Checks</h2>",
            *(_html_check(each) for each in report.results),
            "<h2>Waivers</h2>",
            _table(
                ("Check", "Subject", "Owner", "Reason", "Until", "State", "Asked by", "Decided by"),
                [
                    (
                        w.check, w.subject, w.owner, w.reason, rfc3339(w.until), w.state, w.requested_by,
                        w.decided_by or "",
                    )
                    for w in report.waivers
                ],
            ),
        ]
    )
    return (
        f'<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8"><title>{title}</title>\n'
        f'<meta name="viewport" content="width=device-width">\n<style>{_STYLE}</style></head>\n'
        f"<body>\n{body}\n</body>\n</html>\n"
    )


_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#111}"
    "table{border-collapse:collapse;width:100%;margin:.5rem 0 1.5rem}td,th{border:1px solid #999;padding:.25rem .5rem;"
    "text-align:left;vertical-align:top;overflow-wrap:anywhere}section{break-inside:avoid}"
    ".fail{color:#a00000}.pass{color:#005a1e}.waived,.unknown{color:#6b4700}"
)


def _html_check(each: CheckResult) -> str:
    remedy = f"<p>Remedy: {html.escape(each.remedy)}</p>" if each.status is Status.FAIL else ""
    rows = [(finding.subject, finding.evidence + _borne(finding)) for finding in each.findings]
    status = f'<span class="{each.status.value}">{each.status.value}</span>'
    more = f"<p>And {each.count - len(rows)} more.</p>" if each.count > len(rows) else ""
    return (
        f"<section><h3>{each.id} {html.escape(each.title)}: {status}</h3>\n"
        f"<p>{html.escape(each.evidence)} ({html.escape(each.rule)})</p>{remedy}"
        f"{_table(('About', 'Seen'), rows) if rows else ''}{more}</section>"
    )


def _table(headings: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    if not rows:
        return "<p>None.</p>"
    head = "".join(f'<th scope="col">{html.escape(each)}</th>' for each in headings)
    body = "\n".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table>"


def _sarif_result(report: Report, each: CheckResult, finding: Finding, index: int) -> dict[str, Any]:
    identity = f"{report.organization}\0{each.id}\0{finding.subject}"
    found: dict[str, Any] = {
        "ruleId": each.id,
        "ruleIndex": index,
        "level": "error",
        "message": {"text": f"{each.title}: {finding.subject}: {finding.evidence} {each.remedy}"},
        "locations": [{"logicalLocations": [{"name": finding.subject, "kind": "resource"}]}],
        "partialFingerprints": {"intaglio/v1": hashlib.sha256(identity.encode()).hexdigest()[:32]},
    }
    if finding.waiver is not None:
        justification = f"{finding.waiver.reason} (until {rfc3339(finding.waiver.until)}, {finding.waiver.owner})"
        found["suppressions"] = [{"kind": "external", "status": "accepted", "justification": justification}]
    return found


def _verdict(report: Report) -> str:
    failed = sum(each.status is Status.FAIL for each in report.results)
    unknown = sum(each.status is Status.UNKNOWN for each in report.results)
    rest = f", {unknown} could not be judged" if unknown else ""
    return f"{f'{failed} checks failed' if failed else 'No check failed'}{rest}."


def _progress(step: Any) -> str:
    return f"{step.passed} of {len(step.checks)} checks"


def _barriers(each: Barriers) -> str:
    return f"address {_WORDS[each.address_refuses]}, certificate {_WORDS[each.certificate_refuses]}"


def _borne(finding: Finding) -> str:
    if finding.waiver is not None:
        waiver = finding.waiver
        return f" (waived until {rfc3339(waiver.until)} by {waiver.owner}: {waiver.reason})"
    return f" (its waiver ended {rfc3339(finding.expired.until)})" if finding.expired is not None else ""


def _plain(value: Any) -> Any:
    """JSON-safe."""
    match value:
        case datetime():
            return rfc3339(value)
        case UUID() | Status():
            return str(value)
        case dict():
            return {name: _plain(member) for name, member in value.items()}
        case list() | tuple():
            return [_plain(member) for member in value]
    return value
