"""The access event of a decision."""

from __future__ import annotations

from typing import Literal

from intaglio.mtls.access.values import Decision, Facts
from intaglio.mtls.observation.events import AccessEvent


def event_of(
    facts: Facts,
    decision: Decision,
    *,
    kind: Literal["request", "handshake"] = "request",
    recorder: Literal["decision", "gateway"] = "decision",
) -> AccessEvent:
    """What is recorded of a decision: who called what from where, and what came of it."""
    certificate, identity, policy = decision.certificate, decision.identity, decision.policy
    return AccessEvent(
        at=facts.at,
        kind=kind,
        recorder=recorder,
        organization_id=decision.ingress.organization_id,
        ingress_id=decision.ingress.id,
        ingress=decision.ingress.name,
        source_ip=facts.source_ip,
        identity=identity.uri if identity else "",
        claimed=certificate.claimed if certificate else "",
        identity_kind=str(identity.kind) if identity else "",
        serial=certificate.serial if certificate else b"",
        fingerprint=certificate.fingerprint if certificate else b"",
        issuer=certificate.issuer if certificate else "",
        san=", ".join(certificate.san) if certificate else "",
        not_after=certificate.not_after if certificate else None,
        tls_version=facts.tls_version,
        cipher=facts.cipher,
        decision="allow" if decision.allowed else "deny",
        mode=decision.mode,
        reason=decision.reason or "",
        certificate_reason=decision.certificate_reason or "",
        ip_allowed=decision.ip_allowed,
        method=facts.method,
        host=facts.host,
        path=facts.path,
        policy=f"{policy.policy}@{policy.version}" if policy and policy.policy else "",
        detail=decision.detail,
    )
