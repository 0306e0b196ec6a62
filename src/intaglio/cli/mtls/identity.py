"""`intaglio mtls identity`: the registry of identities."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from intaglio.cli.client import segment
from intaglio.cli.commands import Cli, command, noun
from intaglio.cli.files import read_pem_or_der, read_text, write_public
from intaglio.cli.listing import All, Filter, Limit, Sort, listed
from intaglio.cli.mtls.domain import pairs

app = noun("Identities: the people, devices, workloads, services and pipelines of a trust domain.")

Reference = Annotated[
    str, typer.Argument(metavar="IDENTITY", help="Id, NAME, KIND:NAME or KIND:NAME@DOMAIN.")
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Display = Annotated[str | None, typer.Option(help="Name for people.")]
Email = Annotated[str | None, typer.Option(help="E-mail address; goes into certificates.")]
Team = Annotated[str | None, typer.Option(help="Team that answers for it.")]
Service = Annotated[str | None, typer.Option(help="Service it is, or is part of.")]
Roles = Annotated[list[str] | None, typer.Option("--role", help="What it may act as; repeat for more.")]
Version = Annotated[str | None, typer.Option(help="Version that is running.")]
Owner = Annotated[str | None, typer.Option(help="User who answers for it and may use it.")]
DnsNames = Annotated[list[str] | None, typer.Option("--dns", help="DNS name of a server; repeat for more.")]
Properties = Annotated[
    list[str] | None, typer.Option("--property", help="NAME=VALUE that is kept and not certified; repeat for more.")
]
Comment = Annotated[str, typer.Option(help="Why, for the audit trail.")]
_CHUNK = 500


@command(
    app,
    "add",
    example=(
        "intaglio mtls identity add service payments --domain prod.example --team finance --role reader",
        "intaglio mtls identity add user --domain prod.example --email alice@example.com --display-name Alice",
    ),
)
def add(
    cli: Cli,
    kind: Annotated[str, typer.Argument(help="user, device, workload, service or pipeline.")],
    domain: Annotated[str, typer.Option(help="Trust domain.")],
    name: Annotated[str, typer.Argument(help="Its name; that of a user is made by the server.")] = "",
    display_name: Display = None,
    email: Email = None,
    team: Team = None,
    service: Service = None,
    role: Roles = None,
    version: Version = None,
    owner: Owner = None,
    dns: DnsNames = None,
    property: Properties = None,
) -> None:
    """Register an identity. What is said here, and nothing else, goes into its certificates."""
    body = {"domain": domain, "kind": kind, "name": name}
    body |= _attributes(display_name, email, team, service, role, version, owner, dns, property)
    found = cli.client.post("/mtls/v1/identities", body)
    cli.out.result(found, f"Registered {found['kind']} {found['name']}: {found['uri']}")


@command(app, "list", example="intaglio mtls identity list --filter kind=service --filter team=finance")
def list_(cli: Cli, filter: Filter = None, sort: Sort = None, limit: Limit = 100, all: All = False) -> None:
    """List identities, newest first."""
    columns = {
        "kind": "KIND", "name": "NAME", "display_name": "FOR PEOPLE", "domain": "DOMAIN", "team": "TEAM",
        "state": "STATE", "owner": "OWNER",
    }  # fmt: skip
    empty = "No identities. Register one with: intaglio mtls identity add KIND NAME --domain DOMAIN"
    cli.out.table(listed(cli, "/mtls/v1/identities", filter, sort, limit, all), columns, empty=empty)


@command(app, "show", example="intaglio mtls identity show service:payments@prod.example")
def show(cli: Cli, identity: Reference) -> None:
    """Show an identity."""
    cli.out.result(cli.client.get(_path(identity)))


@command(app, "edit", example="intaglio mtls identity edit service:payments --version 1.5.0")
def edit(
    cli: Cli,
    identity: Reference,
    display_name: Display = None,
    email: Email = None,
    team: Team = None,
    service: Service = None,
    role: Roles = None,
    version: Version = None,
    owner: Owner = None,
    dns: DnsNames = None,
    property: Properties = None,
) -> None:
    """Change what is registered. Certificates say so from the next one on; revoke those that must not wait."""
    body = _attributes(display_name, email, team, service, role, version, owner, dns, property)
    cli.out.result(cli.client.patch(_path(identity), body), f"Changed {identity}.")


@command(app, "import", example="intaglio mtls identity import services.csv --domain prod.example --kind service")
def import_(
    cli: Cli,
    file: Annotated[str, typer.Argument(help="CSV with a header line, or a JSON list; - is standard input.")],
    domain: Annotated[str, typer.Option(help="Trust domain of those that name none.")] = "",
    kind: Annotated[str, typer.Option(help="Kind of those that name none.")] = "",
    skip_existing: Annotated[bool, typer.Option("--skip-existing", help="Leave alone what is there already.")] = False,
) -> None:
    """Register many identities: columns are domain, kind, name, display_name, email, team, service, roles, version,
    owner and dns_names; several roles or names are separated by spaces."""
    from intaglio.mtls.identities.importing import read_identities

    wanted = read_identities(read_text(file), domain=domain, kind=kind)
    added = skipped = 0
    for start in range(0, len(wanted), _CHUNK):
        body = {"identities": wanted[start : start + _CHUNK], "skip_existing": skip_existing}
        with cli.out.waiting(f"Registering {start} of {len(wanted)} ..."):
            answer = cli.client.post("/mtls/v1/identities/import", body)
        added, skipped = added + answer["added"], skipped + answer["skipped"]
    cli.out.result({"added": added, "skipped": skipped}, f"Registered {added} identities, {skipped} were there.")


@command(app, "issue", example="intaglio mtls identity issue service:payments --csr payments.csr --out payments.pem")
def issue(
    cli: Cli,
    identity: Reference,
    csr: Annotated[str, typer.Option(help="Certificate request (PEM or DER); only its key counts.")],
    out: Annotated[str, typer.Option("--out", "-o", help="File for it and its chain; - is standard output.")] = "-",
    lifetime: Annotated[str | None, typer.Option(help="Such as PT12H; what the trust domain gives otherwise.")] = None,
    dns: DnsNames = None,
) -> None:
    """Issue a certificate by hand. Reports point at such certificates, since nobody renews them by himself."""
    body = {"csr": read_pem_or_der(csr), "lifetime": lifetime, "dns_names": dns or []}
    found = cli.client.post(f"{_path(identity)}/certificates", body)
    if cli.out.as_json:
        cli.out.result(found)
        return
    write_public(out, found["certificate"] + "".join(found["chain"]))
    cli.out.note(f"Issued {found['serial']} for {found['identity']}, valid until {found['not_after']}.")


@command(app, "suspend", example="intaglio mtls identity suspend device:laptop-7 --comment 'Lost'")
def suspend(cli: Cli, identity: Reference, comment: Comment = "", yes: Yes = False) -> None:
    """Revoke its certificates and give it none until it is resumed."""
    cli.confirm(f"Suspend {identity} and revoke its certificates?", yes=yes)
    found = cli.client.post(f"{_path(identity)}/suspend", {"comment": comment})
    cli.out.result(found, f"Suspended {found['uri']}.")


@command(app, "resume", example="intaglio mtls identity resume device:laptop-7")
def resume(cli: Cli, identity: Reference) -> None:
    """Let a suspended identity get certificates again."""
    found = cli.client.post(f"{_path(identity)}/resume")
    cli.out.result(found, f"Resumed {found['uri']}.")


@command(app, "retire", example="intaglio mtls identity retire service:payments --yes")
def retire(cli: Cli, identity: Reference, comment: Comment = "", yes: Yes = False) -> None:
    """Revoke its certificates and end it for good; its name is not given out again."""
    cli.confirm(f"Retire {identity} for good and revoke its certificates?", yes=yes)
    found = cli.client.post(f"{_path(identity)}/retire", {"comment": comment})
    cli.out.result(found, f"Retired {found['uri']}.")


def _path(identity: str) -> str:
    return f"/mtls/v1/identities/{segment(identity)}"


def _attributes(
    display_name: str | None,
    email: str | None,
    team: str | None,
    service: str | None,
    roles: list[str] | None,
    version: str | None,
    owner: str | None,
    dns_names: list[str] | None,
    properties: list[str] | None,
) -> dict[str, Any]:
    found: dict[str, Any] = {
        "display_name": display_name, "email": email, "team": team, "service": service, "roles": roles or None,
        "version": version, "owner": owner, "dns_names": dns_names or None, "properties": pairs(properties),
    }  # fmt: skip
    return {name: value for name, value in found.items() if value is not None}


@command(
    app,
    "cert-manager",
    example="intaglio mtls identity cert-manager service:payments --issuer vault --namespace shop",
)
def cert_manager(
    cli: Cli,
    identity: Reference,
    issuer: Annotated[str, typer.Option(help="vault, acme or ca.")] = "vault",
    namespace: Annotated[str, typer.Option(help="Kubernetes namespace.")] = "default",
    issuer_name: Annotated[str, typer.Option(help="Name of the issuer.")] = "internal-ca",
    secret_name: Annotated[str, typer.Option(help="Name of the Kubernetes Secret; NAME-tls without it.")] = "",
    lifetime: Annotated[str | None, typer.Option(help="Such as PT24H; what the trust domain gives otherwise.")] = None,
    url: Annotated[str | None, typer.Option(help="URL of the enrolment listener, as the cluster reaches it.")] = None,
    cluster: Annotated[bool, typer.Option("--cluster", help="Make a ClusterIssuer.")] = False,
    out: Annotated[str, typer.Option("--out", "-o", help="File to write; - is standard output.")] = "-",
) -> None:
    """Write the Kubernetes resources with which cert-manager gets the certificates of a service."""
    body = {
        "issuer": issuer, "namespace": namespace, "issuer_name": issuer_name, "secret": secret_name,
        "lifetime": lifetime, "server": url, "cluster": cluster,
    }  # fmt: skip
    found = cli.client.post(f"{_path(identity)}/cert-manager", body)
    if cli.out.as_json:
        cli.out.result({"yaml": found})
        return
    write_public(out, found)
