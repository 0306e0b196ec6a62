"""The enrolment protocols of one process over a two-tier hierarchy whose issuing CA offers profiles for all of them.

``enrollment`` is what every adapter works with; ``new_endpoint("est", name="default", options={...})`` makes an
endpoint of a protocol at ``demo~issuing``; ``tests.support.requests`` makes certificate requests.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import pytest_asyncio
from tests.support.authority import OPERATOR, issuing_wish, on_authority, root_wish
from tests.support.database import MakeStage, Stage
from tests.support.eventually import eventually

from intaglio.audit.refusals import RefusalRecorder
from intaglio.authority.cas.create import create_issuing, create_root
from intaglio.authority.context import Authority
from intaglio.core.secrets import MasterKey
from intaglio.db.engine import Database
from intaglio.db.listen import Watch
from intaglio.enrollment.administration import NewEndpoint, create_endpoint
from intaglio.enrollment.context import Enrollment
from intaglio.enrollment.values import Endpoint, Protocol
from intaglio.gateway.service import Gateway

USAGES = ("digital-signature", "key-encipherment", "digital-signature-key-encipherment", "non-repudiation")
PROFILES = (
    *("privatessl-tls-server", "privatessl-tls-client", "privatessl-tls-client-server"),
    *(f"{protocol}-{usage}" for protocol in ("est", "scep", "cmp") for usage in USAGES),
)
#: The profile that tests of each protocol use unless they say otherwise.
PROFILE_OF = {
    "acme": "privatessl-tls-server",
    "est": "est-digital-signature",
    "scep": "scep-digital-signature-key-encipherment",
    "cmp": "cmp-digital-signature",
}
NewEndpointAt = Callable[..., Awaitable[Endpoint]]


@pytest.fixture(scope="session")
def enrollment_stage(make_stage: MakeStage, organization_stage: Stage) -> Stage:
    """A database with ``demo~root`` and ``demo~issuing``, which offers profiles of every protocol."""

    async def build(authority: Authority) -> None:
        await create_root(authority, OPERATOR, "demo", root_wish())
        await create_issuing(authority, OPERATOR, "demo", issuing_wish(profiles=list(PROFILES)))

    return make_stage(on_authority(build), organization_stage)


@pytest_asyncio.fixture
async def watch(database: Database) -> AsyncIterator[Watch]:
    started = Watch(database)
    await started.start()
    await eventually(lambda: started.current)
    yield started
    await started.stop()


@pytest_asyncio.fixture
async def enrollment(
    enrollment_stage: Stage, authority: Authority, master_key: MasterKey, watch: Watch
) -> AsyncIterator[Enrollment]:
    """What the adapters of one process work with."""
    recorder = RefusalRecorder(authority.database)
    gateway = Gateway(authority, refusals=recorder)
    made = Enrollment(authority, gateway, master_key, watch, recorder)
    yield made
    await made.close()
    await recorder.stop()


@pytest_asyncio.fixture
async def other_process(enrollment: Enrollment, watch: Watch) -> AsyncIterator[Enrollment]:
    """What another process works with: the same database, a configuration and memories of its own."""
    mine = enrollment.authority
    authority = Authority(mine.settings, mine.database, mine.keystore)
    await authority.start()
    made = Enrollment(authority, Gateway(authority), enrollment.master_key, watch)
    yield made
    await made.close()
    await authority.stop()


@pytest.fixture
def new_endpoint(enrollment: Enrollment) -> NewEndpointAt:
    """A function that makes an endpoint of a protocol at ``demo~issuing``."""

    async def make(protocol: str, **changes: Any) -> Endpoint:
        values: dict[str, Any] = {
            "protocol": Protocol(protocol),
            "ca": "demo~issuing",
            "profile": PROFILE_OF[protocol],
        }
        return await create_endpoint(enrollment, OPERATOR, NewEndpoint(**(values | changes)))

    return make
