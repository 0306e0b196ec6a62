"""`intaglio cert revoke|hold|unhold`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from intaglio.cli.client import segment
from intaglio.cli.commands import Cli, command
from intaglio.core.errors import InvalidInput

Ca = Annotated[str, typer.Option("--ca", help="ORGANIZATION~ID of the issuer.")]
Serial = Annotated[str | None, typer.Argument(help="Serial number, hexadecimal.")]
Subject = Annotated[str | None, typer.Option(help="All certificates of this subject instead of one.")]
Comment = Annotated[str, typer.Option(help="Kept in the audit trail.")]
IssueCrl = Annotated[bool, typer.Option("--issue-crl", help="Publish a CRL at once.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module to the noun."""
    example = (
        "intaglio cert revoke --ca demo~issuing 3A0F... --reason keyCompromise --yes",
        'intaglio cert revoke --ca demo~issuing --subject "CN=www.example.com" --yes',
    )
    command(app, "revoke", example=example)(revoke)
    command(app, "hold", example="intaglio cert hold --ca demo~issuing 3A0F...")(hold)
    command(app, "unhold", example="intaglio cert unhold --ca demo~issuing 3A0F...")(unhold)


def revoke(
    cli: Cli,
    ca: Ca,
    serial: Serial = None,
    subject: Subject = None,
    reason: Annotated[
        str,
        typer.Option(
            help="keyCompromise, superseded, cessationOfOperation, affiliationChanged, privilegeWithdrawn ..."
        ),
    ] = "unspecified",
    compromise_date: Annotated[
        str | None, typer.Option(metavar="DATE", help="Since when the key may be known to others.")
    ] = None,
    comment: Comment = "",
    issue_crl: IssueCrl = False,
    yes: Yes = False,
) -> None:
    """Revoke a certificate, or all certificates of a subject. That is final."""
    cli.confirm(f"Revoke {serial or subject}? That is final.", yes=yes)
    date = f"{compromise_date}T00:00:00Z" if compromise_date and len(compromise_date) == 10 else compromise_date
    body = {"reason": reason, "compromise_date": date, "comment": comment, "issue_crl": issue_crl}
    _change(cli, ca, serial, subject, "revoke", body)


def hold(
    cli: Cli, ca: Ca, serial: Serial = None, subject: Subject = None, comment: Comment = "", issue_crl: IssueCrl = False
) -> None:
    """Put a certificate, or all certificates of a subject, on hold."""
    _change(cli, ca, serial, subject, "hold", {"comment": comment, "issue_crl": issue_crl})


def unhold(
    cli: Cli, ca: Ca, serial: Serial = None, subject: Subject = None, comment: Comment = "", issue_crl: IssueCrl = False
) -> None:
    """Take a certificate, or all held certificates of a subject, off hold."""
    _change(cli, ca, serial, subject, "unhold", {"comment": comment, "issue_crl": issue_crl})


def _change(cli: Cli, ca: str, serial: str | None, subject: str | None, action: str, body: dict[str, Any]) -> None:
    if (serial is None) == (subject is None):
        raise InvalidInput("Name a serial number or a --subject.", code="target-needed")
    if subject is not None:
        done = cli.client.post(f"/cas/{segment(ca)}/subjects/{action}", {**body, "subject": subject})
        serials = ", ".join(each["serial_number"] for each in done["changed"])
        cli.out.result(
            done, f"Changed {len(done['changed'])} certificates of {subject}{': ' if serials else '.'}{serials}"
        )
        return
    found = cli.client.post(f"/cas/{segment(ca)}/certificates/{segment(serial or '')}/{action}", body)
    reason = f" ({found['reason']})" if found["reason"] else ""
    cli.out.result(found, f"{found['serial_number']} is {found['state']}{reason}.")
