"""`intaglio subject`: all certificates of one subject."""

from __future__ import annotations

from typing import Annotated

import typer

from intaglio.cli import cert_status
from intaglio.cli.cert_status import Ca, Comment, IssueCrl, Yes
from intaglio.cli.commands import Cli, command, noun

app = noun("All certificates of one subject.")

Subject = Annotated[str, typer.Argument(help='Subject, such as "CN=www.example.com,O=Demo".')]


@command(app, "revoke", example='intaglio subject revoke --ca demo~issuing "CN=www.example.com" --yes')
def revoke(
    cli: Cli,
    subject: Subject,
    ca: Ca,
    reason: Annotated[str, typer.Option(help="Revocation reason by its RFC 5280 name.")] = "unspecified",
    comment: Comment = "",
    issue_crl: IssueCrl = False,
    yes: Yes = False,
) -> None:
    """Revoke all certificates of a subject. That is final."""
    cert_status.revoke(cli, ca, subject=subject, reason=reason, comment=comment, issue_crl=issue_crl, yes=yes)


@command(app, "hold", example='intaglio subject hold --ca demo~issuing "CN=www.example.com"')
def hold(cli: Cli, subject: Subject, ca: Ca, comment: Comment = "", issue_crl: IssueCrl = False) -> None:
    """Put all certificates of a subject on hold."""
    cert_status.hold(cli, ca, subject=subject, comment=comment, issue_crl=issue_crl)


@command(app, "unhold", example='intaglio subject unhold --ca demo~issuing "CN=www.example.com"')
def unhold(cli: Cli, subject: Subject, ca: Ca, comment: Comment = "", issue_crl: IssueCrl = False) -> None:
    """Take all held certificates of a subject off hold."""
    cert_status.unhold(cli, ca, subject=subject, comment=comment, issue_crl=issue_crl)
