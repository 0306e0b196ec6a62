"""`intaglio keytool inspect`, `convert`, `verify` and `share`: what a file is, and whether it holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from intaglio.cli.commands import Cli, command, noun
from intaglio.cli.files import read_bytes
from intaglio.cli.keytool import passwords
from intaglio.cli.keytool.files import PRIVATE, PUBLIC, require_free, write_new
from intaglio.cli.keytool.key import Force
from intaglio.cli.keytool.passwords import PasswordFd, PasswordFile
from intaglio.core.errors import InvalidInput

if TYPE_CHECKING:
    from intaglio.mtls.toolkit.inspection import Inspected

inspect_app = noun("Say what a file is, and what is wrong with it.")
convert_app = noun("The same content in another container: PEM, DER, P7B.")
verify_app = noun("Verify a certificate step by step.")
share_app = noun("What to give to a partner: certificate, fingerprint, pin.")

File = Annotated[str, typer.Argument(help="Key, request, certificate, CRL, PKCS #7 or PKCS #12; - is standard input.")]


@command(
    inspect_app,
    "inspect",
    example=("intaglio keytool inspect client.p12", "intaglio keytool inspect ca.pem --json"),
    local=True,
)
def inspect(cli: Cli, file: File, password_file: PasswordFile = None, password_fd: PasswordFd = None) -> None:
    """Say what a file is, how strong it is, and what is wrong with it. A password opens keys and PKCS #12 files."""
    from intaglio.core import clock
    from intaglio.mtls.toolkit import inspection

    given = password_file is not None or password_fd is not None
    password = passwords.existing(f"Password of {file}", password_file, password_fd) if given else None
    found = inspection.inspect(read_bytes(file), now=clock.now(), password=password)
    if cli.out.as_json:
        cli.out.result([each.as_json() for each in found])
        return
    for position, each in enumerate(found):
        print(("\n" if position else "") + each.kind[0].upper() + each.kind[1:])
        cli.out.members(_shown(each))
        for warning in each.warnings:
            print(f"! {warning}")


def _shown(found: Inspected) -> dict[str, Any]:
    shown = dict(found.facts)
    for number, inner in enumerate(shown.pop("certificates", ()), start=1):
        shown[f"certificate {number}"] = f"{inner['subject']} (until {inner['not_after']}, by {inner['issuer']})"
    return shown


@command(
    convert_app,
    "convert",
    example=(
        "intaglio keytool convert client.crt --to der --out client.cer",
        "intaglio keytool convert chain.pem --to p7b --out chain.p7b",
    ),
    local=True,
)
def convert(
    cli: Cli,
    file: File,
    to: Annotated[str, typer.Option(help="pem, der or p7b (for p12 see: intaglio keytool p12).")],
    out: Annotated[str, typer.Option("--out", "-o", help="File for the result; - is standard output.")],
    force: Force = False,
) -> None:
    """Write the same content in another container. Keys keep their encryption, and their files mode 0600."""
    from intaglio.core import clock
    from intaglio.mtls.toolkit import conversion, inspection
    from intaglio.mtls.toolkit.choices import chosen_from
    from intaglio.mtls.toolkit.conversion import Format

    require_free(out, force=force)
    data = read_bytes(file)
    kinds = {each.kind for each in inspection.inspect(data, now=clock.now())}
    wanted = chosen_from(Format, to, "--to")
    if "PKCS #12" in kinds or wanted is Format.P12:
        raise InvalidInput(
            "PKCS #12 files are made and taken apart with their password.",
            code="conversion-impossible",
            remedy="Use: intaglio keytool p12 create, p12 extract or p12 convert.",
        )
    made = conversion.convert(data, wanted)
    write_new(out, made, mode=PRIVATE if "private key" in kinds else PUBLIC, force=force)
    if out != "-":
        cli.out.result({"file": out, "format": wanted.value}, f"Wrote {out}.")


