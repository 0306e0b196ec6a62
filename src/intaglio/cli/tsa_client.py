"""`intaglio tsa stamp|verify|url`: asking for timestamps and verifying them, as a relying party."""

from __future__ import annotations

from typing import Annotated, Any

import httpx
import typer

from intaglio.cli.client import segment
from intaglio.cli.commands import Cli, command, noun
from intaglio.cli.files import read_bytes, write_public
from intaglio.core.clock import rfc3339
from intaglio.core.errors import InvalidInput, Unavailable
from intaglio.core.identifiers import serial_hex
from intaglio.core.outgoing import joined
from intaglio.timestamping.reading import MAX_REPLY_OCTETS, Token, read_reply
from intaglio.timestamping.verification import Query, hash_of, make_query, verify_token
from intaglio.x509.certificates import CertificateInfo, read_certificates

_TIMEOUT = httpx.Timeout(30.0)
_QUERY, _REPLY = "application/timestamp-query", "application/timestamp-reply"

url = noun("Say where timestamps of an issuer are asked for.")
stamp = noun("Have a file timestamped.")
verify = noun("Verify the timestamp of a file.")

File = Annotated[str, typer.Argument(help="File; - is standard input.")]


@command(url, "url", example="intaglio tsa url standard")
def url_(cli: Cli, name: Annotated[str, typer.Argument(metavar="ISSUER", help="Id of the issuer.")]) -> None:
    """Say where timestamps of an issuer are asked for."""
    found = cli.client.get(f"/timestamping/issuers/{segment(name)}")
    cli.out.result({"url": found["url"]}, found["url"])


@command(
    stamp,
    "stamp",
    example=(
        "intaglio tsa stamp contract.pdf",
        "intaglio tsa stamp contract.pdf --issuer standard",
        "intaglio tsa stamp contract.pdf --url http://tsa.example/tsa/standard --out contract.tsr",
    ),
)
def stamp_(
    cli: Cli,
    file: File,
    issuer: Annotated[
        str | None, typer.Option(help="Issuer of the server that commands talk to; default: the only one.")
    ] = None,
    url: Annotated[str | None, typer.Option(help="URL of any timestamp service (RFC 3161).")] = None,
    out: Annotated[str | None, typer.Option("--out", "-o", help="File for the reply; default: FILE.tsr.")] = None,
    hash: Annotated[str, typer.Option(help="sha256, sha384, sha512, sha3-256 ...")] = "sha256",
    policy: Annotated[str | None, typer.Option(help="OID of the policy that is demanded.")] = None,
    certificates: Annotated[bool, typer.Option(help="Have certificates put into the timestamp.")] = True,
) -> None:
    """Have a file timestamped: only its hash is sent. The reply is kept as RFC 3161 has it, for `tsa verify` and
    `openssl ts`."""
    if issuer is not None and url is not None:
        raise InvalidInput("--issuer and --url exclude each other.", code="option-conflict")
    where = url or _url_of(cli, issuer)
    query = make_query(hash_of(read_bytes(file), hash), hash, policy=policy, certificates=certificates)
    reply = _asked(where, query)
    token = read_reply(reply)
    if token.info.nonce != query.nonce or token.info.digest != query.digest:
        raise Unavailable("The service answered another request.", code="timestamp-other-request")
    target = out or ("timestamp.tsr" if file == "-" else f"{file}.tsr")
    write_public(target, reply)
    told = {"file": target, "url": where, **_members(token)}
    cli.out.result(told, f"{target}: {told['time']}, serial number {told['serial_number']}")


@command(
    verify,
    "verify",
    example="intaglio tsa verify contract.pdf --timestamp contract.pdf.tsr --root root.pem",
    local=True,
)
def verify_(
    cli: Cli,
    file: File,
    root: Annotated[list[str], typer.Option("--root", help="Root certificates (PEM or DER) that are trusted.")],
    timestamp: Annotated[str | None, typer.Option(help="Reply or token; default: FILE.tsr.")] = None,
    untrusted: Annotated[
        list[str] | None, typer.Option("--chain", help="CA certificates between signer and root, if they are missing.")
    ] = None,
) -> None:
    """Verify the timestamp of a file: that it is about this file, and who vouches for it. Needs no server.

    Whether certificates were revoked is not looked at.
    """
    kept = timestamp or f"{file}.tsr"
    token = read_reply(read_bytes(kept))
    if token.info.hash_name is None:
        raise InvalidInput("The hash algorithm of the timestamp is not known here.", code="hash-algorithm-unknown")
    digest = hash_of(read_bytes(file), token.info.hash_name)
    chain = verify_token(token, _read(root), digest=digest, untrusted=_read(untrusted or []))
    told = {**_members(token), "signer": chain[0].subject.rfc4514, "root": chain[-1].subject.rfc4514}
    text = f"Good: {file} existed at {told['time']}, says {told['signer']}."
    cli.out.result(told, text)
    cli.out.note(f"The same by OpenSSL: openssl ts -verify -data {file} -in {kept} -CAfile {root[0]}")


def _url_of(cli: Cli, issuer: str | None) -> str:
    """Where an issuer is asked; without a name the only one that is enabled. Raises InvalidInput, NotFound."""
    if issuer is not None:
        return str(cli.client.get(f"/timestamping/issuers/{segment(issuer)}")["url"])
    found = [each for each in cli.client.get("/timestamping/issuers", limit=1000)["items"] if each["enabled"]]
    if len(found) != 1:
        names = ", ".join(each["name"] for each in found)
        raise InvalidInput(
            f"There are several timestamp issuers: {names}." if found else "There is no timestamp issuer here.",
            code="option-needed",
            remedy="Say --issuer or --url.",
        )
    return str(found[0]["url"])


def _asked(where: str, query: Query) -> bytes:
    """The reply of a service. Raises Unavailable."""
    try:
        headers = {"content-type": _QUERY, "accept": _REPLY, "accept-encoding": "identity"}
        with httpx.stream("POST", where, content=query.der, headers=headers, timeout=_TIMEOUT) as answer:
            body = joined(answer.iter_raw(), MAX_REPLY_OCTETS)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise Unavailable(f"{where} cannot be reached: {error}.", code="timestamp-service-unreachable") from None
    kind = answer.headers.get("content-type", "").partition(";")[0].strip()
    if body is None or answer.status_code != 200 or kind != _REPLY:
        said = body.decode("utf-8", "replace").strip()[:200] if body and kind.startswith("text/") else ""
        raise Unavailable(
            f"{where} gives no timestamps: HTTP status {answer.status_code}. {said}".strip(),
            code="timestamp-service-refuses",
        )
    return body


def _members(token: Token) -> dict[str, Any]:
    info = token.info
    fraction = f".{info.time.microsecond:06d}".rstrip("0") if info.time.microsecond else ""
    return {
        "time": rfc3339(info.time).replace("Z", f"{fraction}Z"),
        "serial_number": serial_hex(info.serial),
        "policy": info.policy,
        "hash": info.hash_name,
        "accuracy_microseconds": info.accuracy,
        "ordering": info.ordering,
        "qualified": info.qualified,
    }


def _read(files: list[str]) -> list[CertificateInfo]:
    return [each for file in files for each in read_certificates(read_bytes(file))]
