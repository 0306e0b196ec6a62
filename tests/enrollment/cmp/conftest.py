"""CMP endpoints of one process, and clients that speak to them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest
from tests.enrollment.conftest import NewEndpointAt
from tests.support.authority import OPERATOR
from tests.support.cmp_client import CmpClient

from intaglio.enrollment.cmp.context import Cmp
from intaglio.enrollment.cmp.service import respond
from intaglio.enrollment.context import Enrollment
from intaglio.enrollment.credential_administration import NewCredential, create_credential
from intaglio.enrollment.values import Endpoint, Protocol

SOURCE = "192.0.2.7"
REFERENCE, SECRET = "device-ref", b"a shared secret of enough length"


@dataclass
class Desk:
    """An endpoint with a shared secret, as one process serves it."""

    enrollment: Enrollment
    cmp: Cmp
    endpoint: Endpoint

    async def send(self, message: bytes) -> bytes:
        endpoint = await self.enrollment.endpoints.same(self.endpoint)
        return (await respond(self.cmp, endpoint, message, SOURCE)).body

    def client(self, **changes: Any) -> CmpClient:
        """Somebody with the shared secret, unless he has a certificate."""
        who = {} if "certificate" in changes else {"secret": (REFERENCE, SECRET)}
        return CmpClient(self.send, **{**who, **changes})


NewDesk = Callable[..., Awaitable[Desk]]


@pytest.fixture
def new_desk(enrollment: Enrollment, new_endpoint: NewEndpointAt) -> NewDesk:
    """A function that makes an endpoint with these options; further arguments are of the endpoint, and ``credential``
    of its secret."""

    async def make(credential: dict[str, Any] | None = None, **changes: Any) -> Desk:
        endpoint = await new_endpoint("cmp", **changes)
        wish = {"kind": "mac", "name": REFERENCE, "secret": SECRET.decode(), **(credential or {})}
        await create_credential(enrollment, OPERATOR, Protocol.CMP, endpoint.name, NewCredential(**wish))
        await enrollment.authority.current()
        return Desk(enrollment, Cmp(enrollment), endpoint)

    return make
