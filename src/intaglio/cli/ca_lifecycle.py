"""`intaglio ca`: edit, rights, delete, upload-certificate, renew, rekey."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from intaglio.cli.ca_create import Encoding, NotAfter, Options, end_of, parse_options
from intaglio.cli.client import segment
from intaglio.cli.commands import Cli, command
from intaglio.cli.credential_files import CredentialsDir, Force, Passwords, save_credentials
from intaglio.cli.files import read_pem_or_der

Ca = Annotated[str, typer.Argument(metavar="CA", help="ORGANIZATION~ID")]
Client = Annotated[str, typer.Argument(metavar="CLIENT", help="Name of the gateway client.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Names = Annotated[list[str] | None, typer.Option(help="Repeat for more.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module to the noun."""
    example = "intaglio ca edit demo~issuing --add-profile privatessl-tls-client --remove-auditor bob"
    command(app, "edit", example=example)(edit)
    command(app, "grants", example="intaglio ca grants demo~issuing")(grants)
    command(app, "grant", example="intaglio ca grant demo~issuing ci --right policy-constrained-tenant")(grant)
    command(app, "revoke-grant", example="intaglio ca revoke-grant demo~issuing ci --yes")(revoke_grant)
    command(app, "delete", example="intaglio ca delete demo~issuing --revoke-all --yes")(delete)
    upload = "intaglio ca upload-certificate demo~issuing issuing.pem"
    command(app, "upload-certificate", example=upload)(upload_certificate)
    command(app, "renew", example="intaglio ca renew demo~issuing")(renew)
    command(app, "rekey", example="intaglio ca rekey demo~issuing --key P-384")(rekey)


def edit(
    cli: Cli,
    ca: Ca,
    add_profile: Names = None,
    remove_profile: Names = None,
    add_administrator: Names = None,
    remove_administrator: Names = None,
    add_auditor: Names = None,
    remove_auditor: Names = None,
    label: Annotated[str | None, typer.Option(help="Name for people.")] = None,
    option: Options = None,
    encoding: Encoding = "modern",
    credentials_dir: CredentialsDir = ".",
    save_passwords: Passwords = False,
    force: Force = False,
) -> None:
    """Change profiles, administrators, auditors, label or options of a CA.

    A removed name is refused at once; a removed profile is not issued with any more. New names get a credential.
    """
    path = f"/cas/{segment(ca)}"
    current = cli.client.get(path)
    body: dict[str, Any] = {"label": label}
    for member, added, removed in (
        ("profiles", add_profile, remove_profile),
        ("administrators", add_administrator, remove_administrator),
        ("auditors", add_auditor, remove_auditor),
    ):
        if added or removed:
            body[member] = _changed_list(current[member], added or [], removed or [])
    if option:
        body["options"] = {**current["options"], **parse_options(option)}
    if encoding != "modern":
        body["credentials"] = {"compatibility": encoding}
    made = cli.client.patch(path, body)
    save_credentials(cli, made, f"Changed {ca}.", credentials_dir, save_passwords=save_passwords, force=force)


def grants(cli: Cli, ca: Ca) -> None:
    """List who may do what on a CA through the gateway."""
    found = cli.client.get(f"/cas/{segment(ca)}/grants", limit=1000)["items"]
    cli.out.table(found, {"name": "CLIENT", "right": "RIGHT"}, empty="Nobody.")


def grant(
    cli: Cli,
    ca: Ca,
    name: Client,
    right: Annotated[
        str,
        typer.Option(
            help="administrator, auditor, policy-override-tenant, policy-constrained-tenant or read-only-tenant."
        ),
    ] = "administrator",
    csr: Annotated[str | None, typer.Option(help="Certificate request: a new client keeps its own key.")] = None,
    encoding: Encoding = "modern",
    credentials_dir: CredentialsDir = ".",
    save_passwords: Passwords = False,
    force: Force = False,
) -> None:
    """Give a client a right on a CA in place of the one it has. A new client gets a credential."""
    wish = {"compatibility": encoding, "csr": read_pem_or_der(csr) if csr else None}
    path = f"/cas/{segment(ca)}/grants/{segment(name)}"
    made = cli.client.put(path, {"right": right, "credential": wish})
    answer = {
        "name": made["name"],
        "right": made["right"],
        "credentials": [made["credential"]] * bool(made["credential"]),
    }
    text = f"{name} is {right} of {ca}."
    save_credentials(cli, answer, text, credentials_dir, save_passwords=save_passwords, force=force)


