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
    webhook_credential: str = Field(
        default="",
        max_length=200,
        description="ORGANIZATION/NAME of the outbound credential shown to the webhook; empty: no client certificate.",
    )
    syslog: str = Field(default="", max_length=300, description="tls://host:port, tcp:// or udp://; empty: none.")
    syslog_ca_file: str = Field(default="", max_length=500, description="CA certificate of it; empty: the system's.")

    escalate_to: str = Field(
        default="",
        max_length=1000,
        description="Addresses, separated by commas, told of alerts that nobody acknowledged; empty: none.",
    )
    escalate_hours: int = Field(default=24, ge=1, le=720, description="Hours after which they are told, once.")
    network_bits_ipv4: int = Field(
        default=24, ge=8, le=32, description="Leading bits of an IPv4 address that are its network."
    )
    network_bits_ipv6: int = Field(default=48, ge=16, le=128, description="The same of an IPv6 address.")
    learning_hours: int = Field(
        default=24, ge=0, le=720, description="Hours in which the networks of a new identity are learned silently."
    )

    @field_validator("webhook_url")
    @classmethod
    def _https(cls, value: str) -> str:
        parts = urlsplit(value)
        if value and (parts.scheme != "https" or not parts.hostname or parts.username):
            raise ValueError("a webhook is https://host/...")
        return value

    @field_validator("webhook_credential")
    @classmethod
    def _credential(cls, value: str) -> str:
        organization, slash, name = value.partition("/")
        if value and not (organization and slash and name and "/" not in name):
            raise ValueError("a credential is ORGANIZATION/NAME")
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

    @property
    def escalation(self) -> list[str]:
        """Who is told of alerts that nobody acknowledged."""
        return addresses(self.escalate_to)


def addresses(text: str) -> list[str]:
    """The addresses of a list with commas."""
    return [each.strip() for each in text.split(",") if each.strip()]
