"""A SCEP endpoint of one process, its credentials, and devices that speak to it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import pytest_asyncio
from pydantic import SecretStr
from sqlalchemy import select
from starlette.applications import Starlette
from tests.enrollment.conftest import PROFILE_OF, NewEndpointAt
from tests.support.authority import OPERATOR, on_authority
from tests.support.database import MakeStage, Stage
from tests.support.scep_client import Device, PrivateKey, rsa_key

from intaglio.audit.models import audit_record
from intaglio.authority.context import Authority
from intaglio.enrollment.administration import EndpointChanges, change_endpoint
from intaglio.enrollment.context import Enrollment
from intaglio.enrollment.credential_administration import NewCredential, create_credential
from intaglio.enrollment.scep import registration
from intaglio.enrollment.scep.options import RaOptions
from intaglio.enrollment.scep.routes import routes
from intaglio.enrollment.values import Endpoint, Protocol

SOURCE = "192.0.2.7"
CHALLENGE = "correct horse battery"


@dataclass
class Desk:
    """An endpoint at ``demo~issuing``, asked from :data:`SOURCE`."""

    enrollment: Enrollment
    endpoint: Endpoint
    http: httpx.AsyncClient
    path: str = f"/scep/main/demo~issuing/{PROFILE_OF['scep']}"

    def device(self, key: PrivateKey | None = None) -> Device:
        return Device(self.http, self.path, key or rsa_key())

    async def audited(self, action: str) -> list[dict[str, Any]]:
        """What the audit records of an action say."""
        assert self.enrollment.refusals is not None
        await self.enrollment.refusals.flush()
        c = audit_record.c
        async with self.enrollment.database.read() as view:
            return [row["detail"] for row in await view.all(select(c.detail).where(c.action == action).order_by(c.seq))]

    async def change(self, **changes: Any) -> None:
        """Change the endpoint; ``options`` are merged."""
        name, wanted = self.endpoint.name, EndpointChanges(**changes)
        await change_endpoint(self.enrollment, OPERATOR, Protocol.SCEP, name, wanted)
        await self.enrollment.authority.reload()  # as the process does when it hears of it

    async def credential(self, kind: str = "challenge", **wish: Any) -> str:
        """A new credential; its secret."""
        made = await create_credential(
            self.enrollment,
            OPERATOR,
            Protocol.SCEP,
            self.endpoint.name,
            NewCredential(kind=kind, **wish),  # type: ignore[arg-type]
        )
        return made.secret


Call = Callable[..., Awaitable[Desk]]


@pytest.fixture(scope="session")
def scep_stage(make_stage: MakeStage, enrollment_stage: Stage) -> Stage:
    """A database in which ``demo~issuing`` has a registration authority; making its key takes long."""

    async def build(authority: Authority) -> None:
        await registration.ensure(authority, (await authority.current()).ca("demo~issuing"), RaOptions())

    return make_stage(on_authority(build), enrollment_stage)


@pytest_asyncio.fixture
async def http(enrollment: Enrollment) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(Starlette(routes=routes(enrollment)), client=(SOURCE, 4711))
    async with httpx.AsyncClient(transport=transport, base_url="http://scep.example") as client:
        yield client


@pytest.fixture
def new_desk(scep_stage: Stage, enrollment: Enrollment, new_endpoint: NewEndpointAt, http: httpx.AsyncClient) -> Call:
    """A function that makes an endpoint with the challenge :data:`CHALLENGE`; ``options`` and the like as wished."""

    async def make(**changes: Any) -> Desk:
        desk = Desk(enrollment, await new_endpoint("scep", **changes), http)
        await desk.credential(name="static", secret=SecretStr(CHALLENGE))
        return desk

    return make


@pytest_asyncio.fixture
async def desk(new_desk: Call) -> Desk:
    return await new_desk()
