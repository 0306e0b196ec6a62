"""Routes of mutual TLS identity, one module per room. Their paths are their own, beside `/api/v1`."""

from __future__ import annotations

from typing import Final

from intaglio.server.management.rooms import Room

#: All rooms in the order of the documentation, with where their paths begin. A room is imported when it is first asked.
ROOMS: Final = tuple(
    Room(f"{__name__}.{module}", paths)
    for module, paths in (
        ("domains", ("/mtls/v1/cas", "/mtls/v1/domains")),
        ("identities", ("/mtls/v1/identities",)),
        ("bindings", ("/enrol/v1/bindings", "/mtls/v1/bindings", "/mtls/v1/revocations")),
        ("bundles", ("/mtls/v1/bundles",)),
        ("trust", ("/mtls/v1/designs", "/mtls/v1/domains", "/mtls/v1/edges", "/mtls/v1/identities")),
        ("codes", ("/enrol/v1/binding-store", "/enrol/v1/codes", "/enrol/v1/logins", "/enrol/v1/mail")),
        (
            "enrolment",
            (
                "/enrol/v1/ca.cer", "/enrol/v1/ca.mobileconfig", "/enrol/v1/ca.pem", "/enrol/v1/policy",
                "/enrol/v1/revoke", "/enrol/v1/sessions",
            ),
        ),
        ("ingresses", ("/mtls/v1/ingress-requests", "/mtls/v1/ingresses")),
        ("rendering", ("/mtls/v1/ingress-configurations", "/mtls/v1/ingresses")),
        ("policies", ("/mtls/v1/policies", "/mtls/v1/policy-schema")),
        ("events", ("/mtls/v1/events",)),
        ("logs", ("/mtls/v1/ingresses",)),
        ("gateway", ("/mtls/v1/gateway",)),
        ("scenarios", ("/mtls/v1/scenarios",)),
        ("posture", ("/mtls/v1/posture", "/mtls/v1/service-edges")),
        ("drills", ("/mtls/v1/drills",)),
        ("alerts", ("/mtls/v1/alerts",)),
        ("automation", ("/mtls/v1/bootstrap-tokens", "/mtls/v1/pipelines")),
        ("outbound", ("/mtls/v1/outbound", "/mtls/v1/outbound-due")),
        ("toolkit", ("/toolkit/v1",)),
    )
)  # fmt: skip
