"""`intaglio mtls render`: configuration of nginx, HAProxy, Envoy and others as ingresses."""

from __future__ import annotations

import io
import os
import re
import sys
import tarfile
from pathlib import Path
from typing import Annotated, Any

import typer

from intaglio.cli.client import segment
from intaglio.cli.commands import Cli, command, noun
from intaglio.cli.files import read_pem_or_der, read_secret, read_text
from intaglio.core.errors import InvalidInput, StateConflict

app = noun("Configuration of nginx, HAProxy, Apache, Caddy, Envoy, Traefik, stunnel, Istio and others as ingresses.")

Name = Annotated[str, typer.Argument(metavar="INGRESS", help="NAME or ORGANIZATION~NAME.")]
Stale = Annotated[
    int, typer.Option("--stale-seconds", help="How long a silent status source is borne; 0: while in time.")
]


@command(
    app,
    "ingress",
    example=(
        "intaglio mtls render ingress edge --out edge --upstream http://127.0.0.1:9000",
        "intaglio mtls render ingress edge --ingress-token edge.token --out edge.tar",
    ),
)
def ingress(
    cli: Cli,
    name: Name,
    out: Annotated[str, typer.Option(help="Folder, .tar file, or - for a tar on standard output.")],
    upstream: Annotated[str | None, typer.Option(help="The service behind: http(s)://HOST:PORT.")] = None,
    folder: Annotated[str | None, typer.Option(help="Where the files will lie on the host of the ingress.")] = None,
    certificate: Annotated[str | None, typer.Option(help="The server's certificate chain there.")] = None,
    key: Annotated[str | None, typer.Option(help="The server's private key there.")] = None,
    decisions: Annotated[str | None, typer.Option(help="Decision endpoint, with the revocation source live.")] = None,
    ingress_token: Annotated[str | None, typer.Option(help="File with the token of the ingress; - reads it.")] = None,
    stale_seconds: Stale = 0,
    namespace: Annotated[str | None, typer.Option(help="Namespace in Kubernetes.")] = None,
    workload: Annotated[str | None, typer.Option(help="Service in Kubernetes.")] = None,
    listener_arn: Annotated[str | None, typer.Option(help="ARN of the listener at AWS.")] = None,
    bucket: Annotated[str | None, typer.Option(help="S3 bucket for trust bundle and CRLs at AWS.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Write into a folder that has files.")] = False,
) -> None:
    """Write the configuration of an ingress, its trust bundle, first CRLs and the timer that keeps them fresh."""
    token = None
    if ingress_token is not None:
        token = read_secret("Token of the ingress", file=ingress_token, variable="INTAGLIO_INGRESS_TOKEN")
    body = {
        "upstream": upstream, "folder": folder, "certificate": certificate, "key": key, "decisions": decisions,
        "stale_seconds": stale_seconds, "namespace": namespace, "workload": workload, "listener_arn": listener_arn,
        "bucket": bucket, "token": token,
    }  # fmt: skip
    made = cli.client.post(f"/mtls/v1/ingresses/{segment(name)}/render", body)
    _write(out, made["files"], force=force)
    for warning in made["warnings"]:
        cli.out.warning(warning)
    if out == "-":
        return
    latency = made["latency"]
    result = {**made, "files": [{"name": file["name"], "mode": file["mode"]} for file in made["files"]], "out": out}
    cli.out.result(result, f"Wrote {len(made['files'])} files for {made['type']} to {out}. {_bound(latency)}")


@command(app, "latency", example="intaglio mtls render latency edge")
def latency(cli: Cli, name: Name, stale_seconds: Stale = 0) -> None:
    """How soon a revocation counts at an ingress at the latest. Fails when that is more than 60 seconds."""
    found = cli.client.get(f"/mtls/v1/ingresses/{segment(name)}/latency", stale_seconds=stale_seconds)
    if cli.out.as_json:
        cli.out.result(found)
    else:
        rows = [{**step, "seconds": _seconds(step["seconds"])} for step in found["steps"]]
        cli.out.table(rows, {"name": "STEP", "seconds": "SECONDS", "why": "WHY"})
        cli.out.note(_bound(found))
        for advice in found["advice"]:
            cli.out.note(f"  {advice}")
    if not found["in_time"]:
        raise typer.Exit(1)


