"""Where alerts go, as administrators set it at run time."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from intaglio.platform.live_settings import SettingsGroup

CHANNELS: Final = ("mail", "webhook", "syslog")
SYSLOG_PORTS: Final = {"tls": 6514, "tcp": 601, "udp": 514}


class AlertSettings(SettingsGroup):
    """Where alerts about identities and certificates are sent. Each channel that is set gets every alert."""

    group = "alerts"

    mail_to: str = Field(default="", max_length=1000, description="Addresses, separated by commas; empty: no mail.")
    webhook_url: str = Field(default="", max_length=1000, description="https://... for signed POSTs; empty: none.")
    webhook_ca_file: str = Field(default="", max_length=500, description="CA certificate of it; empty: the system's.")
    syslog: str = Field(default="", max_length=300, description="tls://host:port, tcp:// or udp://; empty: none.")
    syslog_ca_file: str = Field(default="", max_length=500, description="CA certificate of it; empty: the system's.")

    @field_validator("webhook_url")
    @classmethod
    def _https(cls, value: str) -> str:
        parts = urlsplit(value)
        if value and (parts.scheme != "https" or not parts.hostname or parts.username):
            raise ValueError("a webhook is https://host/...")
        return value

    @field_validator("syslog")
    @classmethod
    def _syslog(cls, value: str) -> str:
        parts = urlsplit(value)
        if value and (parts.scheme not in SYSLOG_PORTS or not parts.hostname or parts.path.strip("/")):
            raise ValueError("a syslog server is tls://host:port, tcp://host:port or udp://host:port")
        return value

    @property
    def channels(self) -> tuple[str, ...]:
        """Those that are set."""
        wanted = {"mail": self.mail_to, "webhook": self.webhook_url, "syslog": self.syslog}
        return tuple(name for name in CHANNELS if wanted[name])
