"""The endpoints of one process: read again whenever the configuration changed anywhere.

They are as current as the snapshot that issuing decides on. Who issues says so with :meth:`EndpointDirectory.check`, so
nothing is issued at an endpoint that somebody switched off a moment before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import select, text

from intaglio.authority.directory import Snapshot
from intaglio.core.errors import NotFound, StateConflict
from intaglio.db.journal import journal_head
from intaglio.enrollment.settings import EnrollmentSettings
from intaglio.enrollment.storage import load_endpoints
from intaglio.enrollment.values import Endpoint, Protocol
from intaglio.gateway.service import Gateway
from intaglio.platform import live_settings


class EndpointUnknown(NotFound):
    """Nothing is offered under this URL; the detail names the part of it that is not known."""

    default_code = "endpoint-unknown"
    default_remedy = "Take the URL from: intaglio enroll urls."


class EndpointsMoved(StateConflict):
    """The endpoints in memory belong to an older configuration; read them and decide again."""

    default_code = "configuration-changed"

    def __init__(self) -> None:
        super().__init__("The configuration changed while the request was being decided.")


class _Place(NamedTuple):
    protocol: Protocol
    tenant: str
    ca: str
    profile: str


class EndpointDirectory:
    """All endpoints by URL and by name."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._lock = asyncio.Lock()
        self._epoch = -1
        self.settings = EnrollmentSettings()
        self._by_id: Mapping[UUID, Endpoint] = {}
        self._by_place: Mapping[_Place, Endpoint] = {}
        self._by_name: Mapping[tuple[Protocol, str], Endpoint] = {}

    async def at(self, protocol: Protocol, tenant: str, ca: str, profile: str) -> Endpoint:
        """The endpoint of a URL. The case of the tenant counts; a profile may be written with ``_`` for ``-``.

        Raises EndpointUnknown naming the unknown element (``endpoint-disabled`` for one that is switched off),
        Unavailable.
        """
        place = _Place(protocol, tenant, ca, canonical_profile(profile))
        found = await self._found(lambda: self._by_place.get(place))
        if found is None:
            raise self._unknown(place)
        return _enabled(found)

    async def named(self, protocol: Protocol, label: str) -> Endpoint:
        """The endpoint of a protocol by its name. Raises like :meth:`at`."""
        found = await self._found(lambda: self._by_name.get((protocol, label)))
        if found is None:
            raise EndpointUnknown(f'There is no {protocol.upper()} endpoint "{label[:100]}".', target="label")
        return _enabled(found)

    async def same(self, endpoint: Endpoint) -> Endpoint:
        """An endpoint as it is now. Raises EndpointUnknown."""
        await self.catch_up()
        found = self._by_id.get(endpoint.id)
        if found is None:
            raise EndpointUnknown(f'The endpoint "{endpoint.address}" was deleted.')
        return _enabled(found)

    async def latest(self, endpoint: Endpoint) -> Endpoint:
        """An endpoint as it is now, switched off or not; what it was when it is no more."""
        await self.catch_up()
        return self._by_id.get(endpoint.id, endpoint)

    async def all(self, protocol: Protocol | None = None) -> Iterable[Endpoint]:
        """Every endpoint, also those switched off."""
        await self.catch_up()
        return [each for each in self._by_id.values() if protocol in (None, each.protocol)]

    def check(self, endpoint: Endpoint) -> Callable[[Snapshot], None]:
        """What raises EndpointsMoved when asked about a configuration that the endpoint may not be part of."""

        def judge(snapshot: Snapshot) -> None:
            if snapshot.epoch > self._epoch or self._by_id.get(endpoint.id) is not endpoint:
                raise EndpointsMoved

        return judge

    async def catch_up(self) -> None:
        """Read the endpoints unless what is in memory is as new as the snapshot. Raises Unavailable, TimedOut."""
        if (await self._gateway.snapshot()).epoch <= self._epoch:
            return
        async with self._lock:
            if (await self._gateway.snapshot()).epoch > self._epoch:
                await self._read()

    async def _found(self, look: Callable[[], Endpoint | None]) -> Endpoint | None:
        """What ``look`` finds; what it does not find may have been made, or switched on, a moment ago elsewhere."""
        await self.catch_up()
        found = look()
        if found is not None and found.enabled:
            return found
        await self._gateway.authority.current()
        await self.catch_up()
        return look()

    async def _read(self) -> None:
        async with self._gateway.authority.database.read() as view:
            await view.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
            epoch = int(await view.scalar(select(journal_head.c.epoch)) or 0)
            found = await load_endpoints(view, deleted_cas=False)
            settings = await live_settings.current(view, EnrollmentSettings)
        known = self._by_id
        # One that is as it was stays the same object: whoever holds it need not decide again.
        kept = [known[each.id] if known.get(each.id) == each else each for each in found]
        self._by_id = {each.id: each for each in kept}
        self._by_place = {_Place(each.protocol, each.tenant, each.ca, each.profile): each for each in kept}
        self._by_name = {(each.protocol, each.name): each for each in kept}
        self.settings = settings
        self._epoch = epoch

    def _unknown(self, asked: _Place) -> EndpointUnknown:
        places = [place for place in self._by_place if place.protocol is asked.protocol]
        protocol = asked.protocol.upper()
        if not any(place.tenant == asked.tenant for place in places):
            return EndpointUnknown(f'There is no tenant "{asked.tenant[:100]}" with {protocol}.', target="tenant")
        if not any(place.tenant == asked.tenant and place.ca == asked.ca for place in places):
            return EndpointUnknown(
                f'Tenant "{asked.tenant[:100]}" offers no {protocol} for CA "{asked.ca[:100]}".', target="ca"
            )
        return EndpointUnknown(
            f'CA "{asked.ca[:100]}" is not asked for profile "{asked.profile[:100]}" by {protocol} here.',
            target="profile",
        )


def canonical_profile(profile: str) -> str:
    """The one spelling of a profile id."""
    return profile.replace("_", "-").lower()


def _enabled(endpoint: Endpoint) -> Endpoint:
    if not endpoint.enabled:
        raise EndpointUnknown(f'The endpoint "{endpoint.address}" is switched off.', code="endpoint-disabled")
    return endpoint
