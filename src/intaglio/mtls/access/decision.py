"""The interface of this room: facts in, decision out."""

from __future__ import annotations

from typing import Protocol

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
    "judge_certificate",
    "reason_of",
]


class AccessDecider(Protocol):
    """Decides for every ingress of the platform."""

    async def decide(self, facts: Facts) -> Decision:
        """Decide about one connection or request.

        Never raises for what the client did, and never guesses: what cannot be known is refused. Raises NotFound
        (``ingress-unknown``) for an ingress that does not exist, and Unavailable while no configuration was ever read.
        """
