"""`intaglio ca`: certificate authorities."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from intaglio.cli import ca_create, ca_lifecycle
from intaglio.cli.client import segment
from intaglio.cli.commands import Cli, command, noun
from intaglio.cli.files import write_public
from intaglio.cli.listing import All, Filter, Limit, Sort, listed

app = noun("Certificate authorities. A CA is named ORGANIZATION~ID.")
app.add_typer(ca_create.app, name="create")
ca_lifecycle.register(app)

Ca = Annotated[str, typer.Argument(metavar="CA", help="ORGANIZATION~ID")]
Out = Annotated[str, typer.Option("--out", "-o", help="File to write; - is standard output.")]


@command(app, "list", example="intaglio ca list --filter organization=demo")
def list_(
    cli: Cli,
    filter: Filter = None,
    sort: Sort = None,
    limit: Limit = 100,
    all: All = False,
    internal: Annotated[bool, typer.Option("--internal", help="Also the CAs of clients and of the platform.")] = False,
    deleted: Annotated[bool, typer.Option("--deleted", help="Also deleted ones.")] = False,
) -> None:
    """List the CAs of the organizations one belongs to."""
    rows = listed(cli, "/cas", filter, sort, limit, all, internal=internal, deleted=deleted)
    columns = {
        "id": "ID", "type": "TYPE", "state": "STATE", "key_algorithm": "KEY", "subject": "SUBJECT", "issuer": "ISSUER",
        "not_after": "EXPIRES",
    }  # fmt: skip
    cli.out.table(rows, columns, empty="No CAs. Create one with: intaglio ca create root")


@command(app, "show", example="intaglio ca show demo~root")
def show(cli: Cli, ca: Ca) -> None:
    """Show a CA: state, key, certificate, profiles, who may use it, options."""
    cli.out.result(cli.client.get(f"/cas/{segment(ca)}"))


@command(app, "certificate", example="intaglio ca certificate demo~root --out root.pem")
def certificate(cli: Cli, ca: Ca, out: Out = "-") -> None:
    """Write the certificate of a CA (PEM)."""
    first = cli.client.get(f"/cas/{segment(ca)}/chain").split("-----END CERTIFICATE-----")[0]
    _written(cli, first + "-----END CERTIFICATE-----\n", out)


@command(app, "chain", example="intaglio ca chain demo~issuing --out chain.pem")
def chain(
    cli: Cli,
    ca: Ca,
    out: Out = "-",
    generation: Annotated[int | None, typer.Option(help="An earlier key of the CA.")] = None,
) -> None:
    """Write the certificate of a CA and those of its issuers up to the root (PEM)."""
    _written(cli, cli.client.get(f"/cas/{segment(ca)}/chain", generation=generation), out)


@command(app, "crl", example="intaglio ca crl demo~root --out root.crl")
def crl(cli: Cli, ca: Ca, out: Out = "-") -> None:
    """Write the newest CRL of a CA (PEM); `intaglio crl` has more."""
    _written(cli, cli.client.get(f"/cas/{segment(ca)}/crl"), out)


@command(app, "csr", example="intaglio ca csr demo~issuing --out issuing.csr")
def csr(
    cli: Cli,
    ca: Ca,
    out: Out = "-",
    renew: Annotated[bool, typer.Option("--renew", help="Make the request anew.")] = False,
) -> None:
    """Write the certificate request of a CA that waits for its certificate (PKCS #10, PEM)."""
    path = f"/cas/{segment(ca)}/csr"
    _written(cli, cli.client.post(path) if renew else cli.client.get(path), out)


def _written(cli: Cli, text: Any, out: str) -> None:
    if cli.out.as_json and out == "-":
        cli.out.result({"pem": text})
        return
    write_public(out, text)
    if out != "-":
        cli.out.result({"file": out}, f"Wrote {out}.")
