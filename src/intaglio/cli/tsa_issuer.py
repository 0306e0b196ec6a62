"""`intaglio tsa issuer`: endpoints at which timestamps are asked for."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from intaglio.cli.client import segment
from intaglio.cli.commands import Cli, command, noun
from intaglio.cli.files import read_pem_or_der, write_public

app = noun("Timestamp issuers: endpoints with their policy and certificate.")

Name = Annotated[str, typer.Argument(metavar="ISSUER", help="Id of the issuer, which is part of its URL.")]
Policy = Annotated[str | None, typer.Option(help="OID of the policy that tokens are given under.")]
Accuracy = Annotated[str | None, typer.Option(help="Such as 1s or 500ms; `none` leaves it out of tokens.")]
Hashes = Annotated[list[str] | None, typer.Option("--hash", help="Hash algorithm of requests; repeat for more.")]
Digest = Annotated[str | None, typer.Option(help="Digest of the signature: sha256, sha384 or sha512.")]
Ordering = Annotated[bool | None, typer.Option(help="Tokens can be sorted by their time alone.")]
SerialOctets = Annotated[int | None, typer.Option(help="Length of serial numbers in octets, 8 to 20.")]
Qualified = Annotated[bool | None, typer.Option(help="Call tokens qualified electronic timestamps.")]
LogResponses = Annotated[bool | None, typer.Option(help="Write every response into the log.")]
Chain = Annotated[list[str] | None, typer.Option("--chain", help="CA certificates up to the root; repeat for more.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Out = Annotated[str, typer.Option("--out", "-o", help="File to write; - is standard output.")]


@command(
    app,
    "create",
    example=(
        "intaglio tsa issuer create standard --policy 1.3.6.1.4.1.99999.1 --ca demo~issuing",
        "intaglio tsa issuer create archive --policy 1.3.6.1.4.1.99999.2 --key RSA-4096 --csr archive.csr",
    ),
)
def create(
    cli: Cli,
    name: Name,
    policy: Annotated[str, typer.Option(help="OID of the policy that tokens are given under.")],
    ca: Annotated[str | None, typer.Option(help="Our CA that certifies it, now and always: ORGANIZATION~ID.")] = None,
    share_with: Annotated[str | None, typer.Option(help="Issuer whose certificate it signs with too.")] = None,
    csr: Annotated[str | None, typer.Option(help="Without --ca: file for the request to another CA.")] = None,
    key: Annotated[str, typer.Option("--key", help="P-256, P-384, P-521, RSA-2048, RSA-3072 or RSA-4096.")] = "P-256",
    provider: Annotated[str, typer.Option(help="Where the key is made: software, pkcs11:TOKEN.")] = "software",
    subject: Annotated[str, typer.Option(help="Subject of the certificate; made up without it.")] = "",
    lifetime_days: Annotated[int, typer.Option(help="Life of a certificate, where our CA makes it.")] = 1095,
    certificate_policy: Annotated[
        list[str] | None, typer.Option(help="Certificate policy (OID); repeat for more.")
    ] = None,
    access_information: Annotated[bool, typer.Option(help="Say in certificates where to ask for their status.")] = True,
    accuracy: Accuracy = None,
    hash: Hashes = None,
    digest: Digest = None,
    ordering: Ordering = None,
    serial_octets: SerialOctets = None,
    qualified: Qualified = None,
    log_responses: LogResponses = None,
) -> None:
    """Create a timestamp issuer. With --ca it can give timestamps at once, and its certificate is renewed by itself;
    otherwise a request is made, and what another CA made of it is imported."""
    changes = _profile(policy, accuracy, hash, digest, ordering, serial_octets, qualified, log_responses)
    signer = {
        "key_algorithm": key,
        "provider": provider,
        "subject": subject,
        "lifetime_days": lifetime_days,
        "policies": certificate_policy or [],
        "access_information": access_information,
    }
    body = {"name": name, "profile": changes, "ca": ca, "share_with": share_with, "signer": signer}
    with cli.out.waiting(f"Creating {name}"):
        made = cli.client.post("/timestamping/issuers", body)
    if csr is not None and made["request_pending"]:
        write_public(csr, cli.client.post(f"/timestamping/issuers/{segment(name)}/csr", {}))
    if made["certificate"] is None:
        where = csr or f"intaglio tsa issuer csr {name}"
        text = f"Created {name}. Next: have the request signed ({where}), then intaglio tsa issuer import {name} FILE."
    else:
        text = f"Created {name}: {made['url']}"
    cli.out.result(made, text)


@command(app, "list", example="intaglio tsa issuer list")
def list_(cli: Cli) -> None:
    """List the timestamp issuers."""
    rows = cli.client.get("/timestamping/issuers", limit=1000)["items"]
    columns = {
        "name": "ISSUER",
        "enabled": "ENABLED",
        "profile.policy": "POLICY",
        "ca": "CA",
        "key_algorithm": "KEY",
        "certificate.not_after": "EXPIRES",
        "url": "URL",
    }
    cli.out.table(rows, columns, empty="None yet.")


@command(app, "show", example="intaglio tsa issuer show standard --certificate tsa.pem")
def show(
    cli: Cli,
    name: Name,
    certificate: Annotated[str | None, typer.Option(help="File for the certificate (PEM).")] = None,
    chain: Annotated[str | None, typer.Option(help="File for its CA certificates (PEM).")] = None,
) -> None:
    """Show an issuer."""
    found = cli.client.get(f"/timestamping/issuers/{segment(name)}")
    if found["certificate"] is not None:
        if certificate is not None:
            write_public(certificate, found["certificate"]["certificate"])
        if chain is not None:
            write_public(chain, "".join(found["certificate"]["chain"]))
    cli.out.result(found, None if cli.out.as_json else _shown(found))


@command(app, "set", example="intaglio tsa issuer set standard --accuracy 500ms --ordering")
def set_(
    cli: Cli,
    name: Name,
    policy: Policy = None,
    accuracy: Accuracy = None,
    hash: Hashes = None,
    digest: Digest = None,
    ordering: Ordering = None,
    serial_octets: SerialOctets = None,
    qualified: Qualified = None,
    log_responses: LogResponses = None,
    enabled: Annotated[bool | None, typer.Option("--enable/--disable", help="Whether it gives timestamps.")] = None,
    formerly_enabled: Annotated[
        bool | None, typer.Option("--enabled/--no-enabled", hidden=True, help="As --enable and --disable.")
    ] = None,
) -> None:
    """Change what tokens say; what is not named stays. It counts on every process at once."""
    enabled = formerly_enabled if enabled is None else enabled
    changes = _profile(policy, accuracy, hash, digest, ordering, serial_octets, qualified, log_responses)
    found = cli.client.patch(f"/timestamping/issuers/{segment(name)}", {"profile": changes, "enabled": enabled})
    cli.out.result(found, f"{name} is at version {found['version']}.")


@command(
    app,
    "validate",
    example=(
        "intaglio tsa issuer validate standard",
        "intaglio tsa issuer validate archive --certificate tsa.pem --chain ca.pem",
    ),
)
def validate(
    cli: Cli,
    name: Name,
    certificate: Annotated[str | None, typer.Option(help="Certificate to judge instead of the one in use.")] = None,
    chain: Chain = None,
    accuracy: Accuracy = None,
    hash: Hashes = None,
    digest: Digest = None,
    serial_octets: SerialOctets = None,
) -> None:
    """Say what is wrong with an issuer, or would be with another certificate or profile. Exit status 1 for errors."""
    changes = _profile(None, accuracy, hash, digest, None, serial_octets, None, None)
    body: dict[str, Any] = {"profile": changes, "chain": [read_pem_or_der(each) for each in chain or []]}
    if certificate is not None:
        body["certificate"] = read_pem_or_der(certificate)
    found = cli.client.post(f"/timestamping/issuers/{segment(name)}/validate", body)
    lines = [f"{each['level']}: {each['detail']} {each['remedy']}".rstrip() for each in found["findings"]]
    cli.out.result(found, "\n".join(lines) or f"{name} is in order.")
    if not found["ok"]:
        raise typer.Exit(1)


@command(app, "delete", example="intaglio tsa issuer delete archive --yes")
def delete(cli: Cli, name: Name, yes: Yes = False) -> None:
    """Delete an issuer and its key. Its certificate stays valid, so that its timestamps can be verified."""
    cli.confirm(f"Delete the timestamp issuer {name} and its key?", yes=yes)
    cli.client.delete(f"/timestamping/issuers/{segment(name)}")
    cli.out.result({"deleted": name}, f"Deleted {name}.")


@command(app, "csr", example="intaglio tsa issuer csr archive --out archive.csr")
def csr(
    cli: Cli,
    name: Name,
    new_key: Annotated[bool, typer.Option("--new-key", help="Over a new key instead of the one in use.")] = False,
    out: Out = "-",
) -> None:
    """Make a certificate request (PKCS #10) for another CA to sign."""
    write_public(out, cli.client.post(f"/timestamping/issuers/{segment(name)}/csr", {"new_key": new_key}))
    if out != "-":
        cli.out.result({"file": out}, f"Wrote {out}. Next: intaglio tsa issuer import {name} FILE.")


@command(app, "import", example="intaglio tsa issuer import archive tsa.pem --chain ca.pem")
def import_(
    cli: Cli,
    name: Name,
    file: Annotated[str, typer.Argument(help="Certificate, CA certificates behind it: PEM, DER or PKCS #7.")],
    chain: Chain = None,
) -> None:
    """Import the certificate that another CA made. What does not fit leaves the old one in use."""
    body = {"certificate": read_pem_or_der(file), "chain": [read_pem_or_der(each) for each in chain or []]}
    found = cli.client.put(f"/timestamping/issuers/{segment(name)}/certificate", body)
    cli.out.result(found, f"{name} signs with {found['certificate']['subject']} until {_end(found)}.")


@command(app, "renew", example="intaglio tsa issuer renew standard")
def renew(cli: Cli, name: Name) -> None:
    """Make a new key and certificate now; what the old ones signed stays valid."""
    with cli.out.waiting(f"Making a key for {name}"):
        found = cli.client.post(f"/timestamping/issuers/{segment(name)}/renew", {})
    cli.out.result(found, f"{name} signs with a new certificate until {_end(found)}.")


def _profile(
    policy: str | None,
    accuracy: str | None,
    hashes: list[str] | None,
    digest: str | None,
    ordering: bool | None,
    serial_octets: int | None,
    qualified: bool | None,
    log_responses: bool | None,
) -> dict[str, Any]:
    """The members of a profile that were named."""
    named = {
        "policy": policy,
        "accuracy": accuracy,
        "hashes": hashes or None,
        "digest": digest,
        "ordering": ordering,
        "serial_octets": serial_octets,
        "qualified": qualified,
        "log_responses": log_responses,
    }
    return {name: value for name, value in named.items() if value is not None}


def _end(found: dict[str, Any]) -> str:
    return str(found["certificate"]["not_after"])


def _shown(found: dict[str, Any]) -> str:
    """An issuer for people: one line per fact, the certificate by its dates."""
    profile, certificate = found["profile"], found["certificate"] or {}
    accuracy = profile["accuracy"]
    facts = {
        "url": found["url"],
        "enabled": "yes" if found["enabled"] else "no",
        "policy": profile["policy"],
        "accuracy": "not stated" if accuracy is None else f"{accuracy / 1_000_000:g} s",
        "hashes": ", ".join(profile["hashes"]),
        "digest": profile["digest"],
        "ordering": "yes" if profile["ordering"] else "no",
        "serial octets": profile["serial_octets"],
        "qualified": "yes" if profile["qualified"] else "no",
        "key": f"{found['key_algorithm']} ({found['provider']})",
        "certified by": found["ca"] or "another CA",
        "shared with": ", ".join(found["shared_with"]),
        "subject": certificate.get("subject", "no certificate yet"),
        "expires": certificate.get("not_after", ""),
        "renewed": certificate.get("renew_at") or "",
    }
    width = max(map(len, facts))
    return "\n".join(f"{name:{width}}  {value}" for name, value in facts.items() if value != "")
