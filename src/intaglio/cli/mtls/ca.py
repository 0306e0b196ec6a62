"""`intaglio mtls ca`: the CAs of trust domains."""

from __future__ import annotations

from typing import Annotated

import typer

from intaglio.cli.client import segment
from intaglio.cli.commands import Cli, command, noun
from intaglio.cli.files import read_pem_or_der, write_public
from intaglio.core.errors import InvalidInput

app = noun("CAs of trust domains.")

Domain = Annotated[str, typer.Argument(help="Name of the trust domain.")]


@command(
    app,
    "create",
    example=("intaglio mtls ca create prod.example", "intaglio mtls ca create prod.example --key RSA-2048 --id prod-2"),
)
def create(
    cli: Cli,
    domain: Domain,
    key: Annotated[str, typer.Option(help="Key type: P-256, P-384, RSA-2048, RSA-4096 ...")] = "P-256",
    id: Annotated[str, typer.Option(help="Id of the issuing CA; its root gets the same with -root.")] = "",
) -> None:
    """Make a root and an issuing CA for a trust domain and issue with them from now on.

    A trust domain that had a CA is rotating then: both count until `intaglio mtls domain finish-rotation`.
    """
    with cli.out.waiting("Making the CAs ..."):
        found = cli.client.post("/mtls/v1/cas", {"domain": domain, "new_ca": {"key_algorithm": key, "ca_id": id}})
    cli.out.result(found, f"{domain} issues with {found['issuing_ca']} and is {found['state']}.")


@command(app, "use", example="intaglio mtls ca use prod.example demo~issuing")
def use(cli: Cli, domain: Domain, ca: Annotated[str, typer.Argument(help="ORGANIZATION~ID.")]) -> None:
    """Issue with a CA that exists from now on; the one before counts until the rotation is finished."""
    if "~" not in ca:
        raise InvalidInput(f'"{ca}" is not of the form ORGANIZATION~ID.', code="option-invalid", target="CA")
    found = cli.client.post("/mtls/v1/cas", {"domain": domain, "issuing_ca": ca})
    cli.out.result(found, f"{domain} issues with {found['issuing_ca']} and is {found['state']}.")


@command(
    app,
    "subordinate",
    example="intaglio mtls ca subordinate prod.example --csr cluster-ca.csr --purpose 'cert-manager of cluster 7' "
    "--out cluster-ca.pem",
)
def subordinate(
    cli: Cli,
    domain: Domain,
    csr: Annotated[str, typer.Option(help="Certificate request of the CA (PEM or DER).")],
    purpose: Annotated[str, typer.Option(help="What it is for; goes into its subject and the audit trail.")],
    out: Annotated[str, typer.Option("--out", "-o", help="File for it and its chain; - is standard output.")] = "-",
    lifetime: Annotated[str, typer.Option(help="ISO 8601 duration, at most P366D.")] = "P90D",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Certify a CA below a trust domain whose key is elsewhere, such as for cert-manager's CA issuer."""
    cli.confirm("What this CA issues is recorded nowhere here and counts in the trust domain. Certify it?", yes=yes)
    body = {"csr": read_pem_or_der(csr), "purpose": purpose, "lifetime": lifetime}
    found = cli.client.post(f"/mtls/v1/domains/{segment(domain)}/subordinates", body)
    if cli.out.as_json:
        cli.out.result(found)
        return
    write_public(out, found["certificate"] + "".join(found["chain"]))
    cli.out.warning(found["warning"])
