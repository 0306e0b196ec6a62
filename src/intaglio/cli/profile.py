"""`intaglio profile`: certificate profiles."""

from __future__ import annotations

from typing import Annotated

import typer

from intaglio.cli.client import segment
from intaglio.cli.commands import Cli, command, noun
from intaglio.cli.files import read_text
from intaglio.cli.listing import All, Filter, Limit, Sort, listed

app = noun("Certificate profiles: what a certificate holds and who may have it.")

Profile = Annotated[str, typer.Argument(metavar="PROFILE", help="Id; - and _ are the same.")]


@command(app, "list", example="intaglio profile list --filter group=privatessl")
def list_(
    cli: Cli,
    filter: Filter = None,
    sort: Sort = None,
    limit: Limit = 200,
    all: All = False,
    hidden: Annotated[bool, typer.Option("--hidden", help="Also those that only the platform itself uses.")] = False,
) -> None:
    """List the profiles, built-in and custom."""
    rows = listed(cli, "/profiles", filter, sort, limit, all, hidden=hidden)
    columns = {"id": "ID", "title": "TITLE", "group": "GROUP", "version": "VERSION", "state": "STATE"}
    cli.out.table(rows, columns)


@command(app, "show", example=("intaglio profile show privatessl-tls-server", "intaglio profile show my-web --yaml"))
def show(
    cli: Cli,
    profile: Profile,
    yaml: Annotated[bool, typer.Option("--yaml", help="Print its declaration.")] = False,
) -> None:
    """Show exactly what certificates of a profile will hold, and where each part comes from."""
    found = cli.client.get(f"/profiles/{segment(profile)}")
    if yaml:
        cli.out.result(found, found["declaration"].rstrip("\n"))
        return
    if cli.out.as_json:
        cli.out.result(found)
        return
    print(f"{found['id']}: {found['title']}")
    cli.out.members({fact["label"]: fact["text"] for fact in found["facts"]})
    columns = {"name": "EXTENSION", "critical": "CRITICAL", "value": "VALUE", "source": "FROM", "present": "PRESENT"}
    cli.out.table(found["extensions"], columns)


@command(app, "test", example="intaglio profile test privatessl-tls-server")
def test(cli: Cli, profile: Profile) -> None:
    """Issue from a throw-away CA, compare with the declaration, and lint. Exit code 1 when they differ."""
    with cli.out.waiting(f"Trying {profile}"):
        report = cli.client.post(f"/profiles/{segment(profile)}/test")
    lines = [f"{report['profile']}: {'as declared' if report['ok'] else 'NOT as declared'}"]
    lines += [f"  differs: {text}" for text in report["differences"]]
    lines += [f"  {each['severity']}: {each['code']} {each['text']}".rstrip() for each in report["findings"]]
    lines += [f"  note: {text}" for text in report["warnings"]]
    cli.out.result(report, "\n".join(lines))
    if not report["ok"]:
        raise typer.Exit(1)


@command(app, "lint", example="intaglio profile lint web.yaml")
def lint(cli: Cli, file: Annotated[str, typer.Argument(help="Declaration (YAML); - is standard input.")]) -> None:
    """Check a declaration before it is applied: grammar, rules, and a trial issuance. Exit code 1 when it fails."""
    report = cli.client.post("/profiles/lint", {"declaration": read_text(file)})
    lines = [f"{report['profile']}: {'fine' if report['ok'] else 'NOT fine'}"]
    lines += [f"  {text}" for text in report["differences"]]
    lines += [f"  {each['severity']}: {each['code']} {each['text']}".rstrip() for each in report["findings"]]
    cli.out.result(report, "\n".join(lines))
    if not report["ok"]:
        raise typer.Exit(1)


@command(app, "clone", example="intaglio profile clone privatessl-tls-server my-web --set validity.default=P90D")
def clone(
    cli: Cli,
    source: Annotated[str, typer.Argument(help="Profile to start from.")],
    new_id: Annotated[str, typer.Argument(help="Id of the new profile.")],
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="FIELD=VALUE (YAML), such as title='Web'; repeat for more.")
    ] = None,
) -> None:
    """Make a custom profile out of another one; it is a draft until it is activated."""
    from intaglio.cli.ca_create import parse_options

    made = cli.client.post("/profiles", {"id": new_id, "based_on": source, "changes": parse_options(set_)})
    cli.out.result(made, f"Created {made['id']} version {made['version']} ({made['state']}).")


@command(app, "apply", example="intaglio profile apply web.yaml")
def apply(cli: Cli, file: Annotated[str, typer.Argument(help="Declaration (YAML); - is standard input.")]) -> None:
    """Create a custom profile from its declaration, or make a new version of it."""
    made = cli.client.post("/profiles", {"declaration": read_text(file)})
    cli.out.result(made, f"{made['id']} is at version {made['version']} ({made['state']}).")


@command(app, "activate", example="intaglio profile activate my-web")
def activate(
    cli: Cli,
    profile: Profile,
    version: Annotated[int | None, typer.Option(help="The draft that was looked at; default: the newest.")] = None,
) -> None:
    """Approve and activate the draft of a custom profile, after a clean lint.

    Not by its author, while somebody else could.
    """
    with cli.out.waiting(f"Linting {profile}"):
        made = cli.client.post(f"/profiles/{segment(profile)}/activate", {"version": version})
    cli.out.result(made, f"{made['id']} version {made['version']} is active.")


@command(app, "retire", example="intaglio profile retire my-web --yes")
def retire(
    cli: Cli,
    profile: Profile,
    force: Annotated[bool, typer.Option("--force", help="Although CAs offer it.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Retire a custom profile: nothing more is issued with it."""
    cli.confirm(f"Retire {profile}?", yes=yes)
    cli.client.post(f"/profiles/{segment(profile)}/retire", force=force)
    cli.out.result({"retired": profile}, f"{profile} is retired.")
