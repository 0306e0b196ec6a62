"""What administrators set for automatic issuance, at run time."""

from __future__ import annotations

from pydantic import Field

from intaglio.platform.live_settings import SettingsGroup


class AutomationSettings(SettingsGroup):
    """Automatic issuance: agents, the Vault-compatible interface and pipelines."""

    group = "automation"

    bootstrap_hours: int = Field(
        default=24, ge=1, le=24 * 90, description="Hours a bootstrap token is good for unless told otherwise."
    )
    max_attempts: int = Field(
        default=5, ge=1, le=100, description="Wrong attempts with the handle of a bootstrap token that lock it."
    )
    failures_per_minute: int = Field(
        default=60, ge=1, le=100_000, description="Failed logins one address may make in a minute, over all processes."
    )
    issues_per_minute: int = Field(
        default=600,
        ge=1,
        le=100_000,
        description="Certificates, and logins, that one identity may ask for in a minute, over all processes.",
    )
    token_minutes: int = Field(
        default=60, ge=1, le=24 * 60, description="Minutes a token of the Vault-compatible interface lives."
    )
    token_hours: int = Field(
        default=24, ge=1, le=24 * 32, description="Hours such a token may reach by being renewed."
    )
    issue_with_key: bool = Field(
        default=True,
        description="Whether the Vault-compatible interface makes private keys (issue); they are handed out, not kept.",
    )
    jwks_minutes: int = Field(
        default=10, ge=1, le=24 * 60, description="Minutes the keys of a token issuer are used before a new look."
    )
    jwks_outage_minutes: int = Field(
        default=60, ge=0, le=24 * 60, description="Minutes longer they are used while the issuer cannot be reached."
    )
