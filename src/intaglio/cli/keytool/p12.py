"""`intaglio keytool p12`: PKCS #12 files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from intaglio.cli.commands import Cli, command, noun
from intaglio.cli.files import read_bytes
from intaglio.cli.keytool import passwords
from intaglio.cli.keytool.files import PRIVATE, PUBLIC, read_key_file, require_free, write_new
from intaglio.cli.keytool.key import Force, read_key_and_password
from intaglio.cli.keytool.passwords import AcceptWeak, Generate, PasswordFd, PasswordFile, PasswordOut

if TYPE_CHECKING:
    from intaglio.mtls.toolkit.pkcs12_reader import Content
    from intaglio.mtls.toolkit.pkcs12_writer import Protection

app = noun("PKCS #12 files: make, take apart, change protection.")

Variant = Annotated[
    str, typer.Option(help="aes-256, aes-128, or compatible (triple DES) for Apple, old Windows, Android, Java.")
]
Iterations = Annotated[int, typer.Option(help="Rounds of PBKDF2 that a guess at the password costs.")]
MacIterations = Annotated[int, typer.Option(help="Rounds of the integrity check.")]
OldFile = Annotated[str | None, typer.Option(help="File with the present password.")]
OldFd = Annotated[int | None, typer.Option(help="Descriptor with the present password.")]


@command(
    app,
    "create",
    example=(
        "intaglio keytool p12 create --key client.key --cert client.crt --out client.p12",
        "intaglio keytool p12 create --key client.key --cert client.crt --variant compatible --out c.p12",
    ),
    local=True,
)
def create(
    cli: Cli,
    key: Annotated[str, typer.Option("--key", "-k", help="Private key file.")],
    cert: Annotated[str, typer.Option("--cert", "-c", help="Certificate, with its issuers if they are in the file.")],
    out: Annotated[str, typer.Option("--out", "-o", help="File for the PKCS #12 (mode 0600).")],
    chain: Annotated[list[str] | None, typer.Option("--chain", help="File with issuers; repeat for more.")] = None,
    name: Annotated[str, typer.Option(help="Name that key stores show.")] = "",
    variant: Variant = "aes-256",
    iterations: Iterations = 100_000,
    mac_iterations: MacIterations = 100_000,
    key_password_file: Annotated[str | None, typer.Option(help="File with the password of the key.")] = None,
    key_password_fd: Annotated[int | None, typer.Option(help="Descriptor with the password of the key.")] = None,
    password_file: PasswordFile = None,
    password_fd: PasswordFd = None,
    generate_password: Generate = False,
    password_out: PasswordOut = None,
    accept_weak: AcceptWeak = False,
    force: Force = False,
) -> None:
    """Put a private key, its certificate and the chain into a PKCS #12 file."""
    from intaglio.mtls.toolkit.pkcs12_writer import encode_pkcs12
    from intaglio.x509.certificates import read_certificates

    require_free(out, password_out, force=force)
    protection = _protection(variant, iterations, mac_iterations)
    leaf, *issuers = [c for path in (cert, *(chain or ())) for c in read_certificates(read_bytes(path))]
    private_key, key_password = read_key_and_password(cli, key, key_password_file, key_password_fd)
    given = passwords.Given(password_file, password_fd, generate_password, password_out, accept_weak)
    password = passwords.new(cli, f"Export password of {out}", given, known=leaf.subject.common_names)
    if key_password is not None and passwords.same(key_password, password.value):
        cli.out.warning("The key file and the PKCS #12 have the same password; give each its own.")
    friendly = name or next(iter(leaf.subject.common_names), "")
    made = encode_pkcs12(
        private_key,
        leaf.der,
        [each.der for each in issuers],
        password.value,
        friendly_name=friendly,
        protection=protection,
    )
    write_new(out, made, mode=PRIVATE, force=force)
    _tell(cli, out, leaf.subject.rfc4514, protection, password)


