"""`intaglio keytool cert`: certificates for requests, from a CA or self-signed."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from intaglio.cli.client import segment
from intaglio.cli.commands import Cli, command, noun
from intaglio.cli.files import read_bytes
from intaglio.cli.keytool.files import PUBLIC, require_free, write_new
from intaglio.cli.keytool.key import Force, read_private_key
from intaglio.cli.keytool.passwords import PasswordFd, PasswordFile
from intaglio.core.errors import InvalidInput

if TYPE_CHECKING:
    from intaglio.x509.requests import CertificateRequest

app = noun("Certificates: from a CA, or self-signed.")


@command(
    app,
    "cert",
    example=(
        "intaglio keytool cert client.csr --ca demo~issuing --profile privatessl-tls-client --out client.crt",
        "intaglio keytool cert client.csr --self-signed --key client.key --digest sha384 --out client.crt",
    ),
)
def sign(
    cli: Cli,
    csr: Annotated[str, typer.Argument(help="Certificate request (PEM or DER).")],
    out: Annotated[str, typer.Option("--out", "-o", help="File for the certificate (PEM); - is standard output.")],
    ca: Annotated[str | None, typer.Option("--ca", help="ORGANIZATION~ID of the CA that signs.")] = None,
    profile: Annotated[str | None, typer.Option("--profile", "-p", help="Profile that the CA offers.")] = None,
    chain: Annotated[bool, typer.Option("--chain", help="Write the issuers too, without the root.")] = False,
    validity: Annotated[str | None, typer.Option(help="P90D, or an end; default: the profile's.")] = None,
    self_signed: Annotated[
        bool, typer.Option("--self-signed", help="No CA: for a partner that pins this one certificate.")
    ] = False,
    key: Annotated[str | None, typer.Option("--key", "-k", help="Private key, for --self-signed.")] = None,
    days: Annotated[int, typer.Option(help="Validity, for --self-signed.")] = 365,
    digest: Annotated[str, typer.Option(help="sha256, sha384 or sha512, for --self-signed.")] = "sha256",
    server_too: Annotated[bool, typer.Option("--server-too", help="For TLS servers, too (--self-signed).")] = False,
    delete_csr: Annotated[bool, typer.Option("--delete-csr", help="Delete the request afterwards.")] = False,
    password_file: PasswordFile = None,
    password_fd: PasswordFd = None,
    force: Force = False,
) -> None:
    """Have a request signed by a CA, or sign it with its own key."""
    from intaglio.x509.requests import parse_request

    if self_signed == (ca is not None):
        raise InvalidInput(
            "Who signs the certificate?",
            code="signer-missing",
            remedy="Give --ca ORGANIZATION~ID and --profile; or --self-signed with --key, for partners without a CA.",
        )
    require_free(out, force=force)
    request = parse_request(read_bytes(csr))
    if ca is not None:
        text = _from_ca(cli, request, ca, profile, validity, chain=chain)
    else:
        text = _self_signed(cli, request, key, days, digest, server_too, password_file, password_fd)
    write_new(out, text.encode(), mode=PUBLIC, force=force)
    if delete_csr and csr != "-":
        with contextlib.suppress(FileNotFoundError):
            Path(csr).unlink()
    _tell(cli, text, out, deleted=csr if delete_csr else None)


def _from_ca(
    cli: Cli, request: CertificateRequest, ca: str, profile: str | None, validity: str | None, *, chain: bool
) -> str:
    from intaglio.x509.requests import request_pem

    if profile is None:
        raise InvalidInput("A CA signs by a profile.", code="profile-missing", remedy="Give --profile NAME.")
    body: dict[str, Any] = {"profile": profile, "csr": request_pem(request.der), "validity": validity}
    made = cli.client.post(f"/cas/{segment(ca)}/certificates", body)
    for warning in made["warnings"]:
        cli.out.warning(warning)
    return str(made["certificate"]) + ("".join(made["chain"][:-1]) if chain else "")


def _self_signed(
    cli: Cli,
    request: CertificateRequest,
    key: str | None,
    days: int,
    digest: str,
    server_too: bool,
    password_file: str | None,
    password_fd: int | None,
) -> str:
    from intaglio.core import clock
    from intaglio.mtls.toolkit import certificates
    from intaglio.mtls.toolkit.choices import chosen_from
    from intaglio.mtls.toolkit.signatures import Digest
    from intaglio.x509.certificates import pem

    if key is None:
        raise InvalidInput("A self-signed certificate needs its private key.", code="key-missing", remedy="Give --key.")
    wanted = chosen_from(Digest, digest, "--digest")
    eku = (certificates.CLIENT_AUTH, *((certificates.SERVER_AUTH,) if server_too else ()))
    private_key = read_private_key(cli, key, password_file, password_fd)
    made = certificates.self_signed(request, private_key, now=clock.now(), days=days, digest=wanted, eku=eku)
    cli.out.warning(
        "A self-signed certificate proves nothing to whoever does not pin it. Servers with a CA, our own among them, "
        "refuse it: prefer --ca."
    )
    return pem(made)


def _tell(cli: Cli, text: str, out: str, *, deleted: str | None) -> None:
    from intaglio.mtls.toolkit import sharing
    from intaglio.x509.certificates import read_certificates

    if out == "-":
        return
    leaf = sharing.shared(read_certificates(text)[0])
    result = {
        "file": out,
        "subject": leaf.subject,
        "issuer": leaf.issuer,
        "serial_number": leaf.serial_number,
        "not_after": leaf.not_after,
        "sha256": leaf.sha256,
        "spki_pin": leaf.spki_pin,
        "deleted": deleted,
    }
    lines = [f"Wrote {out} for {leaf.subject}, until {leaf.not_after}.", f"SHA-256 fingerprint: {leaf.sha256}"]
    if deleted:
        lines.append(f"Deleted {deleted}.")
    cli.out.result(result, "\n".join(lines))
