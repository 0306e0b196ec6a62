"""Registration authorities, for those who look after endpoints."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from intaglio.authority.access import sees_all
from intaglio.core import clock
from intaglio.core.principal import Permission, Principal
from intaglio.enrollment.administration import require_endpoint, visible_organizations
from intaglio.enrollment.context import Enrollment
from intaglio.enrollment.scep import registration
from intaglio.enrollment.scep.registration import RegistrationAuthority
from intaglio.enrollment.storage import load_endpoints
from intaglio.enrollment.values import Endpoint, Protocol


@dataclass(frozen=True)
class AuthorityView:
    """A registration authority, its CA (``organization~ca``) and the names of the endpoints that it answers at."""

    authority: RegistrationAuthority
    ca: str
    endpoints: tuple[str, ...]


async def list_authorities(enrollment: Enrollment, principal: Principal) -> Sequence[AuthorityView]:
    """Those that answer or decrypt still, of all CAs the principal sees, newest first. Needs ``enrollment.view``."""
    principal.require(Permission.ENROLLMENT_VIEW)
    snapshot = await enrollment.authority.current()
    async with enrollment.database.read() as view:
        found = await registration.load_all(view, clock.now())
        endpoints = await load_endpoints(view, Protocol.SCEP)
        mine = None if sees_all(principal) else await visible_organizations(view, principal)
    shown = []
    for each in found:
        ca = snapshot.cas.get(each.ca_id)
        if ca is not None and (mine is None or ca.organization_id in mine):
            shown.append(AuthorityView(each, ca.full_id, _sharing(endpoints, each)))
    return shown


async def renew_authority(enrollment: Enrollment, principal: Principal, endpoint: str) -> AuthorityView:
    """Give an endpoint, and those that share it, a new registration authority; the old one still answers who knows it.

    Needs ``enrollment.manage``. Raises NotFound, StateConflict and what making one raises.
    """
    async with enrollment.database.read() as view:
        found = await require_endpoint(view, principal, Protocol.SCEP, endpoint, Permission.ENROLLMENT_MANAGE)
        endpoints = await load_endpoints(view, Protocol.SCEP)
    snapshot = await enrollment.authority.current()
    made = await registration.renew(enrollment.authority, principal, snapshot.ca(found.ca), found.options.ra)
    return AuthorityView(made, found.ca, _sharing(endpoints, made))


def _sharing(endpoints: Iterable[Endpoint], authority: RegistrationAuthority) -> tuple[str, ...]:
    """The names of the endpoints that a registration authority answers at by its own choice."""
    if authority.state != "current":
        return ()
    return tuple(e.name for e in endpoints if e.ca_id == authority.ca_id and e.options.ra == authority.options)