@command(
    app,
    "extract",
    example="intaglio keytool p12 extract client.p12 --key-out client.key --cert-out client.crt --chain-out ca.pem",
    local=True,
)
def extract(
    cli: Cli,
    file: Annotated[str, typer.Argument(help="PKCS #12 file.")],
    key_out: Annotated[str | None, typer.Option(help="File for the key, encrypted (mode 0600).")] = None,
    cert_out: Annotated[str | None, typer.Option(help="File for the certificate (PEM).")] = None,
    chain_out: Annotated[str | None, typer.Option(help="File for the further certificates (PEM).")] = None,
    password_file: PasswordFile = None,
    password_fd: PasswordFd = None,
    key_password_file: Annotated[str | None, typer.Option(help="File with a password for the key file.")] = None,
    key_password_fd: Annotated[int | None, typer.Option(help="Descriptor with a password for the key file.")] = None,
    force: Force = False,
) -> None:
    """Write key, certificate and chain of a PKCS #12 file as PEM.

    The key file gets the password of the PKCS #12 unless another one is given.
    """
    from intaglio.mtls.toolkit import conversion, keys

    require_free(key_out, cert_out, chain_out, force=force)
    content, password = _open(cli, file, password_file, password_fd)
    written = {}
    if key_out is not None and content.key is not None:
        if key_password_file is not None or key_password_fd is not None:
            password = passwords.existing("Password of the key file", key_password_file, key_password_fd)
        write_new(key_out, keys.encode_key(content.key, password), mode=PRIVATE, force=force)
        written["key"] = key_out
    if cert_out is not None and content.certificate is not None:
        write_new(cert_out, conversion.bundle([content.certificate]).encode(), mode=PUBLIC, force=force)
        written["certificate"] = cert_out
    if chain_out is not None and content.chain:
        write_new(chain_out, conversion.bundle(content.chain).encode(), mode=PUBLIC, force=force)
        written["chain"] = chain_out
    cli.out.result(written, f"Wrote {', '.join(written.values())}." if written else "Nothing of it was asked for.")


@command(
    app, "convert", example="intaglio keytool p12 convert client.p12 --variant compatible --out phone.p12", local=True
)
def convert(
    cli: Cli,
    file: Annotated[str, typer.Argument(help="PKCS #12 file.")],
    out: Annotated[str, typer.Option("--out", "-o", help="File for the result (mode 0600).")],
    variant: Variant = "compatible",
    iterations: Iterations = 100_000,
    mac_iterations: MacIterations = 100_000,
    old_password_file: OldFile = None,
    old_password_fd: OldFd = None,
    password_file: PasswordFile = None,
    password_fd: PasswordFd = None,
    generate_password: Generate = False,
    password_out: PasswordOut = None,
    accept_weak: AcceptWeak = False,
    force: Force = False,
) -> None:
    """Write the same key and certificates with another protection, for a reader that refused the first one."""
    from intaglio.core.errors import InvalidInput
    from intaglio.mtls.toolkit.pkcs12_writer import encode_pkcs12
    from intaglio.x509.certificates import read_certificate

    require_free(out, password_out, force=force)
    protection = _protection(variant, iterations, mac_iterations)
    content, _ = _open(cli, file, old_password_file, old_password_fd)
    if content.key is None or content.certificate is None:
        raise InvalidInput(f"{file} has no private key with a certificate.", code="pkcs12-without-key")
    given = passwords.Given(password_file, password_fd, generate_password, password_out, accept_weak)
    password = passwords.new(cli, f"Export password of {out}", given)
    made = encode_pkcs12(
        content.key,
        content.certificate,
        content.chain,
        password.value,
        friendly_name=content.friendly_name or "",
        protection=protection,
    )
    write_new(out, made, mode=PRIVATE, force=force)
    _tell(cli, out, read_certificate(content.certificate).subject.rfc4514, protection, password)


def _open(cli: Cli, file: str, password_file: str | None, password_fd: int | None) -> tuple[Content, str]:
    from intaglio.mtls.toolkit.pkcs12_reader import look_at_pkcs12, open_pkcs12

    data = read_key_file(cli, file)
    look_at_pkcs12(data)
    password = passwords.existing(f"Password of {file}", password_file, password_fd)
    return open_pkcs12(data, password), password


def _protection(variant: str, iterations: int, mac_iterations: int) -> Protection:
    from intaglio.mtls.toolkit.choices import chosen_from
    from intaglio.mtls.toolkit.pbe import check_iterations
    from intaglio.mtls.toolkit.pkcs12_writer import Protection
    from intaglio.mtls.toolkit.pkcs12_writer import Variant as Choice

    chosen = chosen_from(Choice, variant, "--variant")
    return Protection(chosen, check_iterations(iterations), check_iterations(mac_iterations))


def _tell(cli: Cli, out: str, subject: str, protection: Protection, password: passwords.Chosen) -> None:
    if out == "-":
        return
    result = {
        "file": out,
        "subject": subject,
        "variant": protection.variant.value,
        "iterations": protection.iterations,
        "mac_iterations": protection.mac_iterations,
        "password": password.value if password.to_tell else None,
    }
    lines = [f"Wrote {out} for {subject} ({protection.variant.value})."]
    if password.to_tell:
        lines.append(f"Password, shown only now: {password.value}")
    cli.out.result(result, "\n".join(lines))
