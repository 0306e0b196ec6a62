"""`intaglio keytool csr`: certificate requests."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from intaglio.cli.commands import Cli, command, noun
from intaglio.cli.keytool.files import PUBLIC, require_free, write_new
from intaglio.cli.keytool.key import Force, read_private_key
from intaglio.cli.keytool.passwords import PasswordFd, PasswordFile

if TYPE_CHECKING:
    from intaglio.x509.general_names import GeneralNames
    from intaglio.x509.names import Name

app = noun("Certificate requests (PKCS #10).")

Names = list[str] | None
Dns = Annotated[Names, typer.Option("--dns", help="DNS name; repeat for more.")]
Email = Annotated[Names, typer.Option("--email", help="E-mail address; repeat for more.")]
Uri = Annotated[Names, typer.Option("--uri", help="URI, such as spiffe://...; repeat for more.")]
Ip = Annotated[Names, typer.Option("--ip", help="IP address; repeat for more.")]
Upn = Annotated[Names, typer.Option("--upn", help="User principal name; repeat for more.")]


@command(
    app,
    "csr",
    example=(
        "intaglio keytool csr --key client.key --out client.csr",
        'intaglio keytool csr --key client.key --subject "CN=alice,O=Example" --email alice@example.com '
        "--out client.csr",
    ),
    local=True,
)
def create(
    cli: Cli,
    key: Annotated[str, typer.Option("--key", "-k", help="Private key file.")],
    out: Annotated[str, typer.Option("--out", "-o", help="File for the request; - is standard output.")],
    subject: Annotated[str | None, typer.Option(help='"CN=alice,O=Example,C=CA"; asked for when left out.')] = None,
    dns: Dns = None,
    email: Email = None,
    uri: Uri = None,
    ip: Ip = None,
    upn: Upn = None,
    digest: Annotated[str, typer.Option(help="sha256, sha384 or sha512.")] = "sha256",
    password_file: PasswordFile = None,
    password_fd: PasswordFd = None,
    force: Force = False,
) -> None:
    """Make a certificate request for a private key."""
    from intaglio.mtls.toolkit.choices import chosen_from
    from intaglio.mtls.toolkit.requests import make_request
    from intaglio.mtls.toolkit.signatures import Digest
    from intaglio.x509.requests import request_pem

    require_free(out, force=force)
    wanted_digest = chosen_from(Digest, digest, "--digest")
    names = names_of(dns, email, uri, ip, upn)
    wanted = subject_of(subject)
    private_key = read_private_key(cli, key, password_file, password_fd)
    made = make_request(private_key, wanted, names, wanted_digest)
    write_new(out, request_pem(made).encode(), mode=PUBLIC, force=force)
    if out == "-":
        return
    if names is None:
        cli.out.warning("The request asks for no subject alternative name; many servers look at nothing else.")
    result = {"file": out, "subject": wanted.rfc4514, "names": names.text if names else []}
    cli.out.result(result, f"Wrote {out} for {wanted.rfc4514 or ', '.join(result['names'])}.")


def subject_of(text: str | None) -> Name:
    """The subject that was given, or the answers to the questions of ``openssl req``."""
    from intaglio.mtls.toolkit.requests import SUBJECT_QUESTIONS
    from intaglio.mtls.toolkit.requests import subject_of as answered
    from intaglio.x509.names import EMPTY_NAME, Name

    if text is not None:
        return Name.parse(text)
    if not sys.stdin.isatty():
        return EMPTY_NAME
    answers = {a: typer.prompt(question, default="", show_default=False, err=True) for a, question in SUBJECT_QUESTIONS}
    return answered(answers)


def names_of(dns: Names, email: Names, uri: Names, ip: Names, upn: Names) -> GeneralNames | None:
    """The alternative names that were given, None when there is none."""
    from intaglio.x509.general_names import GeneralNames

    by_type = {"dns": dns, "email": email, "uri": uri, "ip": ip, "upn": upn}
    given = [(kind, value) for kind, values in by_type.items() for value in values or ()]
    return GeneralNames.build(given) if given else None
