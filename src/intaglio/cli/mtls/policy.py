"""`intaglio mtls policy`: what callers may do, by what their certificates say."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from intaglio.cli.client import segment
from intaglio.cli.commands import Cli, command, noun
from intaglio.cli.files import read_text
from intaglio.cli.listing import All, Filter, Limit, Sort, listed

app = noun("Access policies: what callers may do, by what their certificates say.")

Name = Annotated[str, typer.Argument(metavar="POLICY", help="NAME or ORGANIZATION~NAME.")]
Version = Annotated[int | None, typer.Option(help="Version; the newest unless told otherwise.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


@command(
    app,
    "apply",
    example=(
        "intaglio mtls policy apply payments --org demo --file payments.yaml --activate",
        "intaglio mtls policy apply payments --org demo --file payments.cedar",
    ),
)
def apply(
    cli: Cli,
    name: Annotated[str, typer.Argument(help="Its name.")],
    org: Annotated[str, typer.Option(help="Organization it belongs to.")],
    file: Annotated[
        str,
        typer.Option(help="YAML with language, source and cases; or only the source: *.cedar, else the short form."),
    ],
    activate: Annotated[bool, typer.Option("--activate", help="Activate it if its cases pass.")] = False,
) -> None:
    """Write a new version of a policy, as a draft unless it is activated. The same again makes no new one."""
    body = {**_document(file), "organization": org, "activate": activate}
    found = cli.client.put(f"/mtls/v1/policies/{segment(name)}", body)
    version = found["versions"][0]
    cli.out.result(found, f"{found['policy']['full_name']} version {version['version']} is {version['state']}.")
    if version["admits_anybody"]:
        cli.out.note("Some rule asks nothing of the caller: any valid certificate of the trust domain will do.")


@command(app, "list", example="intaglio mtls policy list")
def list_(cli: Cli, filter: Filter = None, sort: Sort = None, limit: Limit = 100, all: All = False) -> None:
    """List policies."""
    columns = {
        "full_name": "POLICY", "active_version": "ACTIVE", "latest_version": "NEWEST", "ingresses": "INGRESSES",
        "description": "DESCRIPTION",
    }  # fmt: skip
    empty = "No policies. Write one with: intaglio mtls policy apply NAME --org ORG --file FILE"
    cli.out.table(listed(cli, "/mtls/v1/policies", filter, sort, limit, all), columns, empty=empty)


@command(app, "show", example="intaglio mtls policy show payments")
def show(
    cli: Cli,
    policy: Name,
    version: Version = None,
    cedar: Annotated[bool, typer.Option("--cedar", help="Show what is evaluated, not what was written.")] = False,
) -> None:
    """Show a version of a policy."""
    found = cli.client.get(_path(policy))
    if cli.out.as_json:
        cli.out.result(found)
        return
    wanted = version or found["policy"]["latest_version"]
    chosen = next((each for each in found["versions"] if each["version"] == wanted), None)
    if chosen is None:
        cli.out.error(f"{policy} has no version {wanted}.", "Name one of the newest 100.")
        raise typer.Exit(1)
    cli.out.members(found["policy"])
    cli.out.result(chosen, f"\nversion {wanted}, {chosen['state']}:\n\n{chosen['cedar' if cedar else 'source']}")


@command(app, "test", example="intaglio mtls policy test payments")
def run_cases(cli: Cli, policy: Name, version: Version = None) -> None:
    """Run the cases of a version. Exit code 1 when one fails."""
    found = cli.client.get(_path(policy, "cases"), version=version)
    if cli.out.as_json:
        cli.out.result(found)
    else:
        columns = {"name": "CASE", "expect": "EXPECTED", "answer": "ANSWER", "passed": "PASSED", "rules": "RULES"}
        cli.out.table(found["cases"], columns, empty="It has no cases.")
    if not found["passed"]:
        raise typer.Exit(1)


@command(app, "activate", example="intaglio mtls policy activate payments --version 3")
def activate(cli: Cli, policy: Name, version: Version = None) -> None:
    """Make a version the one that counts; all its cases have to pass. An earlier version takes a later one back."""
    found = cli.client.post(_path(policy, "activate"), {"version": version})
    cli.out.result(found, f"{found['full_name']} version {found['active_version']} is active.")


@command(app, "dry-run", example="intaglio mtls policy dry-run payments --hours 168")
def dry_run(
    cli: Cli,
    policy: Name,
    version: Version = None,
    hours: Annotated[int, typer.Option(min=1, help="How far to look back.")] = 24,
) -> None:
    """Show which recorded requests a version would decide differently."""
    found = cli.client.post(_path(policy, "dry-run"), {"version": version, "hours": hours})
    if cli.out.as_json:
        cli.out.result(found)
        return
    tried = f"{found['requests']} requests of the last {hours} hours"
    outcome = f"{found['newly_denied']} newly denied, {found['newly_allowed']} newly allowed"
    cli.out.result(found, f"{found['policy']} version {found['version']} on {tried}: {outcome}.")
    if not found["complete"]:
        cli.out.note("There were more different requests than were tried; look back less far.")
    if found["changes"]:
        columns = {
            "identity": "IDENTITY", "ingress": "INGRESS", "method": "METHOD", "path": "PATH", "before": "BEFORE",
            "after": "AFTER", "rules": "RULES", "count": "TIMES",
        }  # fmt: skip
        cli.out.table(found["changes"], columns)


@command(
    app,
    "explain",
    example="intaglio mtls policy explain payments --identity kind=service --identity service=orders --path /pay/1",
)
def explain(
    cli: Cli,
    policy: Name,
    identity: Annotated[
        list[str] | None, typer.Option("--identity", help="NAME=VALUE of the caller's certificate; repeat for more.")
    ] = None,
    method: Annotated[str, typer.Option(help="HTTP method.")] = "GET",
    path: Annotated[str, typer.Option(help="Path.")] = "/",
    host: Annotated[str, typer.Option(help="Host name.")] = "",
    source_ip: Annotated[str, typer.Option(help="Address of the caller.")] = "",
    ingress: Annotated[str, typer.Option(help="Name of the ingress.")] = "",
    version: Version = None,
) -> None:
    """Say what a policy answers to a request, by which rules, and what it knows of the caller."""
    body = {
        "identity": _identity(identity or []), "method": method, "path": path, "host": host, "source_ip": source_ip,
        "ingress": ingress, "version": version,
    }  # fmt: skip
    found = cli.client.post(_path(policy, "explain"), body)
    answer = "allowed" if found["allowed"] else "denied"
    rules = ", ".join(found["rules"]) or "no rule allows it"
    cli.out.result(found, f"{found['policy']} version {found['version']}: {answer} ({rules}).")
    if not cli.out.as_json:
        cli.out.members(found["principal"])


@command(app, "schema", example="intaglio mtls policy schema")
def schema(cli: Cli) -> None:
    """Show what rules may name, as a Cedar schema."""
    found = cli.client.get("/mtls/v1/policy-schema")
    cli.out.result(found, found["schema_text"])


@command(app, "retire", example="intaglio mtls policy retire payments --yes")
def retire(cli: Cli, policy: Name, yes: Yes = False) -> None:
    """Retire a policy that no ingress uses."""
    cli.confirm(f"Retire policy {policy}?", yes=yes)
    cli.client.delete(_path(policy))
    cli.out.result({"retired": policy}, f"Retired policy {policy}.")


def _path(policy: str, *below: str) -> str:
    return "/".join(["/mtls/v1/policies", segment(policy), *below])


def _document(file: str) -> dict[str, Any]:
    text = read_text(file)
    if file.endswith((".yaml", ".yml")):
        import yaml

        from intaglio.core.errors import InvalidInput

        try:
            found = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise InvalidInput(f"{file} is not YAML: {error}", target="--file") from None
        known = {"language", "source", "cases", "description"}
        if not isinstance(found, dict) or "source" not in found or not set(found) <= known:
            remedy = f"It has {', '.join(sorted(known))}."
            raise InvalidInput(f"{file} is not a policy.", remedy=remedy, target="--file")
        return {str(key): value for key, value in found.items()}
    return {"language": "cedar" if file.endswith(".cedar") else "short", "source": text}


def _identity(pairs: list[str]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for pair in pairs:
        name, _, value = pair.partition("=")
        if name in ("role", "roles"):
            members.setdefault("roles", []).extend(filter(None, value.split(",")))
        else:
            members[name] = value
    return members
