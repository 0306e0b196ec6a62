"""`intaglio ocsp authority`: status authorities."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from intaglio.cli.client import segment
from intaglio.cli.commands import Cli, command, noun
from intaglio.cli.files import read_text
from intaglio.cli.listing import All, Filter, Limit, Sort, listed
from intaglio.core.errors import InvalidInput

app = noun("Status authorities: the CAs, ours and others, whose certificates' status is given out at /eva.")

Name = Annotated[str, typer.Argument(help="Name of the authority.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only list what is wrong; save nothing.")]
_SOURCE, _ANSWERS = "Source", "Answers"
File = Annotated[str | None, typer.Option("--file", help="All of it as YAML or JSON, as `show --json` prints it.")]
Ca = Annotated[
    str | None, typer.Option("--ca", help="One of our CAs: ORGANIZATION~ID.", rich_help_panel=_SOURCE)
]
Issuer = Annotated[
    list[str] | None,
    typer.Option("--issuer", help="Certificate of the CA (PEM); repeat for former keys.", rich_help_panel=_SOURCE),
]
Crl = Annotated[str | None, typer.Option("--crl", help="URL of its CRL.", rich_help_panel=_SOURCE)]
Delta = Annotated[str | None, typer.Option("--delta", help="URL of its delta CRL.", rich_help_panel=_SOURCE)]
Directory = Annotated[
    str | None, typer.Option("--directory", help="Directory with its CRL, instead of a URL.", rich_help_panel=_SOURCE)
]
Entry = Annotated[
    str | None, typer.Option("--entry", help="Distinguished name of the entry there.", rich_help_panel=_SOURCE)
]
Attribute = Annotated[
    str | None, typer.Option("--attribute", help="Attribute with the CRL.", rich_help_panel=_SOURCE)
]
SerialList = Annotated[
    str | None, typer.Option("--serial-list", help="URL of the list of issued numbers.", rich_help_panel=_SOURCE)
]
Gateway = Annotated[
    str | None, typer.Option("--gateway", help="Base URL of the gateway that tells events.", rich_help_panel=_SOURCE)
]
GatewayCa = Annotated[
    str | None, typer.Option("--gateway-ca", help="Id of the CA there; default: NAME.", rich_help_panel=_SOURCE)
]
Credential = Annotated[
    str | None, typer.Option("--credential", help="Client credential; default: the latest.", rich_help_panel=_SOURCE)
]
Outbound = Annotated[
    str | None, typer.Option("--outbound", help="Outbound credential: ORGANIZATION~NAME.", rich_help_panel=_SOURCE)
]
BatchSize = Annotated[int | None, typer.Option("--batch-size", help="Events per request.", rich_help_panel=_SOURCE)]
BySerial = Annotated[
    bool | None,
    typer.Option("--push-by-serial/--push-certificates", help="Keep serial numbers only.", rich_help_panel=_SOURCE),
]
ServerCa = Annotated[
    str | None, typer.Option("--server-ca", help="CA of the server (PEM).", rich_help_panel=_SOURCE)
]
Every = Annotated[
    str | None, typer.Option("--every", help="Wait between looks, such as 10s or 5m.", rich_help_panel=_SOURCE)
]
OnError = Annotated[
    str | None, typer.Option("--on-error", help="Wait after a failure.", rich_help_panel=_SOURCE)
]
Timeout = Annotated[str | None, typer.Option("--timeout", help="Patience with servers.", rich_help_panel=_SOURCE)]
Warning_ = Annotated[
    str | None, typer.Option("--warning-time", help="Warn when the CRL ends sooner.", rich_help_panel=_SOURCE)
]
Profile = Annotated[
    str | None, typer.Option("--profile", "-p", help="Status profile; default by source.", rich_help_panel=_ANSWERS)
]
HttpError = Annotated[
    bool | None,
    typer.Option("--http-error/--no-http-error", help="Tell failures by HTTP status.", rich_help_panel=_ANSWERS),
]
RetryUnknown = Annotated[
    bool | None,
    typer.Option("--retry-unknown/--no-retry-unknown", help="Wait for the unknown.", rich_help_panel=_ANSWERS),
]
Enabled = Annotated[
    bool | None, typer.Option("--enable/--disable", help="Whether it answers.", rich_help_panel=_ANSWERS)
]

_DEFAULT_PROFILES = {"native": "nextUpdate", "gateway": "nextUpdate", "crl": "CRLProfile"}


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
    ca: Ca = None,
    issuer: Issuer = None,
    crl: Crl = None,
    delta: Delta = None,
    directory: Directory = None,
    entry: Entry = None,
    attribute: Attribute = None,
    serial_list: SerialList = None,
    gateway: Gateway = None,
    gateway_ca: GatewayCa = None,
    credential: Credential = None,
    outbound: Outbound = None,
    batch_size: BatchSize = None,
    push_by_serial: BySerial = None,
    server_ca: ServerCa = None,
    every: Every = None,
    on_error: OnError = None,
    timeout: Timeout = None,
    warning_time: Warning_ = None,
    profile: Profile = None,
    http_error: HttpError = None,
    retry_unknown: RetryUnknown = None,
    enabled: Enabled = None,
    file: File = None,
    dry_run: DryRun = False,
) -> None:
    """Create a status authority. It answers tryLater until its source has been read completely once."""
    given = {key: value for key, value in locals().items() if key not in ("cli", "file", "dry_run")}
    body = _from_file(file) if file else _spec(given, {"name": name})
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
    issuer: Issuer = None,
    crl: Crl = None,
    delta: Delta = None,
    directory: Directory = None,
    entry: Entry = None,
    attribute: Attribute = None,
    serial_list: SerialList = None,
    credential: Credential = None,
    outbound: Outbound = None,
    batch_size: BatchSize = None,
    push_by_serial: BySerial = None,
    server_ca: ServerCa = None,
    every: Every = None,
    on_error: OnError = None,
    timeout: Timeout = None,
    warning_time: Warning_ = None,
    profile: Profile = None,
    http_error: HttpError = None,
    retry_unknown: RetryUnknown = None,
    enabled: Enabled = None,
    file: File = None,
    dry_run: DryRun = False,
) -> None:
    """Change what is given; the rest stays. Another source needs `reset-source`."""
    given = {key: value for key, value in locals().items() if key not in ("cli", "file", "dry_run")}
    found = cli.client.get(f"/validation/authorities/{segment(name)}")
    body = _from_file(file) if file else _spec(given, _spec_of(found))
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
    ca: Ca = None,
    issuer: Issuer = None,
    crl: Crl = None,
    delta: Delta = None,
    directory: Directory = None,
    entry: Entry = None,
    attribute: Attribute = None,
    serial_list: SerialList = None,
    gateway: Gateway = None,
    gateway_ca: GatewayCa = None,
    credential: Credential = None,
    outbound: Outbound = None,
    batch_size: BatchSize = None,
    push_by_serial: BySerial = None,
    server_ca: ServerCa = None,
    every: Every = None,
    on_error: OnError = None,
    timeout: Timeout = None,
    warning_time: Warning_ = None,
    profile: Profile = None,
    file: File = None,
    yes: Yes = False,
    dry_run: DryRun = False,
) -> None:
    """Give it another source, and forget what the one before said. Without a source: read the same one anew."""
    given = {key: value for key, value in locals().items() if key not in ("cli", "file", "dry_run", "yes")}
    found = cli.client.get(f"/validation/authorities/{segment(name)}")
    base = _spec_of(found)
    if ca or crl or directory or gateway:
        base = {key: base[key] for key in ("name", "enabled", "issuers", "responder")}
    body = _from_file(file) if file else _spec(given, base)
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
    options = {key: value for key, value in (found[source] or {}).items() if key not in ("server_ca", "crls")}
    shown = {key: found[key] for key in ("name", "enabled", "source", "ca", "profile", "version")}
    crls = [each["url"] or f"{each['directory']}: {each['entry']}" for each in (found["crl"] or {}).get("crls", ())]
    cli.out.members({**shown, **({"crls": crls} if crls else {}), **options, **(found["state"] or {})})


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


def _spec(given: dict[str, Any], base: dict[str, Any]) -> dict[str, Any]:
    """``base`` with what was given on the command line."""
    body = dict(base)
    value = given.get
    kinds = {"native": value("ca"), "crl": value("crl") or value("directory"), "gateway": value("gateway")}
    asked = [kind for kind, said in kinds.items() if said]
    if len(asked) > 1:
        raise InvalidInput("--ca, --crl or --directory, and --gateway exclude each other.", code="option-conflict")
    if asked:
        body["source"] = asked[0]
    if "source" not in body:
        raise InvalidInput("Say where status comes from: --ca, --crl, --directory or --gateway.", code="option-needed")
    if value("ca"):
        body["ca"] = value("ca")
    if value("issuer"):
        body["issuers"] = "".join(read_text(path) for path in given["issuer"])
    if body["source"] == "crl":
        body["crl"] = _crl(given, dict(body.get("crl") or {}))
    elif body["source"] == "gateway":
        body["gateway"] = _gateway(given, dict(body.get("gateway") or {}), body["name"])
    if value("enabled") is not None:
        body["enabled"] = value("enabled")
    chosen = {key: value(key) for key in ("http_error", "retry_unknown") if value(key) is not None}
    body["responder"] = {**body.get("responder", {}), **chosen}
    body["profile"] = value("profile") or body.get("profile") or _default_profile(body)
    return body


def _default_profile(body: dict[str, Any]) -> str:
    listed_too = body["source"] == "crl" and body["crl"].get("serial_list")
    return "SNListProfile" if listed_too else _DEFAULT_PROFILES[body["source"]]


def _crl(given: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    place = {
        "url": given.get("crl"),
        "delta_url": given.get("delta"),
        "directory": given.get("directory"),
        "entry": given.get("entry"),
        "attribute": given.get("attribute"),
    }
    said = {key: text for key, text in place.items() if text is not None}
    if said:
        parts = options.get("crls") or [{}]
        if len(parts) > 1:
            raise InvalidInput("It has several CRLs; change them with --file.", code="option-conflict")
        # A new place replaces the one before.
        moved = "url" in said or "directory" in said
        options["crls"] = [{**({} if moved else parts[0]), **said}]
    return {**options, **_common(given, ("serial_list", "warning_time"))}


def _gateway(given: dict[str, Any], options: dict[str, Any], name: str) -> dict[str, Any]:
    if given.get("gateway"):
        options["url"] = given["gateway"]
    options["ca"] = given.get("gateway_ca") or options.get("ca") or name
    return {**options, **_common(given, ("credential", "outbound", "batch_size", "push_by_serial"))}


def _common(given: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    said = {key: given[key] for key in names if given.get(key) is not None}
    waits = {"wait_to_pull": "every", "wait_on_error": "on_error", "timeout": "timeout"}
    said |= {key: given[option] for key, option in waits.items() if given.get(option) is not None}
    return said | ({"server_ca": read_text(given["server_ca"])} if given.get("server_ca") else {})


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
