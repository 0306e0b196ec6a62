"""`intaglio credential`: client certificates of the CA gateway."""

from __future__ import annotations

from typing import Annotated

import typer

from intaglio.cli.ca_create import end_of
from intaglio.cli.client import segment
from intaglio.cli.commands import Cli, command, noun
from intaglio.cli.credential_files import CredentialsDir, Force, Passwords, save_credentials
from intaglio.cli.files import read_pem_or_der, write_public
from intaglio.cli.listing import All, Filter, Limit, Sort, listed

app = noun("Client certificates of the CA gateway.")

Organization = Annotated[str, typer.Option("--org", help="Organization of the client.")]
Name = Annotated[str, typer.Argument(help="Name of the client.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


@command(app, "list", example="intaglio credential list --org demo")
def list_(
    cli: Cli,
    org: Organization,
    filter: Filter = None,
    sort: Sort = None,
    limit: Limit = 100,
    all: All = False,
) -> None:
    """List the clients of an organization with their newest credential and their rights."""
    rows = listed(cli, f"/organizations/{segment(org)}/credentials", filter, sort, limit, all)
    columns = {
        "name": "NAME", "state": "STATE", "serial_number": "SERIAL", "not_after": "EXPIRES",
        "expires_soon": "EXPIRES SOON", "rights": "RIGHTS",
    }  # fmt: skip
    cli.out.table(rows, columns, empty="No clients.")


@command(
    app,
    "reissue",
    example=("intaglio credential reissue alice --org demo", "intaglio credential reissue ci --org demo --csr ci.csr"),
)
@command(app, "issue", example="intaglio credential issue alice --org demo --csr alice.csr --credentials-dir .")
def reissue(
    cli: Cli,
    name: Name,
    org: Organization,
    csr: Annotated[str | None, typer.Option(help="Certificate request: the client keeps its own key.")] = None,
    key: Annotated[str, typer.Option("--key", help="Type of the key made for it.")] = "P-256",
    not_after: Annotated[str | None, typer.Option(metavar="DATE", help="End of validity; default: a year.")] = None,
    encoding: Annotated[str, typer.Option(help="Of the PKCS #12: modern, or legacy for old clients.")] = "modern",
    credentials_dir: CredentialsDir = ".",
    save_passwords: Passwords = False,
    force: Force = False,
) -> None:
    """Make a new credential for a known client; the one it had is revoked at once.

    New clients are made by naming them as administrator or auditor of a CA.
    """
    body = {
        "compatibility": encoding,
        "key_algorithm": key,
        "not_after": end_of(not_after),
        "csr": read_pem_or_der(csr) if csr else None,
    }
    made = cli.client.post(f"/organizations/{segment(org)}/credentials/{segment(name)}/reissue", body)
    answer = {"credentials": [made]}
    text = f"New credential of {name}, serial number {made['serial_number']}."
    save_credentials(cli, answer, text, credentials_dir, save_passwords=save_passwords, force=force)


@command(app, "revoke", example="intaglio credential revoke alice --org demo --reason keyCompromise --yes")
def revoke(
    cli: Cli,
    name: Name,
    org: Organization,
    reason: Annotated[str, typer.Option(help="Revocation reason by its RFC 5280 name.")] = "unspecified",
    yes: Yes = False,
) -> None:
    """Revoke the credential of a client; it is refused at once. Its rights stay for a later credential."""
    cli.confirm(f"Revoke the credential of {name}?", yes=yes)
    cli.client.delete(f"/organizations/{segment(org)}/credentials/{segment(name)}", reason=reason)
    cli.out.result({"revoked": name}, f"Revoked the credential of {name}.")


@command(app, "ca-certificate", example="intaglio credential ca-certificate --org demo --out clients-ca.pem")
def ca_certificate(
    cli: Cli,
    org: Organization,
    out: Annotated[str, typer.Option("--out", "-o", help="File to write (PEM); - is standard output.")] = "-",
) -> None:
    """Write the certificate of the CA that issues the organization's client credentials (PEM)."""
    cas = cli.client.get("/cas", organization=org, internal=True, filter=["type=ca-client"])["items"]
    text = cli.client.get(f"/cas/{segment(cas[0]['id'])}/chain")
    write_public(out, text)
    if out != "-":
        cli.out.result({"file": out}, f"Wrote {out}.")
