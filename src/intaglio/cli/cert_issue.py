"""`intaglio cert issue|renew|reissue`."""

from __future__ import annotations

import base64
from typing import Annotated, Any

import typer

from intaglio.cli.ca_create import end_of
from intaglio.cli.client import segment
from intaglio.cli.commands import Cli, command
from intaglio.cli.files import read_pem_or_der, read_secret, require_absent, write_private, write_public
from intaglio.core.errors import InvalidInput

Ca = Annotated[str, typer.Option("--ca", help="ORGANIZATION~ID of the issuer.")]
Serial = Annotated[str, typer.Argument(help="Serial number, hexadecimal.")]
Out = Annotated[str | None, typer.Option("--out", "-o", help="File for the certificate (PEM); - is standard output.")]
Chain = Annotated[bool, typer.Option("--chain", help="Write the issuers too, without the root.")]
Validity = Annotated[
    str | None, typer.Option(help="P90D, PT12H, an end such as 2027-01-31, or START/END; default: the profile's.")
]
Names = list[str] | None


def register(app: typer.Typer) -> None:
    """Add the commands of this module to the noun."""
    command(
        app,
        "issue",
        example=(
            "intaglio cert issue --ca demo~issuing --profile privatessl-tls-server --csr server.csr --out server.pem",
            'intaglio cert issue --ca demo~issuing --profile privatessl-tls-server --subject "CN=www.example.com" '
            "--dns www.example.com --key-out server.key --out server.pem",
            "intaglio cert issue --ca demo~issuing --profile privatessl-tls-client --subject CN=alice --p12 alice.p12",
        ),
    )(issue)
    command(app, "renew", example="intaglio cert renew --ca demo~issuing 3A0F... --out server.pem")(renew)
    command(app, "reissue", example="intaglio cert reissue --ca demo~issuing 3A0F... --csr new.csr -o server.pem")(
        reissue
    )


def issue(
    cli: Cli,
    ca: Ca,
    profile: Annotated[str, typer.Option("--profile", "-p", help="Profile that the CA offers.")],
    csr: Annotated[str | None, typer.Option(help="Certificate request (PEM or DER); - is standard input.")] = None,
    subject: Annotated[str | None, typer.Option(help='"CN=www.example.com,O=Demo"; wins over that of the CSR.')] = None,
    variable: Annotated[
        Names, typer.Option(help="NAME=VALUE for the subject that the profile builds; repeat for more.")
    ] = None,
    dns: Annotated[Names, typer.Option(help="DNS name; repeat for more. Names win over those of the CSR.")] = None,
    ip: Annotated[Names, typer.Option(help="IP address; repeat for more.")] = None,
    email: Annotated[Names, typer.Option(help="E-mail address; repeat for more.")] = None,
    uri: Annotated[Names, typer.Option(help="URI; repeat for more.")] = None,
    upn: Annotated[Names, typer.Option(help="User principal name; repeat for more.")] = None,
    out: Out = None,
    chain: Chain = False,
    p12: Annotated[
        str | None, typer.Option(help="The server makes the key; write key, certificate and issuers here (mode 0600).")
    ] = None,
    password_file: Annotated[
        str | None, typer.Option(help="File with the PKCS #12 password (or INTAGLIO_P12_PASSWORD, or a prompt).")
    ] = None,
    encoding: Annotated[str, typer.Option(help="Of the PKCS #12: modern, or legacy for old clients.")] = "modern",
    key_out: Annotated[
        str | None, typer.Option(help="Make the key here, and write it to this file (PEM, mode 0600).")
    ] = None,
    key: Annotated[str | None, typer.Option("--key", help="Type of a key that is made: P-256, RSA-2048 ...")] = None,
    validity: Validity = None,
    extension: Annotated[Names, typer.Option(help="OID=BASE64 of an extension, or EKU OID as 2.5.29.37=OID.")] = None,
    property_: Annotated[Names, typer.Option("--property", help="NAME=VALUE kept with the certificate.")] = None,
    idempotency_key: Annotated[str | None, typer.Option(help="Makes a repetition of the command harmless.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be issued.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite key and PKCS #12 files.")] = False,
) -> None:
    """Issue a certificate: from a CSR, or with a key made here (--key-out) or by the server (--p12)."""
    if sum(each is not None for each in (csr, p12, key_out)) != 1:
        raise InvalidInput(
            "Where does the key come from?", code="key-source", remedy="Give one of --csr, --p12 or --key-out."
        )
    for path in (p12, key_out):
        require_absent(path, force=force)
    body: dict[str, Any] = {
        "profile": profile,
        "subject": subject,
        "variables": [
            dict(zip(("name", "value"), _pair(text, "--variable"), strict=True)) for text in variable or ()
        ],
        "names": _names(
            dNSName=dns, iPAddress=ip, rfc822Name=email, uniformResourceIdentifier=uri, userPrincipalName=upn
        ),
        "validity": _validity(validity),
        "extensions": [
            dict(zip(("oid", "value"), _pair(text, "--extension"), strict=True)) for text in extension or ()
        ],
        "properties": dict(_pair(text, "--property") for text in property_ or ()),
    }
    private_key: bytes | None = None
    if csr is not None:
        body["csr"] = read_pem_or_der(csr)
    elif key_out is not None:
        private_key, body["csr"] = _make_key(key or "P-256")
        body["subject"] = subject or (f"CN={dns[0]}" if dns and not variable else None)
    else:
        password = read_secret(
            "Password of the PKCS #12", file=password_file, variable="INTAGLIO_P12_PASSWORD", confirm=True
        )
        body["pkcs12"] = {"password": password, "key_algorithm": key, "compatibility": encoding}
    path = f"/cas/{segment(ca)}/certificates"
    if dry_run:
        cli.out.result(cli.client.post(f"{path}/preview", body))
        return
    made = cli.client.post(path, body, headers={"idempotency-key": idempotency_key} if idempotency_key else None)
    if private_key is not None and key_out is not None:
        write_private(key_out, private_key, force=force)
    if p12 is not None:
        write_private(p12, base64.b64decode(made.pop("pkcs12")), force=force)
    _deliver(cli, made, out, chain, also=p12 or key_out)


