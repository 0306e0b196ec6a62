"""A gateway over two CAs with a client for every role."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import pytest_asyncio
from tests.gateway.support import Client
from tests.support.authority import OPERATOR, issuing_wish, on_authority, root_wish
from tests.support.database import MakeStage, Stage

from intaglio.authority.cas.create import create_issuing, create_root
from intaglio.authority.context import Authority
from intaglio.authority.rights import grant_right
from intaglio.core.errors import IntaglioError
from intaglio.core.principal import Principal
from intaglio.gateway.api import GatewayApp, gateway_app
from intaglio.platform import live_settings

PROFILES = [
    "privatessl-tls-server",
    "privatessl-tls-client",
    "privatessl-tls-server-supply-san",
    "multiuse-p12-client-server",
    "multiuse-p12-custom",
]
TENANTS = ("policy-override-tenant", "policy-constrained-tenant", "read-only-tenant")


@dataclass
class Refusals:
    """Keeps what the gateway has recorded as refused."""

    recorded: list[tuple[Principal, str, str, str, IntaglioError, str | None]] = field(default_factory=list)

    def record(
        self,
        principal: Principal,
        action: str,
        object_kind: str,
        object_name: str,
        error: IntaglioError,
        *,
        organization: str | None = None,
    ) -> None:
        self.recorded.append((principal, action, object_kind, object_name, error, organization))


@pytest.fixture
def refusals() -> Refusals:
    return Refusals()


@pytest_asyncio.fixture
async def app(authority: Authority, organization: str, refusals: Refusals) -> GatewayApp:
    """The application over ``demo~root`` and ``demo~issuing``."""
    return gateway_app(authority, refusals=refusals)


@pytest.fixture(scope="session")
def gateway_stage(make_stage: MakeStage, organization_stage: Stage) -> Stage:
    """A database with ``demo~root``, ``demo~issuing`` and their clients; certificates by role."""

    async def build(authority: Authority) -> dict[str, bytes]:
        rights = {"administrators": ["integrator"], "auditors": ["auditor"]}
        root = await create_root(authority, OPERATOR, "demo", root_wish(**rights))
        wished = issuing_wish(profiles=PROFILES, **rights)
        await create_issuing(authority, OPERATOR, "demo", wished)
        found = {credential.name: credential.certificate for credential in root.credentials}
        for right in TENANTS:
            credential = await grant_right(authority, OPERATOR, "demo~issuing", right, right)
            assert credential is not None
            found[right] = credential.certificate
        return found | {"read-only-integrator": found["auditor"]}

    return make_stage(on_authority(build), organization_stage)


@pytest.fixture
def clients(gateway_stage: Stage, app: GatewayApp) -> dict[str, Client]:
    """Clients by role; all stand to ``demo~issuing``, the integrator and the auditor also to ``demo~root``."""
    return {role: Client(app, certificate) for role, certificate in gateway_stage.value.items()}


async def configure(authority: Authority, **values: object) -> None:
    """Change live settings of the gateway."""
    async with authority.database.transaction() as tx:
        await live_settings.change(tx, OPERATOR, "gateway", values)
    await authority.reload()


@pytest.fixture
def integrator(clients: dict[str, Client]) -> Client:
    """The client that may do everything."""
    return clients["integrator"]
