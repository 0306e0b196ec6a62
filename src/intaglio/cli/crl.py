"""`intaglio crl`: certificate revocation lists."""

from __future__ import annotations

from typing import Annotated

import typer

from intaglio.cli.client import segment
from intaglio.cli.commands import Cli, command, noun
from intaglio.cli.files import write_public

app = noun("Certificate revocation lists.")

Ca = Annotated[str, typer.Argument(metavar="CA", help="ORGANIZATION~ID")]
Generation = Annotated[int | None, typer.Option(help="An earlier key of the CA.")]
Partition = Annotated[int, typer.Option(help="Partition; 0 is the whole CA.")]

_COLUMNS = {
    "number": "NUMBER", "generation": "KEY", "partition": "PARTITION", "delta": "DELTA", "entries": "ENTRIES",
    "this_update": "ISSUED", "next_update": "NEXT BY", "url": "URL",
}  # fmt: skip


@command(app, "issue", example="intaglio crl issue demo~issuing")
def issue(cli: Cli, ca: Ca, generation: Generation = None, partition: Partition = 0) -> None:
    """Issue a CRL now; with delta CRLs also the delta."""
    with cli.out.waiting(f"Signing a CRL of {ca}"):
        issued = cli.client.post(f"/cas/{segment(ca)}/crls", {"generation": generation, "partition": partition})
    cli.out.table(issued["items"], _COLUMNS)


@command(app, "list", example="intaglio crl list demo~issuing")
def list_(cli: Cli, ca: Ca) -> None:
    """List the newest CRLs of a CA: per key, partition and kind."""
    cli.out.table(cli.client.get(f"/cas/{segment(ca)}/crls")["items"], _COLUMNS, empty="No CRLs yet.")


@command(app, "show", example="intaglio crl show demo~issuing --out issuing.crl")
def show(
    cli: Cli,
    ca: Ca,
    out: Annotated[str, typer.Option("--out", "-o", help="File to write (PEM); - is standard output.")] = "-",
    generation: Generation = None,
    partition: Partition = 0,
    delta: Annotated[bool, typer.Option("--delta", help="The newest delta CRL.")] = False,
) -> None:
    """Write the newest CRL (PEM)."""
    kind = "delta" if delta else "complete"
    text = cli.client.get(f"/cas/{segment(ca)}/crl", generation=generation, partition=partition, kind=kind)
    if out == "-" and cli.out.as_json:
        cli.out.result({"pem": text})
        return
    write_public(out, text)
    if out != "-":
        cli.out.result({"file": out}, f"Wrote {out}.")
