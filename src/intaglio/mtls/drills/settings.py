"""What administrators set for drills, at run time."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from intaglio.platform.live_settings import SettingsGroup


class DrillSettings(SettingsGroup):
    """Drills that start by themselves, for trust domains in which such a drill was passed before."""

    group = "drills"

    automatic: list[Literal["revoke", "rotate", "runbook"]] = Field(
        default=["revoke"], max_length=3, description="Kinds of drills that start by themselves; empty: none."
    )
    interval_days: int = Field(
        default=85, ge=1, le=92, description="Days after a drill was passed that it is repeated."
    )
    retry_hours: int = Field(default=24, ge=1, le=720, description="Hours after which one that failed is tried again.")