@command(
    app,
    "check",
    local=True,
    example=(
        "intaglio mtls render check /etc/nginx/nginx.conf",
        "nginx -T | intaglio mtls render check - --type nginx",
    ),
)
def check(
    cli: Cli,
    file: Annotated[str, typer.Argument(help="Configuration; - is standard input.")],
    type: Annotated[str | None, typer.Option(help="nginx, haproxy, apache, envoy, istio, aws-alb ...")] = None,
    bundle: Annotated[str | None, typer.Option(help="Trust bundle the configuration uses (PEM).")] = None,
    trusted: Annotated[str | None, typer.Option(help="Trust bundle it should use, as exported.")] = None,
) -> None:
    """What in a configuration, whoever made it, does not verify clients fully. Fails when there is an error."""
    from intaglio.mtls.ingresses.checking import check as checked
    from intaglio.x509.certificates import read_certificates

    if (bundle is None) != (trusted is None):
        raise InvalidInput("--bundle and --trusted are compared with each other; name both.", code="option-invalid")
    given = read_certificates(read_pem_or_der(bundle)) if bundle else None
    expected = read_certificates(read_pem_or_der(trusted)) if trusted else None
    found = checked(read_text(file), type, bundle=given, trusted=expected)
    rows: list[dict[str, Any]] = [vars(each) for each in found.findings]
    if cli.out.as_json:
        cli.out.result({"type": found.type, "verifies": found.verifies, "findings": rows})
    else:
        columns = {"line": "LINE", "severity": "SEVERITY", "rule": "RULE", "detail": "WHAT", "remedy": "REMEDY"}
        cli.out.table(rows, columns, empty=f"This {found.type} configuration verifies clients fully.")
    if not found.verifies:
        raise typer.Exit(1)


def _bound(latency: dict[str, Any]) -> str:
    seconds = latency["seconds"]
    if seconds is None:
        return "Nothing bounds when a revocation counts there."
    silent = latency["silent_seconds"]
    while_silent = "without a bound" if silent is None else f"for {silent:g} s at the most"
    return (
        f"A revocation counts after {seconds:g} s at the latest; while its status source is silent, revoked "
        f"certificates get in {while_silent}."
    )


def _seconds(value: float | None) -> str:
    return "no bound" if value is None else f"{value:g}"


#: A file as servers name them: at most one folder deep, and never upwards.
_NAME = re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9._~-]*/)?[A-Za-z0-9][A-Za-z0-9._~-]*")
_MODES = frozenset({"600", "644", "755"})


def _write(out: str, files: list[dict[str, Any]], *, force: bool) -> None:
    for each in files:
        if not _NAME.fullmatch(each["name"]) or each["mode"] not in _MODES:
            raise InvalidInput(
                f'The server wants to write a file "{each["name"][:80]}" with mode {each["mode"][:8]}.',
                code="answer-unusable",
                remedy="Do not trust this server: files of ingresses are not named so.",
            )
    if out == "-" or out.endswith(".tar"):
        content = _tar(files)
        if out == "-":
            sys.stdout.buffer.write(content)
            return
        how = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | (os.O_TRUNC if force else os.O_EXCL)
        try:
            descriptor = os.open(out, how, 0o600)
        except FileExistsError:
            remedy = "Choose another name, or add --force."
            raise StateConflict(f"{out} exists.", code="file-exists", remedy=remedy) from None
        except OSError as error:
            raise InvalidInput(f"{out} cannot be written: {error.strerror}.", code="file-unwritable") from None
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        return
    folder = Path(out)
    if folder.exists() and not force and any(folder.iterdir()):
        raise StateConflict(f"{out} has files.", code="file-exists", remedy="Choose another name, or add --force.")
    for each in files:
        path = folder / each["name"]
        for below in {path.parent, folder}:
            below.mkdir(parents=True, exist_ok=True)
        if path.parent != folder and path.parent.is_symlink():
            raise StateConflict(
                f"{path.parent} leads elsewhere.", code="folder-unsafe", remedy="Write into a new folder of your own."
            )
        mode = int(each["mode"], 8)
        path.unlink(missing_ok=True)  # never through a link that lies there
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "w") as opened:
            os.fchmod(descriptor, mode)
            opened.write(each["text"])


def _tar(files: list[dict[str, Any]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for each in files:
            data = each["text"].encode()
            entry = tarfile.TarInfo(each["name"])
            entry.size, entry.mode = len(data), int(each["mode"], 8)
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()
