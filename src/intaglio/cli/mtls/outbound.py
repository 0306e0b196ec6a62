"""`intaglio mtls outbound`: client credentials for our own calls to others."""

from __future__ import annotations

import base64
from typing import Annotated, Any

import typer

from intaglio.cli.client import segment
from intaglio.cli.commands import Cli, command, noun
from intaglio.cli.files import read_bytes, read_text, write_public
from intaglio.cli.keytool import passwords
from intaglio.cli.listing import All, Filter, Limit, Sort, listed
from intaglio.core.errors import InvalidInput

app = noun("Client credentials for our own calls to others: the partner's interface, its keys, who holds what.")

Target = Annotated[str, typer.Argument(help="ORGANIZATION~NAME.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


@command(
    app,
    "create",
    example=(
        "intaglio mtls outbound create demo~payments --host api.example.com --server-ca partner-ca.pem",
        "intaglio mtls outbound create demo~orders --host '*.orders.example' --minimum-tls 1.3",
    ),
)
def create(
    cli: Cli,
    target: Target,
    host: Annotated[str, typer.Option(help="Host that is called, or *. and a domain.")],
    server_ca: Annotated[str | None, typer.Option(help="CA of the server (PEM); default: those of the system.")] = None,
    sni: Annotated[str, typer.Option(help="Name to ask for and to verify, instead of the host.")] = "",
    minimum_tls: Annotated[str, typer.Option(help="Lowest version: 1.2 or 1.3.")] = "1.2",
    title: Annotated[str, typer.Option(help="Name for people.")] = "",
) -> None:
    """Describe a partner's interface. Then import a PKCS #12, or request a certificate."""
    organization, name = _split(target)
    body = {
        "organization": organization,
        "name": name,
        "host_pattern": host,
        "server_ca": read_text(server_ca) if server_ca else "",
        "sni": sni,
        "minimum_tls": minimum_tls,
        "title": title,
    }
    cli.out.result(cli.client.post("/mtls/v1/outbound", body), f"Created {target} for {host}.")


@command(app, "edit", example="intaglio mtls outbound edit demo~payments --server-ca new-partner-ca.pem")
def edit(
    cli: Cli,
    target: Target,
    server_ca: Annotated[str | None, typer.Option(help="CA of the server (PEM).")] = None,
    sni: Annotated[str | None, typer.Option(help="Name to ask for and to verify; '' is the host.")] = None,
    minimum_tls: Annotated[str | None, typer.Option(help="Lowest version: 1.2 or 1.3.")] = None,
    title: Annotated[str | None, typer.Option(help="Name for people.")] = None,
) -> None:
    """Change how the server is verified, or the title. The host stays: the certificate was shared for that."""
    given = {"title": title, "sni": sni, "minimum_tls": minimum_tls}
    given["server_ca"] = read_text(server_ca) if server_ca else None
    body = {name: value for name, value in given.items() if value is not None}
    cli.out.result(cli.client.patch(_path(target), body), f"Changed {target}.")


@command(app, "list", example="intaglio mtls outbound list")
def list_(cli: Cli, filter: Filter = None, sort: Sort = None, limit: Limit = 100, all: All = False) -> None:
    """List the partner interfaces."""
    rows = listed(cli, "/mtls/v1/outbound", filter, sort, limit, all)
    columns = {
        "organization": "ORGANIZATION",
        "name": "NAME",
        "host_pattern": "HOST",
        "state": "STATE",
        "not_after": "UNTIL",
    }
    cli.out.table(rows, columns, empty="None yet. Make one with: intaglio mtls outbound create ORG~NAME --host HOST")


@command(app, "show", example="intaglio mtls outbound show demo~payments")
def show(cli: Cli, target: Target) -> None:
    """Show a partner interface, its credentials, and who holds them."""
    found = cli.client.get(_path(target))
    if cli.out.as_json:
        cli.out.result(found)
        return
    keys = [each for each in found.pop("credentials") if each["state"] != "retired"]
    found["server_ca"] = "set" if found["server_ca"] else "those of the system"
    cli.out.members(found)
    columns = {"state": "STATE", "subject": "SUBJECT", "not_after": "UNTIL", "sha256": "SHA-256"}
    cli.out.table(keys, columns, empty="No credentials yet.")
    holders = [{**holder, "of": each["state"]} for each in keys for holder in each["holders"]]
    cli.out.table(
        holders, {"id": "ID", "api": "API", "contact": "CONTACT", "of": "CERTIFICATE", "state": "STATE"},
        empty="Nobody holds a certificate yet. Share it with: intaglio mtls outbound share",
    )  # fmt: skip


@command(
    app, "import", example="intaglio mtls outbound import demo~payments client.p12 --password-file client.password"
)
def import_(
    cli: Cli,
    target: Target,
    file: Annotated[str, typer.Argument(help="PKCS #12 file.")],
    password_file: passwords.PasswordFile = None,
    password_fd: passwords.PasswordFd = None,
) -> None:
    """Take key and certificate out of a PKCS #12 file. The first is used at once, later ones after `switch`."""
    data = read_bytes(file)
    password = passwords.existing(f"Password of {file}", password_file, password_fd)
    body = {"pkcs12": base64.b64encode(data).decode(), "password": password}
    _tell(cli, cli.client.post(f"{_path(target)}/import", body))


@command(
    app,
    "request",
    example=(
        "intaglio mtls outbound request demo~payments --subject CN=intaglio --out client.csr",
        "intaglio mtls outbound request demo~payments --subject CN=intaglio --ca demo~issuing "
        "--profile privatessl-tls-client",
    ),
)
def request(
    cli: Cli,
    target: Target,
    subject: Annotated[str, typer.Option(help='Subject, such as "CN=intaglio,O=Example".')],
    dns: Annotated[list[str] | None, typer.Option("--dns", help="DNS name; repeat for more.")] = None,
    key: Annotated[str, typer.Option("--key", help="Key type.")] = "P-256",
    out: Annotated[str | None, typer.Option("--out", "-o", help="File for the request.")] = None,
    ca: Annotated[str | None, typer.Option("--ca", help="Have it issued by this CA at once: ORGANIZATION~ID.")] = None,
    profile: Annotated[str | None, typer.Option("--profile", "-p", help="Profile of that CA.")] = None,
) -> None:
    """Make a key that stays in the keystore, and a certificate request for it."""
    names = [{"type": "dns", "value": each} for each in dns or ()]
    body = {"subject": subject, "names": names, "key_algorithm": key}
    made = cli.client.post(f"{_path(target)}/request", body)["request"]
    if ca is None:
        if out is None:
            print(made, end="")
            return
        write_public(out, made)
        cli.out.result({"file": out}, f"Wrote {out}. Install the certificate with: intaglio mtls outbound install")
        return
    if profile is None:
        raise InvalidInput("A CA signs by a profile.", code="profile-missing", remedy="Give --profile NAME.")
    issued = cli.client.post(f"/cas/{segment(ca)}/certificates", {"profile": profile, "csr": made})
    bundle = issued["certificate"] + "".join(issued["chain"][:-1])
    _tell(cli, cli.client.put(f"{_path(target)}/certificate", {"certificate": bundle}))


@command(app, "install", example="intaglio mtls outbound install demo~payments client.crt")
def install(
    cli: Cli,
    target: Target,
    file: Annotated[str, typer.Argument(help="Certificate (PEM), with its issuers.")],
) -> None:
    """Install the certificate for the open request."""
    _tell(cli, cli.client.put(f"{_path(target)}/certificate", {"certificate": read_text(file)}))


@command(
    app,
    "share",
    example="intaglio mtls outbound share demo~payments --api 'Payments API' --contact ops@example.com --out ours.pem",
)
def share(
    cli: Cli,
    target: Target,
    api: Annotated[str, typer.Option(help="Whose interface gets the certificate.")],
    contact: Annotated[str, typer.Option(help="Who there is to be asked.")] = "",
    out: Annotated[str | None, typer.Option("--out", "-o", help="File for the certificate (PEM).")] = None,
    der_out: Annotated[str | None, typer.Option(help="File for the certificate (DER).")] = None,
) -> None:
    """Record who gets the newest certificate, and show what to give him."""
    found = cli.client.post(f"{_path(target)}/share", {"api": api, "contact": contact})
    if out is not None:
        write_public(out, found["certificate"])
    if der_out is not None:
        write_public(der_out, base64.b64decode(found["der"]))
    if cli.out.as_json:
        cli.out.result(found)
        return
    cli.out.members({"sha256": found["sha256"], "spki_pin": found["spki_pin"], "file": out, "der_file": der_out})
    if out is None and der_out is None:
        print(found["certificate"], end="")


@command(app, "confirm", example="intaglio mtls outbound confirm demo~payments --api 'Payments API'")
def confirm(
    cli: Cli,
    target: Target,
    api: Annotated[str, typer.Option(help="Whose interface has installed it.")],
) -> None:
    """Record that the other side installed the newest certificate it was given."""
    found = cli.client.get(_path(target))
    held = [h for each in found["credentials"] if each["state"] in ("ready", "current") for h in each["holders"]]
    wanted = [each for each in held if each["api"] == api]
    if not wanted:
        raise InvalidInput(f'"{api}" was given no certificate.', code="trust-unknown", remedy="Share it first.")
    after = next((each for each in wanted if each["state"] == "shared"), wanted[0])
    done = cli.client.post(f"{_path(target)}/holders/{after['id']}/confirm")
    cli.out.result(done, f"{api} has the certificate of {target}.")


@command(
    app,
    "rotate",
    example=(
        "intaglio mtls outbound rotate demo~payments",
        "intaglio mtls outbound rotate demo~payments --reason 'The old key was stolen.' --yes",
    ),
)
def rotate(
    cli: Cli,
    target: Target,
    reason: Annotated[str, typer.Option(help="Why to switch although somebody did not confirm.")] = "",
    yes: Yes = False,
) -> None:
    """Use the new credential from the next call on, when everybody confirmed that he has its certificate."""
    if reason:
        cli.confirm(f"Switch {target} although not everybody confirmed?", yes=yes)
    _tell(cli, cli.client.post(f"{_path(target)}/switch", {"reason": reason}))


@command(app, "test", example="intaglio mtls outbound test demo~payments api.example.com:443")
def test(
    cli: Cli,
    target: Target,
    address: Annotated[str, typer.Argument(help="HOST:PORT of the partner.")],
) -> None:
    """Connect to the partner with the credential in use, and say what happened. Exit code 1 when it fails."""
    from intaglio.mtls.posture.scanners.endpoints import Endpoint

    endpoint = Endpoint.parse(address)
    found = cli.client.post(f"{_path(target)}/test", {"host": endpoint.host, "port": endpoint.port})
    if found["ok"]:
        text = f"Accepted by {found['server_subject']} ({found['tls_version']}, {found['cipher']})."
    else:
        text = f"{found['why']} {found['remedy']} [{found['code']}]"
    cli.out.result(found, text)
    if not found["ok"]:
        raise typer.Exit(1)


@command(app, "due", example="intaglio mtls outbound due")
def due(cli: Cli) -> None:
    """List the credentials in use that end soon: within 72 hours, long-lived ones within 30 days."""
    columns = {
        "organization": "ORGANIZATION",
        "name": "NAME",
        "not_after": "UNTIL",
        "stage": "STAGE",
        "successor": "SUCCESSOR READY",
    }
    cli.out.table(cli.client.get("/mtls/v1/outbound-due"), columns, empty="Nothing ends soon.")


@command(app, "retire", example="intaglio mtls outbound retire demo~payments --yes")
def retire(cli: Cli, target: Target, yes: Yes = False) -> None:
    """End a partner interface, and destroy its keys."""
    cli.confirm(f"Retire {target} and destroy its keys?", yes=yes)
    cli.out.result(cli.client.delete(_path(target)), f"Retired {target}.")


def _tell(cli: Cli, found: dict[str, Any]) -> None:
    name = f"{found['organization']}~{found['name']}"
    if found["state"] == "rotating":
        missing = ", ".join(found["missing_confirmations"])
        text = f"{name} has a new certificate. Before `rotate`: share it and have it confirmed ({missing})."
        text = text if missing else f"{name} has a new certificate, ready for `rotate`."
    else:
        text = f"{name} is {found['state']}, until {found['not_after'] or 'nothing is installed'}."
    cli.out.result(found, text)


def _split(target: str) -> tuple[str, str]:
    organization, tilde, name = target.partition("~")
    if not tilde or not organization or not name:
        raise InvalidInput(f'"{target}" is not ORGANIZATION~NAME.', code="name-invalid")
    return organization, name


def _path(target: str) -> str:
    organization, name = _split(target)
    return f"/mtls/v1/outbound/{segment(organization)}/{segment(name)}"
