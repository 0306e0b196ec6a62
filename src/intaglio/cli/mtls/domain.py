"""`intaglio mtls domain`: trust domains."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from intaglio.cli.client import segment
from intaglio.cli.commands import Cli, command, noun
from intaglio.cli.listing import All, Filter, Limit, Sort, listed
from intaglio.core.errors import InvalidInput

app = noun("Trust domains: who trusts whom in one environment, and the CAs that count there.")

Name = Annotated[str, typer.Argument(help="Name of the trust domain, such as prod.example.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Title = Annotated[str | None, typer.Option(help="Name for people.")]
Lifetimes = Annotated[
    list[str] | None,
    typer.Option("--lifetime", help="KIND=DURATION that certificates get, such as service=PT24H; repeat for more."),
]
Ceilings = Annotated[
    list[str] | None,
    typer.Option("--ceiling", help="KIND=DURATION that certificates get at most, such as user=P30D; repeat for more."),
]
Required = Annotated[
    list[str] | None,
    typer.Option("--require", help="Attribute of services and workloads: team, service, roles, version; repeat."),
]
Suffixes = Annotated[
    list[str] | None, typer.Option("--dns-suffix", help="DNS names of identities end so; repeat for more.")
]
EmailDomains = Annotated[
    list[str] | None,
    typer.Option("--email-domain", help="Host of e-mail addresses; .example: all below it; repeat for more."),
]
Choice = Annotated[
    str | None, typer.Option("--pki", help="Recorded choice: own, aws-private-ca, vault, acme, enterprise.")
]


@command(app, "create", example="intaglio mtls domain create prod.example --environment prod --org demo --new-ca")
def create(
    cli: Cli,
    name: Name,
    environment: Annotated[str, typer.Option(help="dev, staging, prod or a name of your own.")],
    org: Annotated[str, typer.Option(help="Organization it belongs to.")],
    new_ca: Annotated[bool, typer.Option("--new-ca", help="Make a root and an issuing CA for it alone.")] = False,
    ca: Annotated[str | None, typer.Option(help="Issue with this CA: ORGANIZATION~ID.")] = None,
    key: Annotated[str | None, typer.Option(help="Key type of the new CAs.")] = None,
    anchor: Annotated[str, typer.Option(help="What is trusted: root, or issuing if the root is shared.")] = "root",
    title: Title = None,
    lifetime: Lifetimes = None,
    ceiling: Ceilings = None,
    require: Required = None,
    dns_suffix: Suffixes = None,
    email_domain: EmailDomains = None,
    pki: Choice = None,
) -> None:
    """Make a trust domain. Without --new-ca or --ca it is a draft until `intaglio mtls ca create`."""
    body = {
        "name": name, "environment": environment, "organization": org, "issuing_ca": ca, "anchor": anchor,
        "title": title, "lifetimes": pairs(lifetime), "ceilings": pairs(ceiling), "required_attributes": require,
        "dns_suffixes": dns_suffix, "email_domains": email_domain, "pki_choice": pki, "new_ca": _new_ca(new_ca, key),
    }  # fmt: skip
    with cli.out.waiting("Making the trust domain ..."):
        found = cli.client.post("/mtls/v1/domains", body)
    with_ca = f" It issues with {found['issuing_ca']}." if found["issuing_ca"] else " It has no CA yet."
    cli.out.result(found, f"Created trust domain {found['name']} ({found['environment']}).{with_ca}")


@command(app, "list", example="intaglio mtls domain list")
def list_(cli: Cli, filter: Filter = None, sort: Sort = None, limit: Limit = 100, all: All = False) -> None:
    """List trust domains."""
    columns = {"name": "NAME", "environment": "ENVIRONMENT", "state": "STATE", "issuing_ca": "CA", "title": "TITLE"}
    empty = "No trust domains. Make one with: intaglio mtls domain create NAME --environment prod --org ORG --new-ca"
    cli.out.table(listed(cli, "/mtls/v1/domains", filter, sort, limit, all), columns, empty=empty)


@command(app, "show", example="intaglio mtls domain show prod.example")
def show(cli: Cli, name: Name) -> None:
    """Show a trust domain."""
    cli.out.result(cli.client.get(f"/mtls/v1/domains/{segment(name)}"))


@command(app, "edit", example="intaglio mtls domain edit prod.example --ceiling user=P30D --lifetime user=P14D")
def edit(
    cli: Cli,
    name: Name,
    title: Title = None,
    lifetime: Lifetimes = None,
    ceiling: Ceilings = None,
    require: Required = None,
    dns_suffix: Suffixes = None,
    email_domain: EmailDomains = None,
    pki: Choice = None,
) -> None:
    """Change a trust domain. What was issued stays as it is."""
    body = {
        "title": title, "lifetimes": pairs(lifetime), "ceilings": pairs(ceiling), "required_attributes": require,
        "dns_suffixes": dns_suffix, "email_domains": email_domain, "pki_choice": pki,
    }  # fmt: skip
    cli.out.result(cli.client.patch(f"/mtls/v1/domains/{segment(name)}", body), f"Changed trust domain {name}.")


@command(app, "finish-rotation", example="intaglio mtls domain finish-rotation prod.example")
def finish_rotation(
    cli: Cli,
    name: Name,
    force: Annotated[bool, typer.Option("--force", help="Although certificates of the old CA are live.")] = False,
    yes: Yes = False,
) -> None:
    """Stop trusting the CAs that do not issue any more."""
    cli.confirm(f"Stop trusting the earlier CAs of {name}?", yes=yes)
    found = cli.client.post(f"/mtls/v1/domains/{segment(name)}/finish-rotation", {"force": force})
    cli.out.result(found, f"{name} trusts {', '.join(found['cas'])} only.")


@command(app, "retire", example="intaglio mtls domain retire test.example --yes")
def retire(cli: Cli, name: Name, yes: Yes = False) -> None:
    """End a trust domain whose identities are all retired."""
    cli.confirm(f"Retire the trust domain {name}?", yes=yes)
    cli.out.result(cli.client.post(f"/mtls/v1/domains/{segment(name)}/retire"), f"Retired trust domain {name}.")


def pairs(given: list[str] | None) -> dict[str, str] | None:
    """``NAME=VALUE`` options as a mapping; None when there are none. Raises InvalidInput."""
    if not given:
        return None
    found: dict[str, str] = {}
    for each in given:
        name, equals, value = each.partition("=")
        if not (name and equals):
            raise InvalidInput(f'"{each}" is not of the form NAME=VALUE.', code="option-invalid")
        found[name] = value
    return found


def _new_ca(wanted: bool, key: str | None) -> dict[str, Any] | None:
    if not wanted:
        return None
    return {"key_algorithm": key} if key else {}
