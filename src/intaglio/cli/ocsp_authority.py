"""`intaglio ocsp authority`: status authorities."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from intaglio.cli.client import segment
from intaglio.cli.commands import Cli, command, noun
from intaglio.cli.files import read_text
from intaglio.cli.listing import All, Filter, Limit, Sort, listed
from intaglio.cli.ocsp_authority_options import Answers, Place, Reading, configuration
from intaglio.core.errors import InvalidInput

app = noun("Status authorities: the CAs, ours and others, whose certificates' status is given out at /eva.")

Name = Annotated[str, typer.Argument(help="Name of the authority.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only list what is wrong; save nothing.")]
File = Annotated[str | None, typer.Option("--file", help="All of it as YAML or JSON, as `show --json` prints it.")]


@command(
    app,
    "create",
    example=(
        "intaglio ocsp authority create legacy --issuer ca.pem --crl http://pki.example/ca.crl",
        "intaglio ocsp authority create other --issuer ca.pem --gateway https://gw.example:8444/cagw "
        "--gateway-ca org~issuing --server-ca gw-ca.pem",
        "intaglio ocsp authority create own --ca demo~issuing --profile archiveCutOffWithNextUpdate",
    ),
)
def create(
    cli: Cli,
    name: Name,
    place: Place,
    reading: Reading,
    answers: Answers,
    file: File = None,
    dry_run: DryRun = False,
) -> None:
    """Create a status authority. It answers tryLater until its source has been read completely once."""
    body = _from_file(file) if file else configuration({"name": name}, place, reading, answers)
    body["name"] = name
    if dry_run:
        _validate(cli, body, None)
        return
    _saved(cli, cli.client.post("/validation/authorities", body), "Created")


@command(
    app,
    "set",
    example=(
        "intaglio ocsp authority set legacy --every 1m --profile CRLProfileWithNextUpdate",
        "intaglio ocsp authority set legacy --disable",
    ),
)
def set_(
    cli: Cli,
    name: Name,
    reading: Reading,
    answers: Answers,
    file: File = None,
    dry_run: DryRun = False,
) -> None:
    """Change what is given; the rest stays. Another source needs `reset-source`."""
    found = cli.client.get(f"/validation/authorities/{segment(name)}")
    body = _from_file(file) if file else configuration(_spec_of(found), reading, answers)
    if dry_run:
        _validate(cli, body, name)
        return
    path = f"/validation/authorities/{segment(name)}?version={found['version']}"
    _saved(cli, cli.client.put(path, body), "Changed")


@command(
    app,
    "reset-source",
    example="intaglio ocsp authority reset-source other --issuer ca.pem --crl http://pki.example/ca.crl --yes",
)
def reset_source(
    cli: Cli,
    name: Name,
    place: Place,
    reading: Reading,
    answers: Answers,
    file: File = None,
    yes: Yes = False,
    dry_run: DryRun = False,
) -> None:
    """Give it another source, and forget what the one before said. Without a source: read the same one anew."""
    found = cli.client.get(f"/validation/authorities/{segment(name)}")
    base = _spec_of(found)
    if place.ca or place.gateway or reading.crl or reading.directory:
        base = {key: base[key] for key in ("name", "enabled", "issuers", "responder")}
    body = _from_file(file) if file else configuration(base, place, reading, answers)
    if dry_run:
        _validate(cli, body, name)
        return
    known = (found["state"] or {}).get("entries", 0)
    cli.confirm(f'Forget the status of {known} certificates of "{name}", and answer tryLater meanwhile?', yes=yes)
    path = f"/validation/authorities/{segment(name)}/reset-source"
    _saved(cli, cli.client.post(path, body, version=found["version"]), "Reset")


@command(
    app,
    "validate",
    example=("intaglio ocsp authority validate legacy", "intaglio ocsp authority validate --file legacy.yaml"),
)
def validate(
    cli: Cli,
    name: Annotated[str | None, typer.Argument(help="Authority whose configuration is checked as it is.")] = None,
    file: File = None,
) -> None:
    """List everything that is wrong with a configuration, without saving anything. Exit code 1 for errors."""
    if (name is None) == (file is None):
        raise InvalidInput("Say which authority, or give --file.", code="option-needed")
    if file is not None:
        _validate(cli, _from_file(file), None)
        return
    found = cli.client.get(f"/validation/authorities/{segment(name or '')}")
    _validate(cli, _spec_of(found), name)


@command(app, "list", example="intaglio ocsp authority list")
def list_(cli: Cli, filter: Filter = None, sort: Sort = None, limit: Limit = 100, all: All = False) -> None:
    """List the status authorities."""
    rows = listed(cli, "/validation/authorities", filter, sort, limit, all)
    columns = {
        "name": "NAME",
        "source": "SOURCE",
        "profile": "PROFILE",
        "enabled": "ENABLED",
        "state.entries": "CERTIFICATES",
        "state.next_update": "UNTIL",
        "state.stale_reason": "STALE",
    }
    empty = "None yet. Make one with: intaglio ocsp authority create NAME --issuer CA.pem --crl URL"
    cli.out.table(rows, columns, empty=empty)


@command(app, "show", example="intaglio ocsp authority show legacy")
def show(cli: Cli, name: Name) -> None:
    """Show a status authority."""
    found = cli.client.get(f"/validation/authorities/{segment(name)}")
    if cli.out.as_json:
        cli.out.result(found)
        return
    source = found["source"]
    hidden = ("server_ca", "crls", "crl_issuers")
    options = {key: value for key, value in (found[source] or {}).items() if key not in hidden and value is not None}
    chosen = {key: value for key, value in found["responder"].items() if value not in (False, None, "", "key")}
    if "requestor_cas" in chosen:
        chosen["requestor_cas"] = chosen["requestor_cas"].count("-----BEGIN CERTIFICATE-----")
    shown = {key: found[key] for key in ("name", "enabled", "source", "ca", "profile", "version")}
    crls = [each["url"] or f"{each['directory']}: {each['entry']}" for each in (found["crl"] or {}).get("crls", ())]
    cli.out.members({**shown, **({"crls": crls} if crls else {}), **options, **chosen, **(found["state"] or {})})


@command(app, "delete", example="intaglio ocsp authority delete legacy --yes")
def delete(cli: Cli, name: Name, yes: Yes = False) -> None:
    """Delete it, and everything known of its certificates."""
    found = cli.client.get(f"/validation/authorities/{segment(name)}")
    known = (found["state"] or {}).get("entries", 0)
    cli.confirm(f'Delete "{name}" and forget the status of {known} certificates?', yes=yes)
    gone = cli.client.delete(f"/validation/authorities/{segment(name)}")
    cli.out.result(gone, f"Deleted {name}.")


# ---- from options to a configuration ---------------------------------------------------------------------------------


def _spec_of(found: dict[str, Any]) -> dict[str, Any]:
    """What was shown of an authority, as it is written."""
    names = ("name", "enabled", "source", "ca", "profile", "issuers", "gateway", "crl", "responder")
    return {key: found[key] for key in names if found[key] is not None}


def _from_file(path: str) -> dict[str, Any]:
    import yaml

    try:
        read = yaml.safe_load(read_text(path))
    except yaml.YAMLError:
        read = None
    if not isinstance(read, dict):
        raise InvalidInput(f"{path} is neither YAML nor JSON of a status authority.", code="file-unreadable")
    return _spec_of(dict.fromkeys(_ALL) | read)


_ALL = ("name", "enabled", "source", "ca", "profile", "issuers", "gateway", "crl", "responder")


def _validate(cli: Cli, body: dict[str, Any], replaces: str | None) -> None:
    found = cli.client.post("/validation/validate", body, replaces=replaces)
    if cli.out.as_json:
        cli.out.result(found)
    else:
        columns = {"level": "LEVEL", "target": "WHERE", "message": "WHAT", "code": "CODE"}
        cli.out.table(found["problems"], columns, empty="Nothing is wrong.")
    if not found["ok"]:
        raise typer.Exit(1)


def _saved(cli: Cli, saved: dict[str, Any], verb: str) -> None:
    for each in saved["warnings"]:
        cli.out.warning(each["message"])
    authority = saved["authority"]
    name = authority["name"]
    more = "" if authority["source"] == "native" else f" Its source is read now: intaglio ocsp source show {name}"
    cli.out.result(saved, f"{verb} {name} ({authority['profile']}).{more}")
