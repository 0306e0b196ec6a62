"""`intaglio mtls ingress`: where client certificates are demanded, and how strictly."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from intaglio.cli.client import segment
from intaglio.cli.commands import Cli, command, noun
from intaglio.cli.files import require_absent, write_private
from intaglio.cli.listing import All, Filter, Limit, Sort, listed
from intaglio.cli.mtls import render

app = noun("Ingresses: where client certificates are demanded, and how strictly.")

Name = Annotated[str, typer.Argument(metavar="INGRESS", help="NAME or ORGANIZATION~NAME.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Reason = Annotated[str, typer.Option(help="Why; it is recorded.")]
Days = Annotated[int | None, typer.Option(help="Days it may stay permissive.")]
Out = Annotated[str | None, typer.Option("--out", help="Write the token to this file instead of the terminal.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite the file.")]
Allow = Annotated[
    list[str] | None, typer.Option("--allow", help="Network that is allowed, all others denied; repeat for more.")
]
Description = Annotated[str | None, typer.Option(help="What it is for.")]
Listener = Annotated[str | None, typer.Option(help="Address and port it listens on: 0.0.0.0:443.")]
Hosts = Annotated[list[str] | None, typer.Option("--host", help="Host name it answers for; repeat for more.")]
PolicyName = Annotated[str | None, typer.Option(help="Access policy.")]
Revocation = Annotated[str | None, typer.Option(help="How it learns of revocations: live, crl or ocsp.")]
Refresh = Annotated[int | None, typer.Option(help="Seconds between its looks at revocations.")]
Forward = Annotated[
    list[str] | None, typer.Option(help="Headers that go upstream: client-cert, xfcc, identity; repeat for more.")
]
FailMode = Annotated[
    str | None, typer.Option(help="While no status can be looked up: closed (nobody passes) or open.")
]
_COLUMNS = {
    "full_name": "INGRESS", "type": "TYPE", "domain": "DOMAIN", "mode": "MODE", "permissive_until": "UNTIL",
    "policy": "POLICY", "fail_mode": "FAILS", "request": "REQUEST",
}  # fmt: skip


@command(
    app,
    "add",
    example=(
        "intaglio mtls ingress add web --org demo --domain prod.example --type nginx",
        "intaglio mtls ingress add admin --org demo --domain prod.example --allow 10.0.0.0/8 --mode enforce",
    ),
)
def add(
    cli: Cli,
    name: Annotated[str, typer.Argument(help="Its name.")],
    org: Annotated[str, typer.Option(help="Organization it belongs to.")],
    domain: Annotated[str, typer.Option(help="Trust domain whose certificates count.")],
    type: Annotated[str, typer.Option(help="Product: gateway, nginx, haproxy, apache, caddy, envoy ...")] = "nginx",
    mode: Annotated[str, typer.Option(help="off, permissive or enforce.")] = "permissive",
    allow: Allow = None,
    policy: PolicyName = None,
    description: Description = None,
    listener: Listener = None,
    host: Hosts = None,
    revocation: Revocation = None,
    refresh: Refresh = None,
    forward: Forward = None,
    fail_mode: FailMode = None,
    days: Days = None,
    out: Out = None,
    force: Force = False,
) -> None:
    """Register an ingress. Its token, with which it asks for decisions, is shown this once."""
    require_absent(out, force=force)
    body = {
        "name": name, "organization": org, "domain": domain, "type": type, "mode": mode,
        "permissive_days": days, "ip_rule": allow or None, "policy": policy,
        **_settings(description, listener, host, revocation, refresh, forward, fail_mode),
    }  # fmt: skip
    made = cli.client.post("/mtls/v1/ingresses", {key: value for key, value in body.items() if value is not None})
    _show_token(cli, made, f"Registered ingress {made['ingress']['full_name']} ({mode}).", out, force=force)


@command(app, "list", example="intaglio mtls ingress list --filter mode!=enforce")
def list_(cli: Cli, filter: Filter = None, sort: Sort = None, limit: Limit = 100, all: All = False) -> None:
    """List ingresses."""
    empty = "No ingresses. Register one with: intaglio mtls ingress add NAME --org ORG --domain DOMAIN"
    cli.out.table(listed(cli, "/mtls/v1/ingresses", filter, sort, limit, all), _COLUMNS, empty=empty)


@command(app, "show", example="intaglio mtls ingress show web")
def show(cli: Cli, ingress: Name) -> None:
    """Show an ingress."""
    cli.out.result(cli.client.get(_path(ingress)))


@command(
    app,
    "edit",
    example=(
        "intaglio mtls ingress edit web --policy payments",
        "intaglio mtls ingress edit web --allow 10.0.0.0/8 --allow 2001:db8::/32",
    ),
)
def edit(
    cli: Cli,
    ingress: Name,
    allow: Allow = None,
    allow_all: Annotated[bool, typer.Option("--no-ip-rule", help="Take the IP rule away.")] = False,
    policy: PolicyName = None,
    no_policy: Annotated[bool, typer.Option("--no-policy", help="Take the policy away.")] = False,
    description: Description = None,
    listener: Listener = None,
    host: Hosts = None,
    revocation: Revocation = None,
    refresh: Refresh = None,
    forward: Forward = None,
    fail_mode: FailMode = None,
) -> None:
    """Change an ingress, everything but its mode."""
    body: dict[str, Any] = _settings(description, listener, host, revocation, refresh, forward, fail_mode)
    body["ip_rule"] = "none" if allow_all else allow or None
    body["policy"] = "none" if no_policy else policy
    cli.out.result(cli.client.patch(_path(ingress), body), f"Changed ingress {ingress}.")


@command(
    app,
    "mode",
    example=(
        "intaglio mtls ingress mode web enforce",
        "intaglio mtls ingress mode web permissive",
        "intaglio mtls ingress mode web enforce --force --reason 'Known scanner without a certificate'",
    ),
)
def mode(
    cli: Cli,
    ingress: Name,
    mode: Annotated[str, typer.Argument(help="off, permissive or enforce.")],
    force: Annotated[bool, typer.Option("--force", help="Ask a second person where evidence is missing.")] = False,
    reason: Reason = "",
    days: Days = None,
) -> None:
    """Switch the mode. Enforcing needs a clean readiness report; going back to permissive is always possible."""
    body = {"mode": mode, "force": force, "reason": reason, "days": days}
    changed = cli.client.put(_path(ingress, "mode"), body)
    request = changed["request"]
    if request:
        text = (
            f"{changed['ingress']['full_name']} stays {changed['ingress']['mode']}. Another policy administrator has "
            f"to agree: intaglio mtls ingress approve {request['id']}"
        )
        cli.out.result(changed, text)
        return
    now = changed["ingress"]
    until = f" until {now['permissive_until']}" if now["permissive_until"] else ""
    cli.out.result(changed, f"{now['full_name']} is {now['mode']}{until}.")


@command(app, "readiness", example="intaglio mtls ingress readiness web --hours 168")
def readiness(
    cli: Cli, ingress: Name, hours: Annotated[int | None, typer.Option(min=1, help="How far to look back.")] = None
) -> None:
    """Show who would be refused if the ingress enforced. Exit code 1 when it is not ready."""
    found = cli.client.get(_path(ingress, "readiness"), hours=hours)
    if cli.out.as_json:
        cli.out.result(found)
    else:
        ready = "is ready to enforce" if found["ready"] else "is not ready to enforce"
        counts = f"{found['observed']} observed, {found['offences']} would be refused, {found['lost']} not recorded"
        cli.out.result(found, f"{found['ingress']} {ready}: {counts} since {found['since']}.")
        for why in found["why"]:
            cli.out.note(why)
        if found["offenders"]:
            columns = {
                "reason": "REASON", "claimed": "SAYS IT IS", "source_ip": "FROM", "count": "TIMES",
                "last_seen": "LAST SEEN", "detail": "DETAIL",
            }  # fmt: skip
            cli.out.table(found["offenders"], columns)
    if not found["ready"]:
        raise typer.Exit(1)


@command(app, "check", example="intaglio mtls ingress check web")
def check(cli: Cli, ingress: Name) -> None:
    """Whether the configuration that was rendered last is still what it should be. Fails when it is stale."""
    found = cli.client.get(_path(ingress, "rendering"))
    if cli.out.as_json:
        cli.out.result(found)
    elif found["stale"]:
        for why in found["why"]:
            cli.out.note(why)
        cli.out.note(f"Render it again and roll it out: intaglio mtls render ingress {found['ingress']} --out FOLDER")
    elif found["rendered_at"] is None:
        cli.out.note("Nothing was rendered for it yet.")
    else:
        cli.out.result(found, f"What was rendered at {found['rendered_at']} is up to date.")
    if found["stale"]:
        raise typer.Exit(1)


@command(app, "token", example="intaglio mtls ingress token web --out web.token")
def token(cli: Cli, ingress: Name, out: Out = None, force: Force = False, yes: Yes = False) -> None:
    """Give an ingress a new token. The one before counts no more from now on."""
    require_absent(out, force=force)
    cli.confirm(f"Replace the token of {ingress}? The enforcement point is refused until it has the new one.", yes=yes)
    made = cli.client.post(_path(ingress, "token"))
    _show_token(cli, made, f"New token of {made['ingress']['full_name']}.", out, force=force)


@command(app, "retire", example="intaglio mtls ingress retire web --yes")
def retire(cli: Cli, ingress: Name, yes: Yes = False) -> None:
    """Retire an ingress: its token counts no more, its events stay."""
    cli.confirm(f"Retire ingress {ingress}?", yes=yes)
    cli.client.delete(_path(ingress))
    cli.out.result({"retired": ingress}, f"Retired ingress {ingress}.")


# ---- a second person -------------------------------------------------------------------------------------------------

Request = Annotated[str, typer.Argument(metavar="REQUEST", help="Id of a request.")]


@command(app, "requests", example="intaglio mtls ingress requests --filter state=pending")
def requests(cli: Cli, filter: Filter = None, sort: Sort = None, limit: Limit = 100, all: All = False) -> None:
    """List requests to enforce without clean evidence."""
    columns = {
        "id": "REQUEST", "ingress": "INGRESS", "state": "STATE", "requested_by": "BY", "reason": "REASON",
        "expires_at": "EXPIRES", "decided_by": "DECIDED BY",
    }  # fmt: skip
    cli.out.table(listed(cli, "/mtls/v1/ingress-requests", filter, sort, limit, all), columns, empty="No requests.")


@command(app, "approve", example="intaglio mtls ingress approve 019a0000-0000-7000-8000-000000000000")
def approve(cli: Cli, request: Request) -> None:
    """Let an ingress enforce although its readiness report is not clean. Who asked for it cannot approve it."""
    changed = cli.client.put(f"/mtls/v1/ingress-requests/{segment(request)}", {"state": "approved"})
    cli.out.result(changed, f"{changed['ingress']['full_name']} is {changed['ingress']['mode']}.")


@command(app, "reject", example="intaglio mtls ingress reject 019a0000-0000-7000-8000-000000000000")
def reject(cli: Cli, request: Request) -> None:
    """Turn a request down."""
    changed = cli.client.put(f"/mtls/v1/ingress-requests/{segment(request)}", {"state": "rejected"})
    cli.out.result(changed, f"{changed['ingress']['full_name']} stays {changed['ingress']['mode']}.")


def _path(ingress: str, *below: str) -> str:
    return "/".join(["/mtls/v1/ingresses", segment(ingress), *below])


def _settings(
    description: str | None,
    listener: str | None,
    hosts: list[str] | None,
    revocation: str | None,
    refresh: int | None,
    forward: list[str] | None,
    fail_mode: str | None,
) -> dict[str, Any]:
    return {
        "description": description,
        "listener": listener,
        "hosts": hosts or None,
        "revocation_source": revocation,
        "refresh_seconds": refresh,
        "forward": forward or None,
        "fail_mode": fail_mode,
    }


def _show_token(cli: Cli, made: dict[str, Any], text: str, out: str | None, *, force: bool) -> None:
    if out is None:
        cli.out.result(made, f"{text} Its token, shown this once:\n{made['token']}")
        return
    write_private(out, f"{made['token']}\n", force=force)
    cli.out.result({"ingress": made["ingress"], "token_file": out}, f"{text} Its token is in {out}.")


# ---- the same under the name one looks for first -------------------------------------------------------------------

command(app, "render", example="intaglio mtls ingress render web --out web --upstream http://127.0.0.1:9000")(render.ingress)
