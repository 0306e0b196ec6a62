"""Whether the endpoints can do what they are there for."""

from __future__ import annotations

from intaglio.authority.directory import Snapshot
from intaglio.core.errors import IntaglioError
from intaglio.enrollment.administration import require_offered
from intaglio.enrollment.context import Enrollment
from intaglio.enrollment.values import Endpoint

READY = "ready"


async def examine(enrollment: Enrollment) -> dict[str, str]:
    """For every endpoint that is switched on ``ready``, or the code of what keeps it from issuing."""
    snapshot = await enrollment.gateway.snapshot()
    found = await enrollment.endpoints.all()
    return {each.address: state_of(snapshot, each) for each in found if each.enabled}


def state_of(snapshot: Snapshot, endpoint: Endpoint) -> str:
    """``ready``, or the code of what keeps an endpoint from issuing."""
    try:
        ca = snapshot.ca(endpoint.ca)
        ca.require_active()
        ca.require_good_certificate()
        require_offered(ca, endpoint.profile, endpoint.protocol)
    except IntaglioError as error:
        return error.code
    return READY
