"""Configuration of ingresses made by others, and what of it is checked and computed."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from intaglio.mtls.ingresses import service
from intaglio.mtls.ingresses.latency import Latency as Found
from intaglio.mtls.ingresses.plan import UNNAMED_ARN, UNNAMED_BUCKET, Layout
from intaglio.server.management.access import Asker
from intaglio.server.management.mtls.given import GivenMtls

router = APIRouter(prefix="/mtls/v1", tags=["ingress configuration"])


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class IngressLayout(_Body):
    """Where things are on the host of the ingress. What is left out is below ``/etc/intaglio/ingresses/NAME``."""

    folder: str = Field(default="", max_length=200)
    certificate: str = Field(default="", max_length=200, description="The server's certificate chain.")
    key: str = Field(default="", max_length=200, description="The server's private key.")
    upstream: str = Field(default="http://127.0.0.1:8080", max_length=300, description="The service behind.")
    decisions: str = Field(default="http://127.0.0.1:8181", max_length=300, description="The decision endpoint.")
    stale_seconds: int = Field(
        default=0, ge=0, le=86_400, description="How long a silent status source is borne; 0: as long as is in time."
    )
    namespace: str = Field(default="default", max_length=63)
    workload: str = Field(default="", max_length=63, description="Name of the service in Kubernetes.")
    listener_arn: str = Field(default=UNNAMED_ARN, max_length=300)
    bucket: str = Field(default=UNNAMED_BUCKET, max_length=63)
    token: SecretStr = Field(default=SecretStr(""), description="Token of the ingress, for the files that need it.")

    def layout(self) -> Layout:
        values = self.model_dump(exclude={"token"})
        return Layout(**values, token=self.token.get_secret_value())


class LatencyStep(BaseModel):
    """Something that takes time between a revocation and the first refusal; ``seconds`` is null without a bound."""

    name: str
    seconds: float | None
    why: str


class Latency(BaseModel):
    """How soon a revocation counts at the latest; null where nothing bounds it."""

    seconds: float | None
    silent_seconds: float | None
    in_time: bool
    steps: list[LatencyStep]
    advice: list[str]

    @classmethod
    def of(cls, found: Found) -> Latency:
        return cls(
            seconds=found.seconds,
            silent_seconds=found.silent_seconds,
            in_time=found.in_time,
            steps=[LatencyStep(name=step.name, seconds=step.seconds, why=step.why) for step in found.steps],
            advice=list(found.advice),
        )


class RenderedFile(BaseModel):
    """A file below the folder; ``mode`` is octal."""

    name: str
    mode: str
    text: str


class Rendering(BaseModel):
    """The files for one ingress."""

    ingress: str
    type: str
    folder: str
    files: list[RenderedFile]
    warnings: list[str]
    latency: Latency


class RenderedState(BaseModel):
    """When an ingress was rendered last, null for never, and why that is stale, if it is."""

    ingress: str
    rendered_at: datetime | None
    stale: bool
    why: list[str]


class Configuration(_Body):
    """A configuration to be checked. ``type`` is found out when it is empty; ``trust_domain`` names whose CAs a trust
    bundle in it should hold, and ``bundle`` is that bundle."""

    text: str = Field(max_length=400_000)
    type: str = Field(default="", max_length=40)
    bundle: str = Field(default="", max_length=400_000)
    trust_domain: str = Field(default="", max_length=253)


class Finding(BaseModel):
    """Something that does not verify fully: where, what, and what to do."""

    rule: str
    severity: Literal["error", "warning"]
    line: int
    detail: str
    remedy: str


class Checked(BaseModel):
    """What a configuration was taken for, and what is wrong with it."""

    type: str
    findings: list[Finding]


@router.post("/ingresses/{ingress}/render")
async def render_ingress(mtls: GivenMtls, asker: Asker, ingress: str, body: IngressLayout) -> Rendering:
    """The configuration of an ingress, its trust bundle, first CRLs and what keeps them fresh."""
    made = await service.render_ingress(mtls, asker, ingress, body.layout())
    return Rendering(
        ingress=ingress,
        type=made.kind,
        folder=made.folder,
        files=[RenderedFile(name=file.name, mode=f"{file.mode:o}", text=file.text) for file in made.files],
        warnings=list(made.warnings),
        latency=Latency.of(made.latency),
    )


@router.get("/ingresses/{ingress}/rendering")
async def get_ingress_rendering(mtls: GivenMtls, asker: Asker, ingress: str) -> RenderedState:
    """Whether the configuration that was rendered last for an ingress is still what it should be."""
    found = await service.look_at_rendering(mtls, asker, ingress)
    return RenderedState(ingress=found.ingress, rendered_at=found.at, stale=bool(found.why), why=list(found.why))


@router.get("/ingresses/{ingress}/latency")
async def get_ingress_latency(mtls: GivenMtls, asker: Asker, ingress: str, stale_seconds: int = 0) -> Latency:
    """How soon a revocation counts at an ingress at the latest, step by step."""
    return Latency.of(await service.ingress_latency(mtls, asker, ingress, Layout(stale_seconds=stale_seconds)))


@router.post("/ingress-configurations/check")
async def check_ingress_configuration(mtls: GivenMtls, asker: Asker, body: Configuration) -> Checked:
    """What in a configuration, whoever made it, does not verify clients fully."""
    found = await service.check_configuration(
        mtls, asker, body.text, body.type or None, bundle=body.bundle, domain=body.trust_domain
    )
    return Checked(
        type=found.type,
        findings=[
            Finding(rule=f.rule, severity=f.severity, line=f.line, detail=f.detail, remedy=f.remedy)
            for f in found.findings
        ],
    )
