"""What is told of endpoints that cannot issue."""

from __future__ import annotations

from tests.enrollment.conftest import NewEndpointAt
from tests.support.authority import OPERATOR

from intaglio.authority.cas import edit
from intaglio.authority.cas.values import CaChanges
from intaglio.enrollment.administration import EndpointChanges, change_endpoint
from intaglio.enrollment.context import Enrollment
from intaglio.enrollment.health import examine


async def test_an_endpoint_whose_profile_was_taken_away_is_reported(
    enrollment: Enrollment, new_endpoint: NewEndpointAt
) -> None:
    endpoint = await new_endpoint("est", name="devices")
    off = await new_endpoint("scep", name="phones")
    await change_endpoint(enrollment, OPERATOR, off.protocol, off.name, EndpointChanges(enabled=False))
    assert await examine(enrollment) == {"est/devices": "ready"}
    await edit.edit_ca(enrollment.authority, OPERATOR, endpoint.ca, CaChanges(profiles=["privatessl-tls-server"]))
    await enrollment.authority.current()
    assert await examine(enrollment) == {"est/devices": "profile-unknown"}
