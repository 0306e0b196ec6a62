"""How timestamping is doing: the clock, and for every issuer its key and certificate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from intaglio.core import clock
from intaglio.core.clock import rfc3339
from intaglio.core.errors import IntaglioError
from intaglio.timestamping.clock.gate import ClockState
from intaglio.timestamping.directory import ReadyIssuer
from intaglio.timestamping.service import TimestampService

#: A certificate that ends sooner than this is told of, so that there is time to renew it.
EXPIRY_WARNING: Final = timedelta(days=30)


@dataclass(frozen=True)
class TimestampHealth:
    """``members`` are JSON-safe; ``up`` is false when any issuer cannot give timestamps."""

    up: bool
    members: Mapping[str, Any]


async def examine(service: TimestampService) -> TimestampHealth:
    """Look at everything a timestamp takes. An installation without issuers is well."""
    try:
        if not service.directory.current:
            await service.follow_configuration()
    except IntaglioError as error:
        return TimestampHealth(False, {"status": "DOWN", "reason": error.detail, "code": error.code})
    issuers = service.directory.issuers
    if not issuers:
        return TimestampHealth(True, {"status": "UP", "issuers": {}})
    state = service.gate.state
    told = {name: await _issuer(service, issuer) for name, issuer in sorted(issuers.items())}
    up = state.good and all(each["status"] != "DOWN" for each in told.values())
    return TimestampHealth(up, {"status": "UP" if up else "DOWN", "clock": clock_members(state), "issuers": told})


def clock_members(state: ClockState) -> dict[str, Any]:
    """The state of the clock, JSON-safe; offset and error in seconds."""
    members: dict[str, Any] = {
        "status": "UP" if state.good else "DOWN",
        "source": state.source,
        "offset": _rounded(state.offset),
        "error": _rounded(state.error),
        "checkedAt": None if state.checked_at is None else rfc3339(state.checked_at),
    }
    if state.cause:
        members["cause"] = state.cause
    if state.remedy:
        members["remedy"] = state.remedy
    if state.good and state.source == "none":
        members["warning"] = "Nobody checks this clock: timestamping.clock_source is none."
    return members


async def _issuer(service: TimestampService, issuer: ReadyIssuer) -> dict[str, Any]:
    if issuer.signer is None:
        return {"status": "DOWN", "reason": issuer.trouble}
    if trouble := await service.proofs.trouble(issuer.signer.stored):
        return {"status": "DOWN", "reason": trouble}
    certificate, now = issuer.signer.certificate, clock.now()
    members: dict[str, Any] = {"status": "UP", "notAfter": rfc3339(certificate.not_after)}
    if not certificate.not_before <= now <= certificate.not_after:
        return {**members, "status": "DOWN", "reason": "The certificate is not valid now."}
    if certificate.not_after - now < EXPIRY_WARNING:
        members["warning"] = "The certificate ends soon."
    return members


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 6)
