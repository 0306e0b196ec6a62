"""The installation as a whole: status, server certificates, the platform's root."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import datetime, timedelta
from typing import Any

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from intaglio import __version__
from intaglio.authority.access import visible_organizations
from intaglio.authority.bootstrap import platform_root
from intaglio.authority.cas.views import PUBLIC_KINDS
from intaglio.core import clock
from intaglio.core.errors import IntaglioError
from intaglio.core.principal import SYSTEM, Permission
from intaglio.platform import server_identities
from intaglio.platform.server_identities import ServerIdentityInfo
from intaglio.server.management.access import Asked, Asker, Given
from intaglio.server.management.lists import Items, page
from intaglio.server.platform_identity import restore_identity
from intaglio.server.runtime import Runtime, read_runtime
from intaglio.server.services import Services
from intaglio.x509.certificates import pem

router = APIRouter(tags=["platform"])

_PEM = "application/x-pem-file"
_PATIENCE = 3.0  # seconds the database may take to prove itself


class Status(BaseModel):
    """How the server is doing. ``cas`` counts the certificate authorities one sees by state."""

    ready: bool
    version: str
    hostname: str
    public_url: str
    started_at: datetime | None
    database: str
    configuration_current: bool
    listeners: dict[str, list[str]]
    processes: int
    cas: dict[str, int]
    certificates_expiring: list[str] = Field(description="Server and CA certificates that end within 30 days.")


class NewIdentity(BaseModel):
    """``certificate`` is PEM, leaf first; ``key`` is PEM, encrypted when there is a ``password``."""

    model_config = ConfigDict(extra="forbid")

    certificate: str = Field(max_length=262144)
    key: SecretStr = Field(max_length=65536)
    password: SecretStr | None = Field(default=None, max_length=1000)


@router.get("/status")
async def get_status(services: Given, asker: Asker) -> Status:
    """Readiness, listeners, database, certificate authorities."""
    reachable = await _database_answers(services)
    runtime = _runtime(services)
    cas: dict[str, int] = {}
    expiring: list[str] = []
    if reachable:
        snapshot = await services.authority.snapshot()
        async with services.database.read() as view:
            mine = {each.id for each in await visible_organizations(view, asker)}
        for ca in snapshot.cas.values():
            if ca.state != "deleted" and ca.kind in PUBLIC_KINDS and ca.organization_id in mine:
                cas[ca.state] = cas.get(ca.state, 0) + 1
        if asker.may(Permission.PLATFORM_MANAGE):
            expiring = await _expiring(services)
    return Status(
        ready=reachable and services.watch.current and (runtime is None or runtime.ready),
        version=__version__,
        hostname=services.settings.hostname,
        public_url=services.settings.public_base,
        started_at=datetime.fromisoformat(runtime.started_at).replace(microsecond=0) if runtime else None,
        database="up" if reachable else "down",
        configuration_current=services.watch.current,
        listeners=_addresses(runtime),
        processes=len(runtime.processes) if runtime else 0,
        cas=cas,
        certificates_expiring=expiring,
    )


@router.get(
    "/platform/ca-certificate",
    response_class=PlainTextResponse,
    responses={200: {"content": {_PEM: {"schema": {"type": "string"}}}}},
)
async def get_platform_root(services: Given) -> PlainTextResponse:
    """The root (PEM) that clients of the listeners trust while no certificate was imported. Needs no login: it is
    public, and trust in it must come from elsewhere anyway."""
    return PlainTextResponse(pem(await platform_root(services.authority)), media_type=_PEM)


@router.get("/server-certificates")
async def list_server_certificates(services: Given, asker: Asker, asked: Asked) -> Items[ServerIdentityInfo]:
    """The server certificates of the listeners; `default` serves those without one of their own."""
    async with services.database.read() as view:
        return page(await server_identities.list_identities(view, asker), asked, key="listener")


@router.put("/server-certificates/{listener}")
async def import_server_certificate(
    services: Given, asker: Asker, listener: str, body: NewIdentity
) -> ServerIdentityInfo:
    """Import a server certificate with its key; served at once. What does not fit leaves the old one in use."""
    async with services.database.transaction() as tx:
        return await server_identities.install(
            tx,
            asker,
            services.master_key,
            body.certificate.encode(),
            body.key.get_secret_value().encode(),
            password=body.password,
            listener=listener,
        )


@router.delete("/server-certificates/{listener}", status_code=204)
async def remove_server_certificate(services: Given, asker: Asker, listener: str) -> None:
    """Take a listener's own certificate away; it serves the default one from now on. `default` goes back to one that
    the platform makes and renews."""
    if listener == server_identities.DEFAULT:
        await restore_identity(services, asker)
        return
    async with services.database.transaction() as tx:
        await server_identities.remove(tx, asker, listener)


async def _database_answers(services: Services) -> bool:
    with contextlib.suppress(IntaglioError, TimeoutError):
        async with asyncio.timeout(_PATIENCE):
            await services.database.ping()
            return True
    return False


def _runtime(services: Services) -> Runtime | None:
    with contextlib.suppress(IntaglioError):
        return read_runtime(services.settings.data_dir)
    return None


def _addresses(runtime: Runtime | None) -> dict[str, list[str]]:
    if runtime is None:
        return {}
    found: dict[str, Any] = {
        name: [f"{bound.scheme}://{_host(address.host)}:{address.port}" for address in bound.addresses]
        for name, bound in runtime.listeners.items()
    }
    return {**found, "admin": [runtime.admin_socket]} if runtime.admin_socket else found


def _host(host: str) -> str:
    return f"[{host}]" if ":" in host else host


async def _expiring(services: Services) -> list[str]:
    horizon = clock.now() + timedelta(days=30)
    async with services.database.read() as view:
        identities = await server_identities.list_identities(view, SYSTEM)
    found = [
        f"listener {each.listener}: {clock.rfc3339(each.not_after)}" for each in identities if each.not_after < horizon
    ]
    for ca in (await services.authority.snapshot()).cas.values():
        if ca.state == "active" and ca.generation and ca.certificate.not_after < horizon:
            found.append(f"CA {ca.full_id}: {clock.rfc3339(ca.certificate.not_after)}")
    return sorted(found)
