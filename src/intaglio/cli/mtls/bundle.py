"""`intaglio mtls bundle`: the CAs that count in a trust domain or an environment, for everybody who trusts."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Annotated

import typer

from intaglio.cli.client import segment
from intaglio.cli.commands import Cli, command, noun
from intaglio.cli.files import read_text, write_public
from intaglio.core.errors import InvalidInput

app = noun("Trust bundles: the CAs that count in a trust domain or an environment.")


@command(
    app,
    "export",
    example=(
        "intaglio mtls bundle export prod.example --out trust.pem",
        "intaglio mtls bundle export prod --format pem,jks,p12,k8s,alb,spiffe --out bundles/",
    ),
)
def export(
    cli: Cli,
    name: Annotated[str, typer.Argument(help="Trust domain, or environment.")],
    format: Annotated[str, typer.Option(help="pem, jks, p12, k8s, alb, spiffe; several separated by commas.")] = "pem",
    out: Annotated[str, typer.Option("--out", "-o", help="File, or folder for several; - is standard output.")] = "-",
    also: Annotated[list[str] | None, typer.Option(help="Trust domain of the same environment; repeat.")] = None,
    password_file: Annotated[
        str | None, typer.Option(help="File with the password of Java trust stores; `changeit` without it.")
    ] = None,
    object_name: Annotated[str, typer.Option(help="Name of the Kubernetes objects.")] = "trust-bundle",
    namespace: Annotated[str, typer.Option(help="Namespace of the Kubernetes objects.")] = "",
) -> None:
    """Write the trust bundle in one or more formats. CAs of other environments are never in it."""
    body = {
        "formats": [each.strip() for each in format.split(",")],
        "also": also or [],
        "name": object_name,
        "namespace": namespace,
        "password": read_text(password_file).strip() if password_file else None,
    }
    found = cli.client.post(f"/mtls/v1/bundles/{segment(name)}", body)
    if cli.out.as_json:
        cli.out.result(found)
        return
    files = {file["name"]: base64.b64decode(file["content"]) for file in found["files"]}
    if len(files) == 1 and not out.endswith("/") and not Path(out).is_dir():
        write_public(out, next(iter(files.values())))
        written = [out]
    else:
        written = _write_all(out, files)
    if out != "-":
        count = len(found["certificates"])
        cli.out.note(f"Wrote {', '.join(written)}: {count} certificates of {found['environment']}.")


def _write_all(out: str, files: dict[str, bytes]) -> list[str]:
    if out == "-":
        raise InvalidInput("Several files need a folder.", code="option-invalid", remedy="Add --out FOLDER/.")
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        write_public(str(folder / Path(name).name), content)
    return [str(folder / Path(name).name) for name in files]


@command(app, "show", example="intaglio mtls bundle show prod.example")
def show(
    cli: Cli,
    name: Annotated[str, typer.Argument(help="Trust domain, or environment.")],
) -> None:
    """List the CAs that count, with their fingerprints; anchors are what relying parties trust."""
    found = cli.client.post(f"/mtls/v1/bundles/{segment(name)}", {"formats": []})
    columns = {"subject": "CA", "anchor": "ANCHOR", "not_after": "UNTIL", "sha256": "SHA-256"}
    cli.out.table(found["certificates"], columns)
