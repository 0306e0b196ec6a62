"""The interface of this room: facts in, decision out."""

from __future__ import annotations

from intaglio.mtls.access.decider import Decider as AccessDecider
from intaglio.mtls.access.observed import event_of
from intaglio.mtls.access.trust import KnownIssuer, Trust
from intaglio.mtls.access.values import (
    FORBIDDING,
    CertificateFacts,
    Check,
    Decision,
    Facts,
    Mode,
    PolicyOutcome,
    ReasonCode,
)
from intaglio.mtls.access.verdict import Verdict, judge_certificate, reason_of
from intaglio.mtls.identities.values import CertifiedIdentity

__all__ = [
    "FORBIDDING",
    "AccessDecider",
    "CertificateFacts",
    "CertifiedIdentity",
    "Check",
    "Decision",
    "Facts",
    "KnownIssuer",
    "Mode",
    "PolicyOutcome",
    "ReasonCode",
    "Trust",
    "Verdict",
    "event_of",
    "judge_certificate",
    "reason_of",
]
