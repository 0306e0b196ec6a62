"""`intaglio mtls revoke`: end certificates of identities."""

from __future__ import annotations

from typing import Annotated

import typer

from intaglio.cli.commands import Cli, command, noun
from intaglio.core.errors import InvalidInput

app = noun("Revoke certificates of identities.")


@command(
    app,
    "revoke",
    example=(
        "intaglio mtls revoke --serial 4F2A91 --reason keyCompromise",
        "intaglio mtls revoke --identity service:payments --yes",
        "intaglio mtls revoke --serial 4F2A91 --descendants --reason keyCompromise",
    ),
)
def revoke(
    cli: Cli,
    serial: Annotated[str | None, typer.Option(help="Serial number of one certificate.")] = None,
    identity: Annotated[str | None, typer.Option(help="All live certificates of this identity.")] = None,
    ca: Annotated[str | None, typer.Option(help="ORGANIZATION~ID, where two CAs have given the serial number.")] = None,
    descendants: Annotated[
        bool, typer.Option("--descendants", help="What was renewed with the certificate, also if it has expired.")
    ] = False,
    reason: Annotated[str, typer.Option(help="unspecified, keyCompromise, superseded ...")] = "unspecified",
    comment: Annotated[str, typer.Option(help="Why, for the audit trail.")] = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Revoke one certificate, or all of an identity; whoever holds one of them is refused from then on."""
    if (serial is None) == (identity is None):
        raise InvalidInput("Name either --serial or --identity.", code="revocation-target")
    if descendants and serial is None:
        raise InvalidInput("Name the certificate that was renewed: --serial.", code="revocation-target")
    what = f"certificate {serial}" if serial else f"all certificates of {identity}"
    what += " and what was renewed with it" if descendants else ""
    cli.confirm(f"Revoke {what}?", yes=yes)
    asked = {"serial": serial, "identity": identity, "ca": ca, "reason": reason, "comment": comment}
    body = {**asked, "descendants": descendants}
    revoked = cli.client.post("/mtls/v1/revocations", body)["revoked"]
    cli.out.result(revoked, f"Revoked {len(revoked)} certificate(s).")
