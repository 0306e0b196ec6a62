"""A report for people, as JSON, and as SARIF 2.1.0 (OASIS standard) for code hosting and editors."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

from intaglio import __version__
from intaglio.mtls.posture.scanners.findings import Finding, Report, Rule

_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"


def as_text(report: Report) -> str:
    """One line per finding with its remedy below, and a summary."""
    lines = []
    for each in report.findings:
        name = _one_line(each.place)
        place = f"{name}:{each.line}" if each.line is not None else name
        waived = f" (allowed: {each.waived})" if each.waived else ""
        said = f"{each.rule.title}: {_one_line(each.text)} [{each.rule.id}]{waived}"
        lines += [f"{place}: {each.rule.severity.value}: {said}"]
        if not each.waived:
            lines += [f"    {each.rule.remedy}"]
    for place, why in report.skipped:
        lines.append(f"{_one_line(place)}: not looked at: {_one_line(why)}")
    allowed = len(report.findings) - len(report.open)
    lines.append(f"{report.files} looked at, {len(report.open)} findings, {allowed} allowed.")
    if not report.complete:
        lines.append("The scan is not complete: a limit was reached.")
    return "\n".join(lines)


def as_json(report: Report) -> dict[str, Any]:
    """The report as a JSON object."""
    return {
        "files": report.files,
        "complete": report.complete,
        "failed": report.failed,
        "findings": [
            {
                "rule": each.rule.id,
                "severity": each.rule.severity.value,
                "title": each.rule.title,
                "place": each.place,
                "line": each.line,
                "column": each.column,
                "text": each.text,
                "remedy": each.rule.remedy,
                "waived": each.waived,
                "fingerprint": each.fingerprint,
            }
            for each in report.findings
        ],
        "skipped": [{"place": place, "why": why} for place, why in report.skipped],
    }


def as_sarif(report: Report, rules: Iterable[Rule]) -> dict[str, Any]:
    """The report as a SARIF log with one run; ``rules`` are those that were looked for."""
    known = list(dict.fromkeys([*rules, *(each.rule for each in report.findings)]))
    index = {rule.id: position for position, rule in enumerate(known)}
    driver = {
        "name": "intaglio",
        "version": __version__,
        "semanticVersion": __version__,
        "rules": [_rule(rule) for rule in known],
    }
    notifications = [
        {"level": "warning", "message": {"text": f"{place}: not looked at: {why}"}} for place, why in report.skipped
    ]
    invocation = {"executionSuccessful": report.complete, "toolExecutionNotifications": notifications}
    return {
        "$schema": _SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {"driver": driver},
                "columnKind": "unicodeCodePoints",
                "invocations": [invocation],
                "results": [_result(each, index[each.rule.id]) for each in report.findings],
            }
        ],
    }


def _one_line(text: str) -> str:
    """Names of files may have line ends, behind which anything could look like a finding, or like none."""
    return text.replace("\n", "\\n").replace("\r", "\\r")


def _rule(rule: Rule) -> dict[str, Any]:
    return {
        "id": rule.id,
        "shortDescription": {"text": rule.title},
        "fullDescription": {"text": f"{rule.title}."},
        "help": {"text": rule.remedy},
        "defaultConfiguration": {"level": rule.severity.value},
    }


def _result(found: Finding, index: int) -> dict[str, Any]:
    region = {"startLine": found.line, "startColumn": found.column or 1} if found.line is not None else None
    location: dict[str, Any] = {"artifactLocation": {"uri": quote(os.fsencode(found.place))}}
    if region is not None:
        location["region"] = region
    result: dict[str, Any] = {
        "ruleId": found.rule.id,
        "ruleIndex": index,
        "level": found.rule.severity.value,
        "message": {"text": f"{found.rule.title}: {found.text}. {found.rule.remedy}"},
        "locations": [{"physicalLocation": location}],
        "partialFingerprints": {"intaglio/v1": found.fingerprint},
    }
    if found.waived:
        result["suppressions"] = [{"kind": "inSource", "justification": found.waived}]
    return result
