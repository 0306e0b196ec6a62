"""What happens to a CA after it was created: requests, certificates, keys, rights, CRLs."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from fastapi.responses import PlainTextResponse
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from intaglio.authority import crls
from intaglio.authority.access import require_ca
from intaglio.authority.cas import external, renewal, requests
from intaglio.authority.cas.values import CaDetails, KeyType
from intaglio.authority.crls import CrlFacts
from intaglio.authority.directory import CaView
from intaglio.core.errors import NotFound
from intaglio.core.principal import Permission
from intaglio.server.management import encoding
from intaglio.server.management.access import Asker, Given
from intaglio.server.management.authorities import PEM
from intaglio.server.management.lists import Items
from intaglio.x509 import pem as pem_text

router = APIRouter(tags=["certificate authorities"])

_TEXT: dict[int | str, dict[str, Any]] = {200: {"content": {PEM: {"schema": {"type": "string"}}}}}
_LARGEST = 262144


class UploadedCertificate(BaseModel):
    """PEM, or base64 of DER or PKCS #7."""

    model_config = ConfigDict(extra="forbid")

    certificate: str = Field(max_length=_LARGEST)


class Renewal(BaseModel):
    """``not_after`` None is as long as possible."""

    model_config = ConfigDict(extra="forbid")

    not_after: AwareDatetime | None = None


class Rekeying(Renewal):
    """``key_algorithm`` None is the type of the present key, ``key_provider`` None the place where it is."""

    key_algorithm: KeyType | None = None
    key_provider: str | None = Field(default=None, max_length=80)


class WantedCrl(BaseModel):
    """``generation`` None is the current key; ``partition`` 0 the whole CA."""

    model_config = ConfigDict(extra="forbid")

    generation: int | None = Field(default=None, ge=1)
    partition: int = Field(default=0, ge=0)


class Crl(BaseModel):
    """A CRL; ``url`` is where it is published."""

    number: int
    generation: int
    partition: int
    delta: bool
    base_number: int | None
    this_update: datetime
    next_update: datetime
    entries: int
    fingerprint: str
    url: str


@router.get("/cas/{ca}/csr", response_class=PlainTextResponse, responses=_TEXT)
async def get_ca_request(services: Given, asker: Asker, ca: str) -> PlainTextResponse:
    """The certificate request (PKCS #10, PEM) that waits to be signed by an external root."""
    return _request(await requests.get_request(services.authority, asker, ca))


@router.post("/cas/{ca}/csr", response_class=PlainTextResponse, responses=_TEXT)
async def renew_ca_request(services: Given, asker: Asker, ca: str) -> PlainTextResponse:
    """Make the outstanding request anew, over the same key."""
    return _request(await requests.reissue_request(services.authority, asker, ca))


@router.put("/cas/{ca}/certificate")
async def upload_ca_certificate(services: Given, asker: Asker, ca: str, body: UploadedCertificate) -> CaDetails:
    """The certificate that an external root made for the request; for an external root, its renewed certificate."""
    data = encoding.octets(body.certificate, target="certificate")
    snapshot = await services.authority.snapshot()
    async with services.database.read() as view:
        found = await require_ca(view, snapshot, asker, ca, Permission.CA_CONFIGURE)
    if found.kind == "external-root":
        return await external.replace_external_root(services.authority, asker, ca, data)
    return await external.upload_certificate(services.authority, asker, ca, data)


@router.post("/cas/{ca}/renew")
async def renew_ca(services: Given, asker: Asker, ca: str, body: Renewal) -> CaDetails:
    """A new certificate for the key the CA has; below an external root, a request for one."""
    return await renewal.renew_ca(services.authority, asker, ca, not_after=body.not_after)


@router.post("/cas/{ca}/rekey")
async def rekey_ca(services: Given, asker: Asker, ca: str, body: Rekeying) -> CaDetails:
    """A new key and a certificate for it; what the old key signed stays valid and is still answered for."""
    return await renewal.rekey_ca(
        services.authority,
        asker,
        ca,
        key_algorithm=body.key_algorithm,
        key_provider=body.key_provider,
        not_after=body.not_after,
    )


@router.get("/cas/{ca}/crls")
async def list_crls(services: Given, asker: Asker, ca: str) -> Items[Crl]:
    """The newest CRL of every key, partition and kind."""
    snapshot = await services.authority.snapshot()
    async with services.database.read() as view:
        found = await require_ca(view, snapshot, asker, ca, Permission.CA_VIEW)
        latest = [
            facts
            for generation in found.keys
            for partition in range(found.options.crl_partitions + 1)
            for delta in (False, True)
            if (facts := await crls.latest_facts(view, found, generation, partition, delta)) is not None
        ]
    return Items(items=[_crl(found, facts) for facts in latest])


@router.post("/cas/{ca}/crls", status_code=201)
async def issue_crl(services: Given, asker: Asker, ca: str, body: WantedCrl) -> Items[Crl]:
    """Issue a CRL now; with delta CRLs also the delta."""
    snapshot = await services.authority.snapshot()
    async with services.database.read() as view:
        found = await require_ca(view, snapshot, asker, ca, Permission.CA_OPERATE)
    issued = await crls.issue_crl(services.authority, asker, found, body.generation, partition=body.partition)
    return Items(items=[_crl(found, each.facts) for each in issued])


@router.get("/cas/{ca}/crl", response_class=PlainTextResponse, responses=_TEXT)
async def get_crl(
    services: Given,
    asker: Asker,
    ca: str,
    generation: Annotated[int | None, Query(ge=1)] = None,
    partition: Annotated[int, Query(ge=0)] = 0,
    kind: Annotated[Literal["complete", "delta"], Query()] = "complete",
) -> PlainTextResponse:
    """The newest CRL (PEM)."""
    snapshot = await services.authority.snapshot()
    async with services.database.read() as view:
        found = await require_ca(view, snapshot, asker, ca, Permission.CA_VIEW)
        stored = await crls.latest_crl(view, found, generation or found.generation, partition, kind == "delta")
    if stored is None:
        raise NotFound(
            f'CA "{ca}" has no such CRL.',
            code="crl-unknown",
            remedy="A first CRL follows within seconds of the creation of a CA, unless CRLs are off.",
        )
    return PlainTextResponse(pem_text.encode("X509 CRL", stored.der), media_type=PEM)


def _request(found: requests.PendingRequest) -> PlainTextResponse:
    return PlainTextResponse(pem_text.encode("CERTIFICATE REQUEST", found.der), media_type=PEM)


def _crl(ca: CaView, facts: CrlFacts) -> Crl:
    return Crl(
        number=facts.number,
        generation=facts.generation,
        partition=facts.partition,
        delta=facts.delta,
        base_number=facts.base_number,
        this_update=facts.this_update,
        next_update=facts.next_update,
        entries=facts.entries,
        fingerprint=facts.fingerprint.hex(),
        url=ca.urls.crl(facts.generation, facts.partition, delta=facts.delta),
    )
