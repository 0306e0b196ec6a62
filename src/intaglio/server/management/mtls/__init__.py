"""Routes of mutual TLS identity, one module per room. Their paths are their own, beside `/api/v1`."""

from __future__ import annotations

from fastapi import APIRouter

from intaglio.server.management.mtls import (
    alerts,
    automation,
    bindings,
    bundles,
    codes,
    domains,
    drills,
    enrolment,
    events,
    gateway,
    identities,
    ingresses,
    logs,
    outbound,
    policies,
    posture,
    rendering,
    scenarios,
    toolkit,
    trust,
)

#: The routers of all rooms, in the order of the documentation.
ROUTERS: tuple[APIRouter, ...] = (
    domains.router,
    identities.router,
    bindings.router,
    bundles.router,
    trust.router,
    codes.router,
    enrolment.router,
    ingresses.router,
    rendering.router,
    policies.router,
    events.router,
    logs.router,
    gateway.router,
    scenarios.router,
    posture.router,
    drills.router,
    alerts.router,
    automation.router,
    outbound.router,
    toolkit.router,
)
