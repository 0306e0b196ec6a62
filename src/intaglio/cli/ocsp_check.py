"""`intaglio ocsp check`: whether everything that answers depend on works."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from intaglio.cli.client import segment
from intaglio.cli.commands import Cli, command, noun

app = noun("Check what answers about certificates depend on. Exit code 1 when something is wrong.")


@command(app, "source", example=("intaglio ocsp check source legacy", "intaglio ocsp check source"))
def source(
    cli: Cli,
    name: Annotated[str | None, typer.Argument(help="Name of an authority; all without one.")] = None,
) -> None:
    """Look at everything an authority is read from: reachable, signed by the configured CA, current."""
    _tell(cli, _sources(cli, name))


@command(app, "db", example="intaglio ocsp check db")
def db(cli: Cli) -> None:
    """Whether the database answers, has the tables, and lets them be read and written."""
    _tell(cli, _named("database", cli.client.get("/validation/database")))


@command(app, "signer", example="intaglio ocsp check signer")
def signer(cli: Cli) -> None:
    """Have the signer of every status authority make a trial signature; fails when one does not."""
    from intaglio.cli.ocsp_query import signer_

    signer_(cli)


@command(app, "all", example="intaglio ocsp check all")
def all_(
    cli: Cli,
    tokens: Annotated[bool, typer.Option("--tokens/--no-tokens", help="Try every token, too.")] = True,
) -> None:
    """Database, signers, tokens and every source."""
    status = cli.client.get("/status")
    found = _named("database", cli.client.get("/validation/database"))
    version = status.get("version", "")
    found.append({"check": "server", "about": "version", "ok": True, "detail": f"Intaglio {version} answers."})
    for each in cli.client.get("/validation/signer-check"):
        detail = each["problem"] or f"{each['signer']} signs."
        found.append({"check": each["authority"], "about": "signer", "ok": not each["problem"], "detail": detail})
    if tokens:
        found += _tokens(cli)
    _tell(cli, found + _sources(cli, None))


def _tokens(cli: Cli) -> list[dict[str, Any]]:
    """What `intaglio hsm check` finds, a line for each token: the first thing that is wrong with it."""
    found: list[dict[str, Any]] = []
    for each in cli.client.get("/hsm/tokens")["items"]:
        name = each["name"]
        with cli.out.waiting(f"Trying {name}"):
            report = cli.client.post(f"/hsm/tokens/{segment(name)}/check", {})
        failed = [step for step in report["steps"] if not step["ok"]]
        detail = "Keys of every kind are made, used and deleted."
        if failed:
            detail = f"{failed[0]['about']}: {failed[0]['what']} {failed[0]['detail']}".rstrip()
        found.append({"check": name, "about": "token", "ok": report["ok"], "detail": detail})
    return found


def _sources(cli: Cli, name: str | None) -> list[dict[str, Any]]:
    if name is not None:
        names = [name]
    else:
        names = [each["name"] for each in cli.client.pages("/validation/authorities", most=None) if each["enabled"]]
    found: list[dict[str, Any]] = []
    for each in names:
        with cli.out.waiting(f"Checking {each}"):
            found += _named(each, cli.client.post(f"/validation/sources/{segment(each)}/check"))
    return found


def _named(check: str, result: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"check": check, **finding} for finding in result["findings"]]


def _tell(cli: Cli, findings: list[dict[str, Any]]) -> None:
    ok = all(each["ok"] for each in findings)
    if cli.out.as_json:
        cli.out.result({"ok": ok, "findings": findings})
    else:
        shown = [{**each, "result": "ok" if each["ok"] else "FAILED"} for each in findings]
        columns = {"check": "CHECK", "about": "ABOUT", "result": "RESULT", "detail": "DETAIL"}
        cli.out.table(shown, columns, empty="There is nothing to check.")
        cli.out.note("Tests passed successfully." if ok else "Something is wrong.")
    if not ok:
        raise typer.Exit(1)