@command(
    verify_app,
    "verify",
    example=(
        "intaglio keytool verify client.crt --ca-file root.pem --untrusted issuing.pem --purpose client",
        "intaglio keytool verify server.crt --ca-file root.pem --purpose server --host www.example.com --crl ca.crl",
    ),
    local=True,
)
def verify(
    cli: Cli,
    file: File,
    trusted: Annotated[list[str], typer.Option("--ca-file", help="Trusted certificates; repeat for more.")],
    untrusted: Annotated[list[str] | None, typer.Option(help="Further certificates for the chain.")] = None,
    purpose: Annotated[str, typer.Option(help="client, server or any.")] = "any",
    host: Annotated[str | None, typer.Option(help="Name or address the server is called by.")] = None,
    crl: Annotated[list[str] | None, typer.Option(help="CRL (PEM or DER); repeat for more.")] = None,
    ocsp: Annotated[list[str] | None, typer.Option(help="OCSP answer (DER); repeat for more.")] = None,
    online: Annotated[bool, typer.Option("--online", help="Fetch status from where the certificates say.")] = False,
    require_status: Annotated[bool, typer.Option(help="An unknown status is a failure.")] = False,
    at: Annotated[str | None, typer.Option(help="Moment in ISO 8601 instead of now.")] = None,
) -> None:
    """Verify a certificate and say at every step what was found. Exit code 1 when it does not hold."""
    from intaglio.mtls.toolkit import verification
    from intaglio.x509.certificates import read_certificates

    if purpose not in ("client", "server", "any"):
        raise InvalidInput(f'"{purpose}" is not a purpose.', code="choice-unknown", remedy="Use client, server or any.")
    leaf, *others = read_certificates(read_bytes(file))
    others += [each for path in untrusted or () for each in read_certificates(read_bytes(path))]
    anchors = [each for path in trusted for each in read_certificates(read_bytes(path))]
    asked = verification.Question(
        at=_moment(at),
        purpose=purpose,  # type: ignore[arg-type]
        host=host,
        crls=[read_bytes(path) for path in crl or ()],
        ocsp=[read_bytes(path) for path in ocsp or ()],
        require_status=require_status or online,
    )
    if online:
        from intaglio.cli.keytool.online import with_fetched_status

        asked = with_fetched_status(cli, leaf, others, anchors, asked)
    verdict = verification.verify(leaf, others, anchors, asked)
    result = {
        "valid": verdict.valid,
        "reason": verdict.reason,
        "steps": [{"name": step.name, "holds": step.holds, "why": step.why} for step in verdict.steps],
        "chain": [each.subject.rfc4514 for each in verdict.chain],
    }
    marks = {True: "ok  ", False: "FAIL", None: "-   "}
    lines = [f"{marks[step.holds]} {step.name:<10} {step.why}" for step in verdict.steps]
    cli.out.result(result, "\n".join([*lines, "Valid." if verdict.valid else "Not valid."]))
    if not verdict.valid:
        raise typer.Exit(1)


def _moment(text: str | None) -> Any:
    from datetime import UTC, datetime

    from intaglio.core import clock

    if text is None:
        return clock.now()
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidInput(
            f'"{text}" is not a moment.', code="moment-invalid", remedy="Write it like 2027-01-31T12:00Z."
        ) from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


@command(share_app, "share", example="intaglio keytool share client.crt --der-out client.cer", local=True)
def share(
    cli: Cli,
    file: Annotated[str, typer.Argument(help="Certificate; never the key.")],
    out: Annotated[str | None, typer.Option("--out", "-o", help="File for the certificate (PEM).")] = None,
    der_out: Annotated[str | None, typer.Option(help="File for the certificate (DER).")] = None,
    force: Force = False,
) -> None:
    """Show what a partner needs to recognise this identity, and write the certificate in the form he wants."""
    from intaglio.mtls.toolkit import sharing

    require_free(out, der_out, force=force)
    data = read_bytes(file)
    if b"PRIVATE KEY-----" in data:
        raise InvalidInput(
            f"{file} contains a private key, which is never given away.",
            code="private-key-not-shared",
            remedy="Give the file with the certificate only.",
        )
    found = sharing.share(data)
    for path, content in ((out, found.pem.encode()), (der_out, found.der)):
        if path is not None:
            write_new(path, content, mode=PUBLIC, force=force)
    result = {
        "subject": found.subject,
        "issuer": found.issuer,
        "serial_number": found.serial_number,
        "not_after": found.not_after,
        "sha256": found.sha256,
        "spki_pin": found.spki_pin,
        "pem_file": out,
        "der_file": der_out,
    }
    cli.out.result(result)
    if out is None and der_out is None and not cli.out.as_json:
        print(found.pem, end="")