def renew(cli: Cli, serial: Serial, ca: Ca, out: Out = None, chain: Chain = False, validity: Validity = None) -> None:
    """Issue a certificate with the same key, subject and names, and a new validity. The old one stays valid."""
    body = {"validity": _validity(validity)}
    _deliver(cli, cli.client.post(f"{_path(ca, serial)}/renew", body), out, chain)


def reissue(
    cli: Cli,
    serial: Serial,
    ca: Ca,
    csr: Annotated[str | None, typer.Option(help="Certificate request with another key.")] = None,
    out: Out = None,
    chain: Chain = False,
    validity: Validity = None,
) -> None:
    """Issue a certificate with the same subject and names until the same end, for another key when there is a CSR."""
    body = {"csr": read_pem_or_der(csr) if csr else None, "validity": _validity(validity)}
    _deliver(cli, cli.client.post(f"{_path(ca, serial)}/reissue", body), out, chain)


def _deliver(cli: Cli, made: dict[str, Any], out: str | None, chain: bool, also: str | None = None) -> None:
    """Write the certificate where it was asked for, or print it when it went nowhere else."""
    for text in made["warnings"]:
        cli.out.warning(text)
    content = made["certificate"] + ("".join(made["chain"][:-1]) if chain else "")
    if out is not None and out != "-":
        write_public(out, content)
    if cli.out.as_json:
        cli.out.result({**made, "file": out, "key_file": also})
        return
    if out == "-" or (out is None and also is None):
        print(content, end="")
    where = ", ".join(each for each in (out if out != "-" else None, also) if each)
    cli.out.note(
        f"Issued {made['serial_number']} for {made['subject'] or '(empty subject)'}, until {made['not_after']}"
        + (f"; wrote {where}." if where else ".")
    )


def _names(**by_type: Names) -> list[dict[str, str]]:
    return [{"type": kind, "value": value} for kind, values in by_type.items() for value in values or ()]


def _pair(text: str, option: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise InvalidInput(f'"{text}" is not NAME=VALUE.', target=option)
    return name, value


def _validity(text: str | None) -> str | None:
    return end_of(text) if text is not None and len(text) == 10 and "/" not in text else text


def _make_key(kind: str) -> tuple[bytes, str]:
    """A private key (PKCS #8 PEM) and a request for it (PEM); its subject comes from the command line."""
    from cryptography import x509
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    from intaglio.asn1.algorithms import KeyAlgorithm, generate_private_key

    algorithm = KeyAlgorithm.parse(kind)
    private_key: Any = generate_private_key(algorithm)
    digest = SHA256() if algorithm.value.startswith(("rsa", "ecdsa")) else None
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(private_key, digest)
    encoded = private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return encoded, request.public_bytes(Encoding.PEM).decode()


def _path(ca: str, serial: str) -> str:
    return f"/cas/{segment(ca)}/certificates/{segment(serial)}"
