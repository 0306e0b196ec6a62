"""`intaglio mtls scan`: verification that is switched off, private keys that lie open, endpoints that prove nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from intaglio.cli.commands import Cli, command, noun
from intaglio.cli.files import read_bytes, read_text, write_public
from intaglio.cli.output import harmless
from intaglio.core.errors import InvalidInput

if TYPE_CHECKING:
    from intaglio.mtls.posture.scanners.findings import Limits, Report, Rule

app = noun("Scan code, files, images, repositories and endpoints for the common mistakes. Works without a server.")

Format = Annotated[str, typer.Option("--format", help="text, json or sarif.")]
Out = Annotated[str | None, typer.Option("--out", "-o", help="File for the report.")]
GitIgnore = Annotated[bool, typer.Option("--gitignore", help="Leave out what git ignores.")]
Seconds = Annotated[float, typer.Option(help="Longest time of the scan, in seconds.")]
LargestFile = Annotated[int, typer.Option(help="Files with more octets are not looked into.")]


@command(
    app,
    "code",
    example=("intaglio mtls scan code .", "intaglio mtls scan code . --gitignore --format sarif --out report.sarif"),
    local=True,
)
def code(
    cli: Cli,
    paths: Annotated[list[str], typer.Argument(help="Folder or file; several are allowed.")],
    format: Format = "text",
    out: Out = None,
    gitignore: GitIgnore = False,
    seconds: Seconds = 300.0,
    largest_file: LargestFile = 2_097_152,
) -> None:
    """Look for switched-off certificate verification in code and configuration. Exit code 1 when there is any.

    An exception stands next to the place, in a comment: scan: allow RULE until 2027-01-31 because REASON.
    """
    from intaglio.mtls.posture.scanners.code import scan_code
    from intaglio.mtls.posture.scanners.patterns import RULES

    limits = _limits(seconds, largest_file)
    with cli.out.waiting("Scanning"):
        report = _joined([scan_code(Path(path), limits=limits, gitignore=gitignore) for path in paths])
    _tell(cli, report, RULES, format, out)


@command(
    app,
    "keys",
    example=(
        "intaglio mtls scan keys /etc /srv",
        "intaglio mtls scan keys . --history",
        "intaglio mtls scan keys image.tar --image",
    ),
    local=True,
)
def keys(
    cli: Cli,
    paths: Annotated[list[str], typer.Argument(help="Folder, file, repository or image; several are allowed.")],
    history: Annotated[bool, typer.Option("--history", help="Look into all of a git repository's history.")] = False,
    image: Annotated[
        bool, typer.Option("--image", help="The path is an image: docker save archive, or OCI layout.")
    ] = False,
    format: Format = "text",
    out: Out = None,
    gitignore: GitIgnore = False,
    seconds: Seconds = 300.0,
    largest_file: LargestFile = 2_097_152,
) -> None:
    """Look for private keys that are not encrypted, and for key files that others may read. Exit code 1 for any."""
    from intaglio.mtls.posture.scanners import keys as scanner

    if history and image:
        raise InvalidInput("A path is either a repository or an image.", code="choice-unknown")
    limits = _limits(seconds, largest_file)
    with cli.out.waiting("Scanning"):
        if image:
            found = [scanner.scan_image(Path(path), limits=limits) for path in paths]
        elif history:
            found = [scanner.scan_history(Path(path), limits=limits) for path in paths]
        else:
            found = [scanner.scan_keys(Path(path), limits=limits, gitignore=gitignore) for path in paths]
    _tell(cli, _joined(found), scanner.RULES, format, out)


@command(app, "environment", example="intaglio mtls scan environment --pid 4711", local=True)
def environment(
    cli: Cli,
    pid: Annotated[int | None, typer.Option(help="Of this process, instead of this command's own.")] = None,
    format: Format = "text",
    out: Out = None,
) -> None:
    """Look for private keys in environment variables. Exit code 1 for any."""
    import os

    from intaglio.mtls.posture.scanners import keys as scanner

    variables = dict(os.environ)
    if pid is not None:
        pairs = (each.partition(b"=") for each in read_bytes(f"/proc/{pid}/environ").split(b"\0") if each)
        variables = {os.fsdecode(name): os.fsdecode(value) for name, _, value in pairs}
    _tell(cli, scanner.scan_environment(variables), scanner.RULES, format, out)


@command(
    app,
    "endpoints",
    example=(
        "intaglio mtls scan endpoints payments.internal:8443 --ca-file root.pem",
        "intaglio mtls scan endpoints --list endpoints.txt --no-client-certificate",
    ),
    local=True,
)
def endpoints(
    cli: Cli,
    addresses: Annotated[list[str] | None, typer.Argument(help="HOST:PORT; several are allowed.")] = None,
    listed: Annotated[str | None, typer.Option("--list", help="File with one HOST:PORT per line.")] = None,
    ca_file: Annotated[list[str] | None, typer.Option("--trust", help="CA certificates to expect.")] = None,
    name: Annotated[str | None, typer.Option(help="Name to ask for, instead of the host.")] = None,
    no_client_certificate: Annotated[
        bool, typer.Option("--no-client-certificate", help="Do not expect that client certificates are asked for.")
    ] = False,
    notice: Annotated[int, typer.Option(help="Hours before its end that a certificate is reported.")] = 72,
    timeout: Annotated[float, typer.Option(help="Seconds for each endpoint.")] = 10.0,
    format: Format = "text",
    out: Out = None,
) -> None:
    """Look at the certificates of endpoints, and whether they ask who is calling. Exit code 1 for any finding."""
    from datetime import timedelta

    from intaglio.mtls.posture.scanners import endpoints as scanner
    from intaglio.x509.certificates import read_certificates

    lines = [line.strip() for line in read_text(listed).splitlines()] if listed else []
    texts = [*(addresses or ()), *(line for line in lines if line and not line.startswith("#"))]
    if not texts:
        raise InvalidInput("No endpoint was named.", code="endpoint-invalid", remedy="Give HOST:PORT, or --list FILE.")
    wanted = [scanner.Endpoint.parse(text, name=name) for text in texts]
    trusted = [each for path in ca_file or () for each in read_certificates(read_bytes(path))]
    with cli.out.waiting("Connecting"):
        report, seen = scanner.scan_endpoints(
            wanted,
            trusted=trusted,
            expect_client_certificate=not no_client_certificate,
            timeout=timeout,
            notice=timedelta(hours=notice),
        )
    if format == "text" and not cli.out.as_json and out is None:
        rows = [{**each.as_json(), "state": each.failure or "ok"} for each in seen]
        columns = {
            "endpoint": "ENDPOINT",
            "tls_version": "TLS",
            "client_certificate": "CLIENT CERTIFICATE",
            "not_after": "UNTIL",
            "subject": "SUBJECT",
        }
        cli.out.table(rows, columns)
    _tell(cli, report, scanner.RULES, format, out, endpoints=[each.as_json() for each in seen])


def _limits(seconds: float, octets: int) -> Limits:
    from intaglio.mtls.posture.scanners.findings import Limits

    return Limits(octets=octets, seconds=seconds)


def _joined(reports: Sequence[Report]) -> Report:
    from intaglio.mtls.posture.scanners.findings import Report

    joined = Report()
    for each in reports:
        joined.findings += each.findings
        joined.files += each.files
        joined.skipped += each.skipped
        joined.complete = joined.complete and each.complete
    return joined


def _tell(
    cli: Cli, report: Report, rules: Sequence[Rule], format: str, out: str | None, **more: list[dict[str, object]]
) -> None:
    """Print or write the report; exit code 1 when it has open findings."""
    from intaglio.mtls.posture.scanners import report as forms

    kind = "json" if cli.out.as_json and format == "text" else format
    if kind == "text":
        text = forms.as_text(report)
    elif kind in ("json", "sarif"):
        value = forms.as_sarif(report, rules) if kind == "sarif" else {**forms.as_json(report), **more}
        text = json.dumps(value, indent=2)
    else:
        raise InvalidInput(f'"{format}" is not a form of report.', code="choice-unknown", remedy="text, json or sarif.")
    if out is not None:
        write_public(out, f"{text}\n")
        cli.out.note(f"Wrote {out}: {len(report.open)} findings.")
    else:
        print(harmless(text))
    if report.failed or not report.complete:
        raise typer.Exit(1)
