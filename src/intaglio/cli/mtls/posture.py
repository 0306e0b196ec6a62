"""`intaglio mtls posture`: which rules hold, which do not, and what to do next."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from intaglio.cli.client import segment
from intaglio.cli.commands import Cli, command, noun
from intaglio.cli.files import read_text, write_public
from intaglio.cli.listing import All, Filter, Limit, Sort, listed
from intaglio.core.errors import InvalidInput

app = noun("Posture: which rules hold, which common mistakes are there, and what to do next.")

Org = Annotated[str, typer.Option("--org", help="Organization.")]
WaiverId = Annotated[str, typer.Argument(metavar="WAIVER", help="Id of a waiver.")]
_FORMATS = ("text", "json", "sarif", "html")


@command(app, "status", example="intaglio mtls posture status --org demo")
def status(cli: Cli, org: Org) -> None:
    """Show the six steps of the rollout, how far each is, and what to do next."""
    found = cli.client.get("/mtls/v1/posture", organization=org)
    if cli.out.as_json:
        cli.out.result({name: found[name] for name in ("organization", "passed", "score", "stage", "steps")})
        return
    rows = [{**each, "progress": f"{each['passed']}/{len(each['checks'])}"} for each in found["steps"]]
    columns = {"number": "STEP", "title": "WHAT", "done": "DONE", "progress": "CHECKS", "next_action": "NEXT"}
    cli.out.table(rows, columns)
    print(f"Score {found['score']} of 100, stage {found['stage']} of 3.")


@command(
    app,
    "report",
    example=(
        "intaglio mtls posture report --org demo",
        "intaglio mtls posture report --org demo --format html --out posture.html",
    ),
)
def report(
    cli: Cli,
    org: Org,
    format: Annotated[str, typer.Option(help="text, json, sarif or html.")] = "text",
    out: Annotated[str, typer.Option("--out", "-o", help="File to write; - is standard output.")] = "-",
) -> None:
    """Judge every check. Exit code 1 when one fails that no waiver covers."""
    if format not in _FORMATS:
        raise InvalidInput(f'"{format[:20]}" is no format.', remedy=f"Use one of: {', '.join(_FORMATS)}.")
    wanted = "json" if cli.out.as_json else format
    with cli.out.waiting("Judging ..."):
        made = cli.client.get("/mtls/v1/posture", organization=org, format=wanted)
    write_public(out, made if isinstance(made, str) else json.dumps(made, indent=2, ensure_ascii=False) + "\n")
    if _fails(cli, org, made):
        raise typer.Exit(1)


@command(app, "checks", example="intaglio mtls posture checks")
def checks(cli: Cli, filter: Filter = None, sort: Sort = None, limit: Limit = 100, all: All = False) -> None:
    """List what is checked."""
    rows = listed(cli, "/mtls/v1/posture/checks", filter, sort, limit, all)
    cli.out.table(rows, {"id": "CHECK", "title": "TITLE", "rule": "RULE", "stage": "STAGE"})


# ---- waivers ---------------------------------------------------------------------------------------------------------


@command(
    app,
    "waive",
    example="intaglio mtls posture waive PC-06 service:old@prod.example --org demo --owner alice "
    "--reason 'Replaced in March' --until 2027-03-31T00:00:00Z",
)
def waive(
    cli: Cli,
    check: Annotated[str, typer.Argument(help="PC-01 to PC-25.")],
    subject: Annotated[str, typer.Argument(help="What the finding is about; * for all findings of the check.")],
    org: Org,
    owner: Annotated[str, typer.Option(help="Who answers for it.")],
    reason: Annotated[str, typer.Option(help="Why it is borne.")],
    until: Annotated[str, typer.Option(help="End, RFC 3339, within a year.")],
) -> None:
    """Ask for a waiver of a finding. It counts once another policy administrator has approved it."""
    body = {"organization": org, "check": check, "subject": subject, "owner": owner, "reason": reason, "until": until}
    made = cli.client.post("/mtls/v1/posture/waivers", body)
    cli.out.result(made, f"Waits for approval: intaglio mtls posture approve {made['id']}")


@command(app, "waivers", example="intaglio mtls posture waivers --org demo --filter state=approved")
def waivers(cli: Cli, org: Org, filter: Filter = None, sort: Sort = None, limit: Limit = 100, all: All = False) -> None:
    """List waivers."""
    columns = {
        "id": "WAIVER", "check": "CHECK", "subject": "ABOUT", "owner": "OWNER", "until": "UNTIL", "state": "STATE",
        "reason": "REASON", "requested_by": "BY", "decided_by": "DECIDED BY",
    }  # fmt: skip
    rows = listed(cli, "/mtls/v1/posture/waivers", filter, sort, limit, all, organization=org)
    cli.out.table(rows, columns, empty="No waivers.")


@command(app, "approve", example="intaglio mtls posture approve 019a0000-0000-7000-8000-000000000000")
def approve(cli: Cli, waiver: WaiverId) -> None:
    """Approve a waiver that somebody else has asked for."""
    _decide(cli, waiver, "approved")


@command(app, "reject", example="intaglio mtls posture reject 019a0000-0000-7000-8000-000000000000")
def reject(cli: Cli, waiver: WaiverId) -> None:
    """Turn a waiver down."""
    _decide(cli, waiver, "rejected")


@command(app, "withdraw", example="intaglio mtls posture withdraw 019a0000-0000-7000-8000-000000000000")
def withdraw(cli: Cli, waiver: WaiverId) -> None:
    """End a waiver before its time: the finding counts again."""
    _decide(cli, waiver, "withdrawn")


# ---- service edges ---------------------------------------------------------------------------------------------------


@command(
    app,
    "declare-edge",
    example="intaglio mtls posture declare-edge service:orders service:payments enforced --org demo",
)
def declare_edge(
    cli: Cli,
    caller: Annotated[str, typer.Argument(help="Who calls.")],
    callee: Annotated[str, typer.Argument(help="What is called.")],
    state: Annotated[str, typer.Argument(help="Mutual TLS on the way: none, permissive or enforced.")],
    org: Org,
    protocol: Annotated[str, typer.Option(help="What is spoken.")] = "https",
) -> None:
    """Declare who calls whom inside, and how it is protected."""
    body = {"organization": org, "caller": caller, "callee": callee, "state": state, "protocol": protocol}
    made = cli.client.post("/mtls/v1/service-edges", body)
    cli.out.result(made, f"{made['caller']} -> {made['callee']}: {made['state']}.")


@command(app, "discover-edges", example="intaglio mtls posture discover-edges --org demo")
def discover_edges(cli: Cli, org: Org) -> None:
    """Write down the calls that ingresses have let in during the last seven days."""
    found = cli.client.post("/mtls/v1/service-edges/discover", {"organization": org})["items"]
    cli.out.table(found, _EDGE_COLUMNS, empty="Nothing new was seen.")


@command(app, "edges", example="intaglio mtls posture edges --org demo --filter state!=enforced")
def edges(cli: Cli, org: Org, filter: Filter = None, sort: Sort = None, limit: Limit = 100, all: All = False) -> None:
    """List who calls whom."""
    rows = listed(cli, "/mtls/v1/service-edges", filter, sort, limit, all, organization=org)
    cli.out.table(rows, _EDGE_COLUMNS, empty="No service edges. Declare one: intaglio mtls posture declare-edge")


@command(app, "remove-edge", example="intaglio mtls posture remove-edge 019a0000-0000-7000-8000-000000000000 --yes")
def remove_edge(
    cli: Cli,
    edge: Annotated[str, typer.Argument(help="Id of a service edge.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Forget a service edge."""
    cli.confirm("Forget the service edge?", yes=yes)
    cli.client.delete(f"/mtls/v1/service-edges/{segment(edge)}")
    cli.out.result({"removed": edge}, "Forgot the service edge.")


