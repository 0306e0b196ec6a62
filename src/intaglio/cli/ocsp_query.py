"""`intaglio ocsp query|url` and `ocsp check signer`: asking responders, as a relying party and as their operator."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import typer

from intaglio.cli.commands import Cli, command, noun
from intaglio.cli.files import read_bytes, write_public

query = noun("Ask an OCSP responder about a certificate, and verify its answer.")
url = noun("Say where the status of certificates is asked for.")
signer = noun("Have the signer of every status authority sign.")


@command(url, "url", example=("intaglio ocsp url", "intaglio ocsp url legacy"))
def url_(
    cli: Cli, authority: Annotated[str | None, typer.Argument(help="Only for this status authority.")] = None
) -> None:
    """Say where the status of certificates is asked for: of all, or of those of one status authority."""
    found = cli.client.get("/validation/responder")
    where = found["url"] + (f"/{authority}" if authority else "")
    cli.out.result({**found, "url": where}, where)


@command(signer, "signer", example="intaglio ocsp check signer")
def signer_(cli: Cli) -> None:
    """Have the signer of every status authority make a trial signature; fails when one does not."""
    found = cli.client.get("/validation/signer-check")
    columns = {
        "authority": "AUTHORITY", "issuer": "CA", "signer": "SIGNER", "not_after": "EXPIRES",
        "delegated": "BELIEVED BY ITSELF", "problem": "PROBLEM",
    }  # fmt: skip
    cli.out.table(found, columns, empty="No status authorities.")
    if any(each["problem"] for each in found):
        raise typer.Exit(1)


@command(
    query,
    "query",
    example=(
        "intaglio ocsp query --issuer ca.pem --cert www.pem",
        "intaglio ocsp query --issuer ca.pem --serial 0x4F2A --url http://pki.example/eva --trust signer.pem",
    ),
    local=True,
)
def query_(
    cli: Cli,
    issuer: Annotated[str, typer.Option(help="Certificate of the CA (PEM or DER).")],
    cert: Annotated[str | None, typer.Option(help="Certificate to ask about (PEM or DER).")] = None,
    serial: Annotated[str | None, typer.Option(help="Serial number to ask about: decimal, or 0x and hex.")] = None,
    url: Annotated[str | None, typer.Option(help="URL of the responder; default: the one in the certificate.")] = None,
    trust: Annotated[
        list[str] | None, typer.Option(help="Certificate of a signer that is trusted by itself; repeat for more.")
    ] = None,
    hash: Annotated[str, typer.Option(help="Hash of the CertID: sha1, sha256, sha384, sha512.")] = "sha1",
    nonce: Annotated[bool, typer.Option("--nonce/--no-nonce", help="Send a nonce.")] = True,
    get: Annotated[bool, typer.Option("--get", help="Ask by GET, as caches can answer.")] = False,
    save: Annotated[str | None, typer.Option(help="File for the answer (DER).")] = None,
) -> None:
    """Ask an OCSP responder, ours or any other, about a certificate, and verify its answer.

    Ends with 0 when the answer was verified, whatever it says, and with 1 otherwise.
    """
    from intaglio.core import clock
    from intaglio.core.errors import InvalidInput
    from intaglio.validation.ocsp import client
    from intaglio.x509.certificates import read_certificate

    if (cert is None) == (serial is None):
        raise InvalidInput("Say --cert or --serial.", code="option-needed")
    if hash not in ("sha1", "sha256", "sha384", "sha512"):
        raise InvalidInput(f'"{hash}" is not a hash of a CertID.', remedy="Use sha1, sha256, sha384 or sha512.")
    ca = read_certificate(read_bytes(issuer))
    leaf = None if cert is None else read_certificate(read_bytes(cert))
    number = leaf.serial if leaf is not None else _serial(serial or "")
    where = url or next(iter(leaf.ocsp_urls if leaf is not None else ()), None)
    if where is None:
        raise InvalidInput("The certificate names no OCSP responder.", remedy="Say --url.", code="option-needed")
    trusted = [read_certificate(read_bytes(each)) for each in trust or ()]
    question = client.ask_about(ca, number, hash_name=hash, with_nonce=nonce and not get)  # type: ignore[arg-type]
    with cli.out.waiting(f"Asking {where}"):
        answer = client.send(where, question.request, by_get=get)
    if save is not None:
        write_public(save, answer)
    verdict = client.judge(question, answer, trusted, clock.now())
    name = cert or f"0x{number.hex().upper()}"
    cli.out.result(_members(verdict, where), _text(verdict, name))
    if not verdict.verified:
        raise typer.Exit(1)


def _serial(text: str) -> bytes:
    from intaglio.core.errors import InvalidInput
    from intaglio.core.identifiers import serial_octets

    try:
        number = int(text.replace(":", ""), 16 if text.lower().startswith("0x") or ":" in text else 10)
        if number < 0 or number.bit_length() > 160:
            raise ValueError
    except ValueError:
        raise InvalidInput(f'"{text[:50]}" is not a serial number.', remedy="Write decimal, or 0x and hex.") from None
    return serial_octets(number)


def _members(verdict: Any, where: str) -> dict[str, Any]:
    return {
        "url": where,
        "response_status": verdict.response_status,
        "verified": verdict.verified,
        "problems": list(verdict.problems),
        "status": verdict.status,
        "reason": verdict.reason,
        "revoked_at": _moment(verdict.revoked_at),
        "this_update": _moment(verdict.this_update),
        "next_update": _moment(verdict.next_update),
        "produced_at": _moment(verdict.produced_at),
        "signer": verdict.signer,
    }


def _text(verdict: Any, name: str) -> str:
    """As people know it from `openssl ocsp`."""
    if verdict.response_status != "successful":
        return f"Responder Error: {verdict.response_status}"
    lines = ["Response verify OK"] if verdict.verified else [f"Response not verified: {p}" for p in verdict.problems]
    lines.append(f"{name}: {verdict.status}")
    for label, value in (
        ("This Update", _moment(verdict.this_update)),
        ("Next Update", _moment(verdict.next_update)),
        ("Reason", verdict.reason),
        ("Revocation Time", _moment(verdict.revoked_at)),
        ("Signer", verdict.signer),
    ):
        if value is not None:
            lines.append(f"\t{label}: {value}")
    return "\n".join(lines)


def _moment(moment: datetime | None) -> str | None:
    from intaglio.core.clock import rfc3339

    return None if moment is None else rfc3339(moment)
