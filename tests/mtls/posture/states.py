"""A state in which every check holds."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from intaglio.mtls.posture.values import (
    REQUIRED_ALERTS,
    CertifiedState,
    DomainState,
    DrillState,
    EdgeState,
    IngressState,
    ScanState,
    State,
)

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
DRILL = DrillState(True, NOW - timedelta(days=1), 3.0)
DOMAIN = DomainState("prod.example", "prod", revoke_drill=DRILL, rotate_drill=DRILL, runbook_at=NOW)
PAYMENTS = CertifiedState(
    "service:payments@prod.example", "service", "finance", "payments", "agent", NOW - timedelta(hours=1),
    NOW + timedelta(hours=23), renewed=True,
)  # fmt: skip
WEB = IngressState(
    "demo~web", "enforce", None, ("10.0.0.0/8",), (), 4.0, "", 7, address_refuses=True, certificate_refuses=True
)
GOOD = State(
    organization="demo",
    now=NOW,
    domains=(DOMAIN,),
    services=1,
    certified=(PAYMENTS,),
    ingresses=(WEB,),
    edges=(EdgeState("orders", "payments", "https", "enforced"),),
    scans=tuple(ScanState(kind, "repository", True, 0, (), NOW) for kind in ("code", "keys", "endpoints")),
    proofs=dict.fromkeys(REQUIRED_ALERTS, NOW),
)


def scan(kind: str, rule: str) -> tuple[ScanState, ...]:
    """A scan with one finding."""
    return (ScanState(kind, "repository", True, 1, ((rule, "main.py", "something"),), NOW),)


def domain(**changes: object) -> State:
    return replace(GOOD, domains=(replace(DOMAIN, **changes),))  # type: ignore[arg-type]


def certified(**changes: object) -> State:
    return replace(GOOD, certified=(replace(PAYMENTS, **changes),))  # type: ignore[arg-type]


def ingress(**changes: object) -> State:
    return replace(GOOD, ingresses=(replace(WEB, **changes),))  # type: ignore[arg-type]
