"""How status authorities are doing: how current their sources are, and how long their signers last."""

from __future__ import annotations

import math

from sqlalchemy import select

from intaglio.core import clock
from intaglio.server.health import Health, HealthRegistry
from intaglio.server.metrics import certificate_expiry
from intaglio.server.services import Services


def register(services: Services, registry: HealthRegistry) -> None:
    """Report each source that is read from, and each signer. Not critical: one CA's trouble must not take the others
    out of service."""

    published: set[tuple[str, str]] = set()

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

    async def signers() -> Health:
        from intaglio.validation.models import status_authority, status_signer
        from intaglio.validation.signers.values import ends_soon

        c = status_signer.c
        joined = status_signer.outerjoin(status_authority, status_authority.c.id == c.authority_id)
        query = select(c.label, c.not_after, c.issuing_ca_id, status_authority.c.name).select_from(joined)
        async with services.database.read() as view:
            rows = await view.all(query.where(c.current, c.kind != "ca"))
        states: dict[str, str] = {}
        now, shown = clock.now(), set[tuple[str, str]]()
        for row in rows:
            name = row["label"] if row["name"] in (None, row["label"]) else f"{row['name']}/{row['label']}"
            itself = row["issuing_ca_id"] is not None
            labels = ("automatic-ocsp-signer" if itself else "ocsp-signer", name)
            certificate_expiry.labels(*labels).set(row["not_after"].timestamp())
            shown.add(labels)
            soon = ends_soon(row["not_after"], now, renews_itself=itself)
            states[name] = "expired" if row["not_after"] <= now else "ends-soon" if soon else "current"
        for labels in published - shown:
            certificate_expiry.labels(*labels).set(math.nan)  # label sets of shared numbers cannot be taken back
        published.clear()
        published.update(shown)
        return Health(all(state == "current" for state in states.values()), states)

    registry.register("statusSources", sources, critical=False)
    registry.register("ocspSigners", signers, critical=False)

