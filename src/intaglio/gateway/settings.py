"""What administrators set for the gateway as a whole, at run time."""

from __future__ import annotations

from pydantic import Field

from intaglio.authority.options import KeySizePolicy
from intaglio.platform.live_settings import SettingsGroup


class GatewaySettings(SettingsGroup):
    """Policies and limits of the CA gateway."""

    group = "gateway"

    minimum_keysize: KeySizePolicy = Field(
        default=KeySizePolicy(),
        description="Smallest keys in bits that any CA certifies, besides the policies of CA and profile.",
    )
    requests_per_second: float | None = Field(
        default=None, gt=0, le=1_000_000, description="Requests of one client per second and process; none: no limit."
    )
    burst: int = Field(default=100, ge=1, le=1_000_000, description="Requests a client may make at once.")
    documentation: bool = Field(default=True, description="Whether the HTML pages /cagw/doc and swagger-ui are served.")
