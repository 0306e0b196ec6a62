"""`intaglio scep apple-profile`: configuration profiles for Apple devices."""

from __future__ import annotations

from typing import Annotated

import typer

from intaglio.cli.client import segment
from intaglio.cli.commands import Cli, command, noun
from intaglio.cli.credential_files import Force

app = noun("Configuration profiles for Apple devices.")


@command(
    app,
    "apple-profile",
    example=(
        "intaglio scep apple-profile phones --subject CN=phone-7 --challenge-file challenge.txt -o 7.mobileconfig",
        "intaglio scep apple-profile phones --subject 'CN=%SerialNumber%' -o phones.mobileconfig",
    ),
)
def apple_profile(
    cli: Cli,
    endpoint: Annotated[str, typer.Argument(metavar="ENDPOINT", help="Name of a SCEP endpoint.")],
    out: Annotated[str, typer.Option("--out", "-o", help="File to write; - is standard output.")],
    subject: Annotated[str, typer.Option(help="Subject to ask for (RFC 4514); may have variables of your MDM.")],
    dns: Annotated[list[str] | None, typer.Option(help="DNS name to ask for; repeat for more.")] = None,
    email: Annotated[list[str] | None, typer.Option(help="Mail address to ask for; repeat for more.")] = None,
    upn: Annotated[str | None, typer.Option(help="User principal name (Active Directory) to ask for.")] = None,
    challenge_file: Annotated[
        str | None, typer.Option(help="File with the challenge password; without it the device asks for it.")
    ] = None,
    key_bits: Annotated[int, typer.Option(help="Length of the RSA key.", min=2048, max=4096)] = 2048,
    force: Force = False,
) -> None:
    """Write a configuration profile by which an iPhone, iPad or Mac trusts the CA and gets a certificate of it."""
    from intaglio.cli.files import read_secret, write_private
    from intaglio.core.errors import NotFound
    from intaglio.enrollment.scep.apple import AppleNameType, configuration_profile
    from intaglio.x509.certificates import read_certificates
    from intaglio.x509.names import Name

    name = endpoint.removeprefix("scep/")
    found = cli.client.get("/enrollment/urls", filter=[f"address=scep/{name}"])["items"]
    if not found:
        raise NotFound(
            f'There is no SCEP endpoint "{name}" that is switched on.',
            code="endpoint-unknown",
            remedy="Look at: intaglio enroll endpoint list --filter protocol=scep.",
        )
    profile = cli.client.get(f"/profiles/{segment(found[0]['profile'])}")
    usages = next((each["value"] for each in profile["extensions"] if each["name"] == "keyUsage"), "")
    asked: dict[AppleNameType, list[str]] = {
        "dNSName": dns or [],
        "rfc822Name": email or [],
        "ntPrincipalName": [] if upn is None else [upn],
    }
    made = configuration_profile(
        found[0]["urls"][0],
        read_certificates(cli.client.get(f"/cas/{segment(found[0]['ca'])}/chain")),
        Name.parse(subject),
        sans={kind: values for kind, values in asked.items() if values},
        key_usage=usages.split(", "),
        key_bits=key_bits,
        challenge=None if challenge_file is None else read_secret("Challenge", file=challenge_file, variable=""),
    )
    write_private(out, made, force=force)
    if out != "-":
        cli.out.result({"file": out}, f"Wrote {out}. Whoever has it has the challenge: hand it over safely.")
