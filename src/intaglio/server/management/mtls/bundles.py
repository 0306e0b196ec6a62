"""Trust bundles of trust domains and environments."""

from __future__ import annotations

import base64
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, SecretStr

from intaglio.mtls.identities import bundle_formats, bundles
from intaglio.mtls.identities.bundle_formats import USUAL_PASSWORD, BundleOptions
from intaglio.server.management.access import Asker
from intaglio.server.management.mtls.given import GivenMtls

router = APIRouter(prefix="/mtls/v1", tags=["trust bundles"])

Format = Literal["pem", "jks", "p12", "k8s", "alb", "spiffe"]
Also = Annotated[list[str], Query(description="A further trust domain of the same environment; repeat for more.")]


class Certificate(BaseModel):
    """A CA of a bundle: the subject, when it ends, and its SHA-256."""

    subject: str
    sha256: str
    not_after: str
    anchor: bool


class File(BaseModel):
    """A file of an exported bundle; ``content`` is base64."""

    name: str
    media_type: str
    content: str


class Export(BaseModel):
    """An exported bundle. ``digest`` changes exactly when other certificates count."""

    name: str
    environment: str
    domains: list[str]
    digest: str
    certificates: list[Certificate]
    files: list[File]


class Wish(BaseModel):
    """In which formats, and how. ``password`` is that of Java trust stores, which hold nothing secret."""

    model_config = ConfigDict(extra="forbid")

    formats: list[Format] = ["pem"]
    also: list[str] = []
    password: SecretStr = SecretStr(USUAL_PASSWORD)
    name: str = "trust-bundle"
    namespace: str = ""


@router.get(
    "/bundles/{name}",
    response_class=Response,
    responses={200: {"content": {"*/*": {"schema": {"type": "string", "format": "binary"}}}}},
)
async def get_bundle(
    mtls: GivenMtls,
    asker: Asker,
    name: str,
    format: Annotated[Format, Query(description="Several files (`alb`) come as ZIP.")] = "pem",
    also: Also = [],  # noqa: B006 - FastAPI copies it
) -> Response:
    """The bundle of a trust domain, or of an environment, as a file."""
    bundle = await bundles.export_bundle(mtls, asker, name, also=also)
    file = bundle_formats.as_one_file(bundle, bundle_formats.export(bundle, format, BundleOptions()))
    headers = {"content-disposition": f'attachment; filename="{file.name}"', "etag": f'"{bundle.digest[:32]}"'}
    return Response(file.content, media_type=file.media_type, headers=headers)


@router.post("/bundles/{name}")
async def export_bundle(mtls: GivenMtls, asker: Asker, name: str, body: Wish) -> Export:
    """The bundle of a trust domain, or of an environment, in several formats at once."""
    bundle = await bundles.export_bundle(mtls, asker, name, also=body.also)
    options = BundleOptions(body.password.get_secret_value(), body.name, body.namespace)
    files = [file for each in body.formats for file in bundle_formats.export(bundle, each, options)]
    anchors = {anchor.fingerprint for anchor in bundle.anchors}
    return Export(
        name=bundle.name,
        environment=bundle.environment,
        domains=list(bundle.domains),
        digest=bundle.digest,
        certificates=[
            Certificate(
                subject=each.subject.rfc4514,
                sha256=each.fingerprint.hex(),
                not_after=each.not_after.isoformat(),
                anchor=each.fingerprint in anchors,
            )
            for each in bundle.certificates
        ],
        files=[
            File(name=f.name, media_type=f.media_type, content=base64.b64encode(f.content).decode()) for f in files
        ],
    )
