"""`intaglio mtls ca`: the CAs of trust domains."""

from __future__ import annotations

from typing import Annotated

import typer

from intaglio.cli.commands import Cli, command, noun
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
