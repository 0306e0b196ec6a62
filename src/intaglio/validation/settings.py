"""Live settings of the OCSP responder: what it puts up with."""

from __future__ import annotations

from pydantic import Field

from intaglio.platform.live_settings import SettingsGroup


class Ocsp(SettingsGroup):
    """Limits of the OCSP responder."""

    group = "ocsp"

    max_body_octets: int = Field(default=8192, ge=256, le=32768, description="Largest request.")
    max_header_octets: int = Field(
        default=16384,
        ge=256,
        le=1 << 16,
        description="Largest head of a request, request line included. A GET carries its question there, and a reverse "
        "proxy adds to it: below 8192 some are refused.",
    )
    listen_limit: int = Field(
        default=0, ge=0, le=100_000, description="Requests answered at the same time per process; 0: any number."
    )
    read_timeout: float = Field(default=60.0, ge=1, le=600, description="Seconds a request may take to arrive.")
    log_requests: bool = Field(
        default=False,
        description="One line in the log for every certificate that is asked about. Every answer is then made anew, at "
        "a fraction of the speed.",
    )