# ---- scans -----------------------------------------------------------------------------------------------------------


@command(app, "record-scan", example="intaglio mtls posture record-scan code report.json --org demo --place checkout")
def record_scan(
    cli: Cli,
    kind: Annotated[str, typer.Argument(help="What was scanned: code, keys or endpoints.")],
    file: Annotated[str, typer.Argument(help="What `intaglio mtls scan ... --format json` wrote; - is input.")],
    org: Org,
    place: Annotated[str, typer.Option(help="Name of what was scanned; a later result replaces the one before.")],
) -> None:
    """Record what a scan found, so that the posture judges it."""
    try:
        found = json.loads(read_text(file))
        members = ("rule", "place", "text", "waived")
        findings = [{name: each.get(name) for name in members} for each in found["findings"]]
        body = {"organization": org, "kind": kind, "place": place, "complete": found["complete"], "findings": findings}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        remedy = "Make it with: intaglio mtls scan ... --format json --out FILE"
        raise InvalidInput(f"{file} is not the report of a scan.", code="scan-invalid", remedy=remedy) from None
    made = cli.client.post("/mtls/v1/posture/scans", body)
    cli.out.result(made, f"Recorded the scan of {made['place']}: {made['open_findings']} open findings.")


@command(app, "scans", example="intaglio mtls posture scans --org demo")
def scans(cli: Cli, org: Org, filter: Filter = None, sort: Sort = None, limit: Limit = 100, all: All = False) -> None:
    """List the newest result of every scan that was recorded."""
    columns = {"kind": "KIND", "place": "PLACE", "open_findings": "OPEN", "complete": "COMPLETE", "recorded_at": "AT"}
    rows = listed(cli, "/mtls/v1/posture/scans", filter, sort, limit, all, organization=org)
    cli.out.table(rows, columns, empty="No scans. Record one: intaglio mtls posture record-scan")


_EDGE_COLUMNS = {
    "id": "EDGE", "caller": "CALLER", "callee": "CALLS", "protocol": "PROTOCOL", "state": "MUTUAL TLS",
    "origin": "ORIGIN",
}  # fmt: skip


def _decide(cli: Cli, waiver: str, state: str) -> None:
    found = cli.client.put(f"/mtls/v1/posture/waivers/{segment(waiver)}", {"state": state})
    cli.out.result(found, f"The waiver of {found['check']} for {found['subject']} is {found['state']}.")


def _fails(cli: Cli, org: str, made: Any) -> bool:
    """Whether a check failed, by the report that was made; one for people or tools does not say so by itself."""
    if isinstance(made, dict) and "passed" in made:
        return not made["passed"]
    if isinstance(made, dict):
        return any("suppressions" not in each for each in made["runs"][0]["results"])
    return not cli.client.get("/mtls/v1/posture", organization=org)["passed"]
