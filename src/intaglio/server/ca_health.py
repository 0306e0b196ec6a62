"""How the CAs of the installation are doing: a health contributor, and as metrics which can issue and when they end."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import timedelta
from uuid import UUID

from intaglio.authority.directory import CaView
from intaglio.core import clock
from intaglio.server.health import Health, HealthRegistry
from intaglio.server.metrics import ca_up, certificate_expiry, token_up
from intaglio.server.services import Services

#: A CA certificate that ends sooner than this is reported, so that there is time to renew it.
EXPIRY_WARNING = timedelta(days=30)
_ISSUING = frozenset({"active", "expires-soon"})


def register(services: Services, registry: HealthRegistry) -> None:
    """Report each CA, whether it can issue whenever it is looked at, and its end whenever the configuration changed.

    Not critical: one CA that needs attention must not take the other CAs of this server out of service.
    """

    published: set[str] = set()
    published_tokens: set[str] = set()

    async def cas() -> Health:
        snapshot = await services.authority.snapshot()
        away = await services.token_health.keys_out_of_reach()
        states = {ca.full_id: _state(ca, away) for ca in snapshot.cas.values() if ca.state != "deleted"}
        issuing = {ca.full_id for ca in snapshot.cas.values() if ca.state != "deleted" and ca.kind != "external-root"}
        for gone in published - issuing:
            ca_up.labels(gone).set(math.nan)  # a label set cannot be taken back from numbers that processes share
        for name in issuing:
            ca_up.labels(name).set(states[name] in _ISSUING)
        published.clear()
        published.update(issuing)
        return Health(all(state in ("active", "awaiting-certificate") for state in states.values()), states)

    async def publish_expiry() -> None:
        snapshot = await services.authority.snapshot()
        for ca in snapshot.cas.values():
            key = ca.keys.get(ca.generation)
            if ca.state != "deleted" and key is not None and key.certificate is not None:
                certificate_expiry.labels("ca", ca.full_id).set(key.certificate.not_after.timestamp())

    async def tokens() -> Health:
        states = await services.token_health.states()
        for gone in published_tokens - states.keys():
            token_up.labels(gone).set(math.nan)
        published_tokens.clear()
        published_tokens.update(states)
        for name, state in states.items():
            token_up.labels(name).set(state == "ok")
        return Health(all(state == "ok" for state in states.values()), states)

    registry.register("cas", cas, critical=False)
    registry.register("tokens", tokens, critical=False)
    services.on_config(publish_expiry)


def _state(ca: CaView, keys_away: Mapping[UUID, str]) -> str:
    """The state of the CA, or what is about to be wrong with it; ``keys_away`` says which keys cannot sign and why."""
    key = ca.keys.get(ca.generation)
    if ca.state != "active" or key is None or key.certificate is None:
        return ca.state
    if key.key_id is not None and key.key_id in keys_away:
        return keys_away[key.key_id]
    if ca.broken_link is not None:
        return "certificate-revoked" if ca.broken_link.status == "revoked" else "certificate-held"
    left = key.certificate.not_after - clock.now()
    if left < timedelta(0):
        return "expired"
    return "expires-soon" if left < EXPIRY_WARNING else ca.state
