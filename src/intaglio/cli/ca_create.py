"""`intaglio ca create`: root, external root and issuing CAs."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from intaglio.cli.client import segment
from intaglio.cli.commands import Cli, command, noun
from intaglio.cli.credential_files import CredentialsDir, Force, Passwords, save_credentials
from intaglio.cli.files import read_pem_or_der
from intaglio.core.errors import InvalidInput

app = noun("Create a CA.")

Ca = Annotated[str, typer.Argument(metavar="CA", help="ORGANIZATION~ID of the new CA.")]
Subject = Annotated[str, typer.Option(help='Subject with a CN: "CN=Demo Root,O=Demo" or "/O=Demo/CN=Demo Root".')]
Profiles = Annotated[list[str], typer.Option("--profile", "-p", help="Profile it offers; repeat for more.")]
Administrators = Annotated[
    list[str], typer.Option("--administrator", "-a", help="Gateway client with all rights; repeat for more.")
]
Auditors = Annotated[list[str] | None, typer.Option("--auditor", help="Gateway client who may look; repeat for more.")]
KeyType = Annotated[str, typer.Option("--key", help="P-256, P-384, P-521, RSA-2048/3072/4096, Ed25519, ML-DSA-44 ...")]
Provider = Annotated[str, typer.Option("--provider", help="Where its key is made: software, or pkcs11:TOKEN.")]
OcspKey = Annotated[str | None, typer.Option(help="Key type of its OCSP signer; `off` for no OCSP.")]
NotAfter = Annotated[str | None, typer.Option(metavar="DATE", help="End of validity, such as 2035-12-31.")]
Label = Annotated[str, typer.Option(help="Name for people.")]
Options = Annotated[
    list[str] | None,
    typer.Option("--option", help="NAME=VALUE, such as crl_interval_hours=12, crl_on_revoke=true; repeat for more."),
]
Encoding = Annotated[str, typer.Option("--encoding", help="Of the PKCS #12 files: modern, or legacy for old clients.")]


@command(
    app,
    "root",
    example='intaglio ca create root demo~root --subject "CN=Demo Root,O=Demo" --profile privatessl-tls-server '
    "--administrator alice",
)
def root(
    cli: Cli,
    ca: Ca,
    subject: Subject,
    profile: Profiles,
    administrator: Administrators,
    auditor: Auditors = None,
    key: KeyType = "P-384",
    provider: Provider = "software",
    ocsp_key: OcspKey = None,
    not_after: NotAfter = None,
    label: Label = "",
    option: Options = None,
    encoding: Encoding = "modern",
    credentials_dir: CredentialsDir = ".",
    save_passwords: Passwords = False,
    force: Force = False,
) -> None:
    """Create a root CA: its key is made here and signs its own certificate (20 years unless told otherwise).

    Administrators and auditors that are new in the organization get a client certificate for the CA gateway, written as
    NAME.p12; its password is shown once.
    """
    body = _body(
        ca, "root", subject, profile, administrator, auditor, key, ocsp_key, not_after, label, option, encoding
    )
    body["key_provider"] = provider
    _create(cli, ca, body, credentials_dir, save_passwords, force)


@command(
    app,
    "issuing",
    example='intaglio ca create issuing demo~issuing --issuer root --subject "CN=Demo Issuing,O=Demo" '
    "--profile privatessl-tls-server --administrator alice",
)
def issuing(
    cli: Cli,
    ca: Ca,
    issuer: Annotated[str, typer.Option(help="The CA above it: an id of the same organization.")],
    subject: Subject,
    profile: Profiles,
    administrator: Administrators,
    auditor: Auditors = None,
    key: KeyType = "P-256",
    provider: Provider = "software",
    ocsp_key: OcspKey = None,
    not_after: NotAfter = None,
    path_length: Annotated[int, typer.Option(min=0, max=8, help="CA certificates that may follow below.")] = 0,
    label: Label = "",
    option: Options = None,
    encoding: Encoding = "modern",
    credentials_dir: CredentialsDir = ".",
    save_passwords: Passwords = False,
    force: Force = False,
) -> None:
    """Create an issuing CA (10 years unless told otherwise, never beyond its issuer).

    Below a root whose key is here it is signed at once. Below an external root it waits: have `intaglio ca csr` signed
    there, then `intaglio ca upload-certificate`.
    """
    body = _body(
        ca, "issuing", subject, profile, administrator, auditor, key, ocsp_key, not_after, label, option, encoding
    )
    body["issuer"] = issuer.rpartition("~")[2]
    body["path_length"] = path_length
    body["key_provider"] = provider
    _create(cli, ca, body, credentials_dir, save_passwords, force)


@command(app, "external", example="intaglio ca create external demo~corp --certificate corp-root.pem")
def external(
    cli: Cli,
    ca: Ca,
    certificate: Annotated[str, typer.Option(help="Self-signed certificate of the root: PEM, DER or PKCS #7.")],
    label: Label = "",
) -> None:
    """Record a root CA that is kept elsewhere, to have issuing CAs below it."""
    body = {"kind": "external-root", "certificate": read_pem_or_der(certificate), "label": label}
    _create(cli, ca, {**body, "name": split(ca)[1]}, ".", False, False)


def split(ca: str) -> tuple[str, str]:
    """Organization and id of ``ORGANIZATION~ID``. Raises InvalidInput."""
    organization, tilde, name = ca.partition("~")
    if not (tilde and organization and name):
        raise InvalidInput(
            f'"{ca}" does not name a CA.', code="ca-id-invalid", remedy="Write ORGANIZATION~ID, such as demo~root."
        )
    return organization, name


def parse_options(options: list[str] | None) -> dict[str, Any]:
    """``NAME=VALUE`` settings of a CA; dots lead into nested ones. Raises InvalidInput."""
    import yaml

    parsed: dict[str, Any] = {}
    for text in options or ():
        path, equals, value = text.partition("=")
        if not equals:
            raise InvalidInput(f'"{text}" is not NAME=VALUE.', target="--option")
        *parents, name = path.replace("-", "_").split(".")
        place = parsed
        for parent in parents:
            place = place.setdefault(parent, {})
        place[name] = yaml.safe_load(value)
    return parsed


def end_of(date: str | None) -> str | None:
    """A date or moment as the API wants it: a date alone means its last second, UTC."""
    if date is None:
        return None
    if len(date) == 10:
        return f"{date}T23:59:59Z"
    return date if date.endswith("Z") or "+" in date[10:] else f"{date}Z"


def _body(
    ca: str,
    kind: str,
    subject: str,
    profiles: list[str],
    administrators: list[str],
    auditors: list[str] | None,
    key: str,
    ocsp_key: str | None,
    not_after: str | None,
    label: str,
    options: list[str] | None,
    encoding: str,
) -> dict[str, Any]:
    return {
        "kind": kind,
        "name": split(ca)[1],
        "subject": subject,
        "key_algorithm": key,
        "ocsp_key_algorithm": ocsp_key,
        "not_after": end_of(not_after),
        "profiles": profiles,
        "administrators": administrators,
        "auditors": auditors or [],
        "label": label,
        "options": parse_options(options),
        "credentials": {"compatibility": encoding},
    }


def _create(cli: Cli, ca: str, body: dict[str, Any], folder: str, save_passwords: bool, force: bool) -> None:
    organization, _ = split(ca)
    with cli.out.waiting(f"Creating {ca}"):
        made = cli.client.post(f"/organizations/{segment(organization)}/cas", body)
    for warning in made["ca"]["warnings"]:
        cli.out.warning(warning)
    text = f"Created {made['ca']['id']} ({made['ca']['type']}, {made['ca']['state']})."
    if made["ca"]["state"] == "awaiting-certificate":
        text += f"\nNext: intaglio ca csr {ca} --out {ca}.csr, have it signed, then intaglio ca upload-certificate."
    save_credentials(cli, made, text, folder, save_passwords=save_passwords, force=force)