def revoke_grant(cli: Cli, ca: Ca, name: Client, yes: Yes = False) -> None:
    """Take a client's right on a CA; it is refused there at once."""
    cli.confirm(f"Take the right of {name} on {ca}?", yes=yes)
    cli.client.delete(f"/cas/{segment(ca)}/grants/{segment(name)}")
    cli.out.result({"revoked": name}, f"{name} has no right on {ca} any more.")


def delete(
    cli: Cli,
    ca: Ca,
    force: Annotated[bool, typer.Option("--force", help="Although there are CAs below it; they stay.")] = False,
    revoke_all: Annotated[bool, typer.Option("--revoke-all", help="Revoke every certificate it issued first.")] = False,
    yes: Yes = False,
) -> None:
    """Delete a CA. Its certificates and final CRL stay published; its id stays reserved for a while."""
    cli.confirm(f"Delete {ca}? Nothing more can be issued by it.", yes=yes)
    with cli.out.waiting(f"Deleting {ca}"):
        done = cli.client.delete(f"/cas/{segment(ca)}", force=force, revoke_all=revoke_all)
    text = f"Deleted {ca}; {done['revoked']} certificates revoked. The id is reserved until {done['reserved_until']}."
    if done["orphans"]:
        text += f"\nWithout their issuer now: {', '.join(done['orphans'])}"
    cli.out.result(done, text)


def upload_certificate(
    cli: Cli,
    ca: Ca,
    file: Annotated[str, typer.Argument(help="Certificate: PEM, DER or PKCS #7; - is standard input.")],
) -> None:
    """Give a waiting CA the certificate that its external root made; for an external root, its renewed certificate."""
    found = cli.client.put(f"/cas/{segment(ca)}/certificate", {"certificate": read_pem_or_der(file)})
    for warning in found["warnings"]:
        cli.out.warning(warning)
    cli.out.result(found, f"{ca} is {found['state']}, valid until {found['not_after']}.")


def renew(cli: Cli, ca: Ca, not_after: NotAfter = None) -> None:
    """Give a CA a new certificate for the key it has; below an external root, a request for one."""
    found = cli.client.post(f"/cas/{segment(ca)}/renew", {"not_after": end_of(not_after)})
    cli.out.result(found, _outcome(ca, "renewed", found))


def rekey(
    cli: Cli,
    ca: Ca,
    key: Annotated[str | None, typer.Option("--key", help="Key type; default: that of the present key.")] = None,
    provider: Annotated[
        str | None, typer.Option(help="Where it is made: software, or pkcs11:TOKEN; default: where the present one is.")
    ] = None,
    not_after: NotAfter = None,
) -> None:
    """Give a CA a new key and a certificate for it. What the old key signed stays valid and is still answered for."""
    body = {"key_algorithm": key, "key_provider": provider, "not_after": end_of(not_after)}
    with cli.out.waiting(f"Making a key for {ca}"):
        found = cli.client.post(f"/cas/{segment(ca)}/rekey", body)
    cli.out.result(found, _outcome(ca, "re-keyed", found))


def _outcome(ca: str, what: str, found: dict[str, Any]) -> str:
    if found["request_pending"]:
        return f"Next: intaglio ca csr {ca}, have it signed, then intaglio ca upload-certificate {ca} FILE."
    return f"{ca} is {what} (key generation {found['generation']}), valid until {found['not_after']}."


def _changed_list(current: list[str], added: list[str], removed: list[str]) -> list[str]:
    gone = {name.casefold().replace("_", "-") for name in removed}
    kept = [name for name in current if name.casefold().replace("_", "-") not in gone]
    return [*kept, *(name for name in added if name not in kept)]
