"""An ACME server of one process over a two-tier hierarchy, whose challenges end as the test says."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest_asyncio
from starlette.applications import Starlette
from tests.support.acme_client import AcmeClient, Key, certificate_request, new_key
from tests.support.authority import OPERATOR
from tests.support.eventually import eventually

from intaglio.audit.refusals import RefusalRecorder
from intaglio.authority.cas.values import CreatedCa
from intaglio.authority.context import Authority
from intaglio.core.secrets import MasterKey
from intaglio.db.engine import Database
from intaglio.db.listen import Watch
from intaglio.enrollment import administration
from intaglio.enrollment.acme.app import AcmeApp
from intaglio.enrollment.acme.context import Acme
from intaglio.enrollment.acme.routes import routes
from intaglio.enrollment.acme.validation import Target, ValidationFailed
from intaglio.enrollment.administration import EndpointChanges, NewEndpoint
from intaglio.enrollment.context import Enrollment
from intaglio.enrollment.values import Endpoint, Protocol
from intaglio.gateway.service import Gateway

ROOT = "https://acme.example/acme/main/demo~issuing/privatessl-tls-server"
DIRECTORY = f"{ROOT}/directory"


@dataclass
class Validations:
    """A validator that knows the outcome: what is in ``failing`` fails so, everything else is proven."""

    failing: dict[str, ValidationFailed] = field(default_factory=dict)
    caa: dict[str, ValidationFailed] = field(default_factory=dict)
    seen: list[Target] = field(default_factory=list)
    #: Names whose validation does not end by itself.
    endless: set[str] = field(default_factory=set)

    async def validate(self, target: Target) -> None:
        self.seen.append(target)
        if target.value in self.endless:
            await eventually(lambda: target.value not in self.endless, timeout=60)
        if target.value in self.failing:
            raise self.failing[target.value]

    async def check_caa(self, domain: str, *, wildcard: bool, method: str, account_uri: str) -> None:
        if domain in self.caa:
            raise self.caa[domain]


@dataclass
class House:
    """One process that serves ACME."""

    enrollment: Enrollment
    app: AcmeApp
    http: httpx.AsyncClient
    validations: Validations

    @property
    def acme(self) -> Acme:
        return self.app.acme

    async def endpoint(self, **wish: Any) -> Endpoint:
        """An endpoint of ``demo~issuing``; ``options`` as a mapping of what differs."""
        values = {"protocol": Protocol.ACME, "ca": "demo~issuing", "profile": "privatessl-tls-server", **wish}
        made = await administration.create_endpoint(self.enrollment, OPERATOR, NewEndpoint(**values))
        await self.enrollment.authority.current()  # as the process does when it hears of it
        return made

    async def change(self, endpoint: Endpoint, **changes: Any) -> None:
        """Change an endpoint."""
        changes = {"options": None, **changes}
        await administration.change_endpoint(
            self.enrollment, OPERATOR, endpoint.protocol, endpoint.name, EndpointChanges(**changes)
        )
        await self.enrollment.authority.current()

    async def stranger(self, directory: str = DIRECTORY, *, key: Key | None = None) -> AcmeClient:
        """A client without an account."""
        return await AcmeClient(self.http, directory, key or new_key()).start()

    async def client(self, directory: str = DIRECTORY, *, key: Key | None = None, **wish: Any) -> AcmeClient:
        """A client with an account."""
        client = await self.stranger(directory, key=key)
        answer = await client.register(**wish)
        assert answer.status_code == 201, answer.text
        return client

    async def ready_order(self, client: AcmeClient, *names: str, **more: Any) -> dict[str, Any]:
        """An order whose names are all proven."""
        answer = await client.order(*names, **more)
        assert answer.status_code == 201, answer.text
        order = answer.json()
        order["url"] = answer.headers["location"]
        await client.answer_challenges(order)
        await self.reached(client, order["url"], "ready")
        return dict(order)

    async def certificate(self, client: AcmeClient, *names: str, **more: Any) -> tuple[dict[str, Any], str]:
        """A finished order and its chain in PEM."""
        order = await self.ready_order(client, *names, **more)
        addresses = more.get("addresses", ())
        answer = await client.finalize(order, certificate_request(names, addresses=addresses))
        assert answer.status_code == 200, answer.text
        done = answer.json()
        assert done["status"] == "valid", done
        chain = await client.post(done["certificate"])
        assert chain.status_code == 200, chain.text
        return {**done, "url": order["url"]}, chain.text

    async def reached(self, client: AcmeClient, url: str, status: str) -> dict[str, Any]:
        """Wait until the object at the URL has the status; the object."""
        found: dict[str, Any] = {}

        async def there() -> bool:
            found.update((await client.post(url)).json())
            return bool(found.get("status") == status)

        await eventually(there)
        return found


@pytest_asyncio.fixture
async def watch(database: Database) -> AsyncIterator[Watch]:
    started = Watch(database)
    await started.start()
    await eventually(lambda: started.current)
    yield started
    await started.stop()


@pytest_asyncio.fixture
async def house(
    authority: Authority, hierarchy: tuple[CreatedCa, CreatedCa], master_key: MasterKey, watch: Watch
) -> AsyncIterator[House]:
    refusals = RefusalRecorder(authority.database)
    enrollment = Enrollment(authority, Gateway(authority), master_key, watch, refusals)
    async with serving(enrollment, Validations()) as made:
        yield made


class serving:
    """A process that serves ACME from now on until the end of the block."""

    def __init__(self, enrollment: Enrollment, validations: Validations) -> None:
        self._enrollment, self._validations = enrollment, validations

    async def __aenter__(self) -> House:
        application = Starlette(routes=routes(self._enrollment))
        app = application.routes[0].app  # type: ignore[attr-defined]  # a Route, which BaseRoute does not show
        assert isinstance(app, AcmeApp)

        async def validator(endpoint: Endpoint) -> Validations:
            return self._validations

        app.acme.validator = validator  # type: ignore[method-assign, assignment]  # what proves control is tested apart
        http = httpx.AsyncClient(transport=httpx.ASGITransport(application), base_url="https://acme.example")
        self._house = House(self._enrollment, app, http, self._validations)
        return self._house

    async def __aexit__(self, *_: object) -> None:
        await self._house.http.aclose()
        await self._house.app.acme.close()


def problem(answer: httpx.Response, kind: str, status: int) -> dict[str, Any]:
    """The problem document; it is of this type."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = answer.json()
    assert document["type"] == f"urn:ietf:params:acme:error:{kind}", document
    assert document["status"] == status
    assert document["detail"]
    return document
