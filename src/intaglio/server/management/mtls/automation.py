"""Bootstrap tokens of identities, and pipelines."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from intaglio.mtls.automation import bootstrap, pipelines
from intaglio.mtls.automation.bootstrap import BootstrapToken as FoundToken
from intaglio.mtls.automation.pipelines import Pipeline as FoundPipeline
from intaglio.mtls.identities import lifetimes
from intaglio.server.management.access import Asked, Asker
from intaglio.server.management.lists import Items
from intaglio.server.management.mtls.given import GivenMtls

router = APIRouter(prefix="/mtls/v1", tags=["automation"])


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class BootstrapToken(BaseModel):
    """A bootstrap token without the token; `handle` are its first characters. `max_uses` null is any number."""

    id: str
    handle: str
    identity_id: str
    identity: str
    purpose: Literal["sign", "approle"]
    state: Literal["usable", "used", "expired", "revoked", "locked"]
    max_uses: int | None
    uses: int
    networks: list[str]
    note: str
    created_by: str
    created_at: datetime
    expires_at: datetime
    used_at: datetime | None

    @classmethod
    def of(cls, found: FoundToken) -> BootstrapToken:
        return cls.model_validate(_members(cls, found))


class CreatedBootstrapToken(BootstrapToken):
    """A bootstrap token just made. `token` is shown this once."""

    token: str


class NewBootstrapToken(_Body):
    """For whom and for what. `sign`: one certificate per use, for agents; `approle`: the secret id of the
    Vault-compatible interface."""

    identity: str = Field(description="Id, `name`, `kind:name` or `kind:name@trust-domain`.")
    purpose: Literal["sign", "approle"] = "sign"
    max_uses: int = Field(default=1, ge=0, description="0 for any number (`approle` only).")
    hours: int | None = Field(default=None, ge=1, description="How long it is good for; as the settings say when null.")
    networks: list[str] = Field(default=[], description="Networks it may be used from; none for all.")
    note: str = Field(default="", max_length=200)


class Pipeline(BaseModel):
    """Which identity tokens prove which identity."""

    name: str
    identity_id: str
    identity: str
    issuer: str
    jwks_url: str
    issuer_ca: str
    audience: str
    conditions: dict[str, list[str]]
    lifetime: str
    end_with_token: bool
    token_uses: int
    created_by: str
    created_at: datetime
    changed_at: datetime
    used_at: datetime | None
    uses: int

    @classmethod
    def of(cls, found: FoundPipeline) -> Pipeline:
        return cls.model_validate(_members(cls, found) | {"lifetime": lifetimes.text_of(found.lifetime)})


class PipelineWish(_Body):
    """What a pipeline shall be. `lifetime` is an ISO 8601 duration (PT30M): how long a job may take."""

    identity: str = Field(description="Id, `name`, `kind:name` or `kind:name@trust-domain`.")
    issuer: str = Field(max_length=500, description="What tokens say in `iss`; an https URL.")
    audience: str = Field(max_length=500, description="What tokens have to say in `aud`.")
    conditions: dict[str, list[str]] = Field(description="Values by claim; a * at the end after / : . or -.")
    lifetime: str | None = Field(default=None, max_length=40)
    jwks_url: str = Field(default="", max_length=500, description="Where its keys are, if discovery does not say.")
    issuer_ca: str = Field(default="", max_length=64 * 1024, description="CA of its server (PEM), if a private one.")
    end_with_token: bool = Field(default=False, description="No certificate outlives the token it was got with.")
    token_uses: int = Field(default=1, ge=0, le=1000, description="How often one token counts; 0 until it expires.")

    @property
    def wish(self) -> pipelines.PipelineWish:
        values = self.model_dump()
        span = None if self.lifetime is None else lifetimes.duration_of(self.lifetime, target="lifetime")
        return pipelines.PipelineWish(**(values | {"lifetime": span}))


class NewPipeline(PipelineWish):
    """A pipeline with its name."""

    name: str


@router.post("/bootstrap-tokens", status_code=201)
async def create_bootstrap_token(mtls: GivenMtls, asker: Asker, body: NewBootstrapToken) -> CreatedBootstrapToken:
    """Make a bootstrap token for an identity; it is shown once."""
    values = body.model_dump() | {"max_uses": body.max_uses or None}
    made = await bootstrap.create_token(mtls, asker, bootstrap.NewBootstrapToken(**values))
    return CreatedBootstrapToken(**BootstrapToken.of(made.token).model_dump(), token=made.text)


@router.get("/bootstrap-tokens")
async def list_bootstrap_tokens(mtls: GivenMtls, asker: Asker, asked: Asked) -> Items[BootstrapToken]:
    """Bootstrap tokens, newest first."""
    found = await bootstrap.list_tokens(mtls, asker, asked)
    items = [BootstrapToken.of(each) for each in found.tokens]
    return Items(items=items, next_cursor=found.next_cursor, total=found.total)


@router.post("/bootstrap-tokens/{token}/revoke")
async def revoke_bootstrap_token(mtls: GivenMtls, asker: Asker, token: str) -> BootstrapToken:
    """End a bootstrap token, by id or handle, and the logins that rest on it."""
    return BootstrapToken.of(await bootstrap.revoke_token(mtls, asker, token))


@router.post("/pipelines", status_code=201)
async def add_pipeline(mtls: GivenMtls, asker: Asker, body: NewPipeline) -> Pipeline:
    """Bind identity tokens of a CI system or cluster to an identity."""
    wish = PipelineWish(**body.model_dump(exclude={"name"})).wish
    return Pipeline.of(await pipelines.add_pipeline(mtls, asker, body.name, wish))


@router.get("/pipelines")
async def list_pipelines(mtls: GivenMtls, asker: Asker, asked: Asked) -> Items[Pipeline]:
    """Pipelines by name."""
    found = await pipelines.list_pipelines(mtls, asker, asked)
    items = [Pipeline.of(each) for each in found.pipelines]
    return Items(items=items, next_cursor=found.next_cursor, total=found.total)


@router.get("/pipelines/{pipeline}")
async def get_pipeline(mtls: GivenMtls, asker: Asker, pipeline: str) -> Pipeline:
    """One pipeline."""
    return Pipeline.of(await pipelines.get_pipeline(mtls, asker, pipeline))


@router.put("/pipelines/{pipeline}")
async def change_pipeline(mtls: GivenMtls, asker: Asker, pipeline: str, body: PipelineWish) -> Pipeline:
    """Replace what a pipeline says."""
    return Pipeline.of(await pipelines.change_pipeline(mtls, asker, pipeline, body.wish))


@router.delete("/pipelines/{pipeline}", status_code=204)
async def remove_pipeline(mtls: GivenMtls, asker: Asker, pipeline: str) -> None:
    """Let its tokens count no more."""
    await pipelines.remove_pipeline(mtls, asker, pipeline)


def _members(model: type[BaseModel], found: Any) -> dict[str, Any]:
    """The members of a found value as the model has them; ids as text."""
    values = {name: getattr(found, name) for name in model.model_fields if hasattr(found, name)}
    texts = {name: str(values[name]) for name in ("id", "identity_id") if name in values}
    return values | texts | ({"networks": list(found.networks)} if "networks" in values else {})
