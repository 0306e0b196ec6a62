"""What administrators set for access decisions, at run time."""

from __future__ import annotations

from pydantic import Field

from intaglio.platform.live_settings import SettingsGroup


class AccessSettings(SettingsGroup):
    """Access decisions of mutual TLS: how long an ingress may stay permissive, and how long events are kept."""

    group = "access"

    permissive_days: int = Field(
        default=30, ge=1, le=365, description="Days an ingress may stay permissive unless told otherwise."
    )
    readiness_hours: int = Field(
        default=24, ge=1, le=24 * 90, description="Hours without an offender before an ingress may enforce."
    )
    request_hours: int = Field(
        default=72, ge=1, le=24 * 30, description="Hours a request for a second person's approval waits."
    )
    event_days: int = Field(default=90, ge=1, le=3650, description="Days access events are kept.")
