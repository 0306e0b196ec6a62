"""`intaglio ocsp signer`: keys and certificates that sign answers for status authorities."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from intaglio.cli.client import segment
from intaglio.cli.commands import Cli, command, noun
from intaglio.cli.files import read_pem_or_der, require_absent, write_public
from intaglio.cli.listing import All, Filter, Limit, Sort, listed

app = noun("Keys and certificates that sign OCSP answers for status authorities.")

_PATH = "/validation/signers"
_COLUMNS = {
    "id": "ID", "label": "LABEL", "kind": "KIND", "authority": "AUTHORITY", "state": "STATE", "subject": "SUBJECT",
    "not_after": "EXPIRES", "renews_by_itself": "RENEWS",
}  # fmt: skip

Signer = Annotated[str, typer.Argument(help="Id of the signer, or its label when only one has it.")]
CsrOut = Annotated[str, typer.Option("--out", "-o", help="File for the request (PEM); - is standard output.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite the file.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


@command(
    app,
    "create",
    example=(
        "intaglio ocsp signer create legacy --out legacy.csr",
        "intaglio ocsp signer create --shared common --ca demo~issuing",
        "intaglio ocsp signer create ours --kind ca",
    ),
)
def create(
    cli: Cli,
    authority: Annotated[str | None, typer.Argument(help="Status authority that it signs for.")] = None,
    shared: Annotated[str | None, typer.Option(help="Label of a signer for several authorities.")] = None,
    kind: Annotated[
        str | None, typer.Option(help="delegated, shared, automatic (certified by our CA), ca (the CA's own key).")
    ] = None,
    ca: Annotated[str | None, typer.Option(help="Our CA that certifies and renews it, ORGANIZATION~ID.")] = None,
    key: Annotated[str, typer.Option("--key", "-k", help="Type of the key, such as P-256 or RSA-3072.")] = "P-256",
    provider: Annotated[str, typer.Option(help="Where the key is made: software, pkcs11:TOKEN.")] = "software",
    subject: Annotated[str, typer.Option("--subject", "-s", help="Subject to ask for; default: CN=<key id>.")] = "",
    out: CsrOut = "-",
    force: Force = False,
) -> None:
    """Make a signer.

    A delegated signer gives a request, to be signed by the CA of the authority and imported. With --ca one of our CAs
    certifies it at once and renews it; clients must then be told to trust it, unless it is the CA in question.
    """
    require_absent(out, force=force)
    body = {
        "kind": kind or ("shared" if shared else "automatic" if ca else "delegated"),
        "authority": authority,
        "label": shared,
        "key_algorithm": key,
        "provider": provider,
        "subject": subject,
        "ca": ca,
    }
    made = cli.client.post(_PATH, body)
    _tell(cli, made, out, force=force)


@command(app, "list", example="intaglio ocsp signer list --filter state=current")
def list_(
    cli: Cli, filter: Filter = None, sort: Sort = None, limit: Limit = 100, all: All = False
) -> None:
    """List the signers with their certificates, replaced ones included."""
    cli.out.table(listed(cli, _PATH, filter, sort, limit, all), _COLUMNS, empty="No signers.")


@command(app, "show", example="intaglio ocsp signer show legacy")
def show(cli: Cli, signer: Signer) -> None:
    """Show a signer with its request and its certificate."""
    cli.out.result(_find(cli, signer))


@command(app, "csr", example="intaglio ocsp signer csr legacy --subject 'CN=Legacy OCSP,O=Example' --out legacy.csr")
def csr(
    cli: Cli,
    signer: Signer,
    subject: Annotated[str, typer.Option("--subject", "-s", help="Another subject to ask for.")] = "",
    out: CsrOut = "-",
    force: Force = False,
) -> None:
    """Write the request of a signer, with --subject made anew over the same key."""
    require_absent(out, force=force)
    found = _find(cli, signer)
    if subject:
        found = cli.client.post(f"{_PATH}/{segment(found['id'])}/request", {"subject": subject})
    _tell(cli, found, out, force=force)


@command(app, "import", example="intaglio ocsp signer import legacy legacy.crt")
def import_(
    cli: Cli,
    signer: Signer,
    certificate: Annotated[str, typer.Argument(help="Certificate, with those above it (PEM, DER, PKCS #7).")],
) -> None:
    """Install the certificate that a CA made of the request. From then on the signer signs."""
    found = _find(cli, signer, state="awaiting-certificate")
    body = {"certificate": read_pem_or_der(certificate)}
    made = cli.client.post(f"{_PATH}/{segment(found['id'])}/certificate", body)
    _warn(cli, made)
    cli.out.result(made, f"{made['label']} signs as {made['subject']} until {made['not_after']}.")


@command(app, "renew", example="intaglio ocsp signer renew legacy --out legacy-2.csr")
def renew(cli: Cli, signer: Signer, out: CsrOut = "-", force: Force = False) -> None:
    """Begin the replacement of a signer, which goes on signing until the new certificate is imported."""
    require_absent(out, force=force)
    found = _find(cli, signer, state="current")
    made = cli.client.post(f"{_PATH}/{segment(found['id'])}/renew", {})
    _tell(cli, made, out, force=force)


@command(app, "delete", example="intaglio ocsp signer delete legacy --yes")
def delete(cli: Cli, signer: Signer, yes: Yes = False) -> None:
    """Delete a signer and destroy its key."""
    found = _find(cli, signer)
    cli.confirm(f"Delete the signer {found['label']} ({found['id']}) and destroy its key?", yes=yes)
    cli.client.delete(f"{_PATH}/{segment(found['id'])}")
    cli.out.result({"deleted": found["id"]}, f"Deleted {found['label']}.")


def _find(cli: Cli, signer: str, *, state: str | None = None) -> dict[str, Any]:
    """The signer with this id or label; among several of one label that in ``state``. Raises NotFound, InvalidInput."""
    from intaglio.core.errors import InvalidInput, NotFound

    rows = [row for row in cli.client.pages(_PATH, most=None) if signer in (row["id"], row["label"])]
    preferred = [row for row in rows if row["state"] == (state or "current")]
    found = preferred if len(rows) > 1 and preferred else rows
    if not found:
        raise NotFound(f'There is no OCSP signer "{signer}".', remedy="List them with: intaglio ocsp signer list")
    if len(found) > 1:
        raise InvalidInput(f'Several OCSP signers are called "{signer}".', remedy="Name the one you mean by its id.")
    return found[0]


def _tell(cli: Cli, made: dict[str, Any], out: str, *, force: bool) -> None:
    """Write the request of a signer that waits for its certificate; say what else there is."""
    _warn(cli, made)
    if made["state"] != "awaiting-certificate" and made["certificate"] is not None:
        cli.out.result(made, f"{made['label']} signs as {made['subject']} until {made['not_after']}.")
        return
    if out != "-":
        write_public(out, made["request"], force=force)
    if cli.out.as_json:
        cli.out.result(made)
    elif out == "-":
        write_public("-", made["request"])
    else:
        cli.out.result(made, f"Wrote {out}; have it signed and then: intaglio ocsp signer import {made['id']} FILE")


def _warn(cli: Cli, made: dict[str, Any]) -> None:
    for warning in made["warnings"]:
        cli.out.warning(warning)
