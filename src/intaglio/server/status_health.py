"""How current the sources of status authorities are: a health contributor, and the ends of client credentials."""

from __future__ import annotations

from sqlalchemy import select

from intaglio.core import clock
from intaglio.server.health import Health, HealthRegistry
from intaglio.server.metrics import certificate_expiry
from intaglio.server.services import Services


def register(services: Services, registry: HealthRegistry) -> None:
    """Report each source that is read from. Not critical: one CA's source must not take the others out of service."""

    async def sources() -> Health:
        from intaglio.validation import models
        from intaglio.validation.sources.freshness import states

        a, c = models.status_authority.c, models.status_credential.c
        async with services.database.read() as view:
            found = await states(view, clock.now())
            names = {row["id"]: row["name"] for row in await view.all(select(a.id, a.name).where(a.id.in_(found)))}
            held = select(c.subject, c.not_after).where(c.deleted_at.is_(None))
            credentials = await view.all(held.order_by(c.created_at))
        for row in credentials:  # of several with one subject the latest
            certificate_expiry.labels("gateway-credential", row["subject"]).set(row["not_after"].timestamp())
        told = {names[key]: state.stale_reason or "current" for key, state in found.items() if key in names}
        return Health(all(each == "current" for each in told.values()), told)

    registry.register("statusSources", sources, critical=False)
