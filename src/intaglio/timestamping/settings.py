"""Live settings of timestamping: where the time is checked, and what the service puts up with."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from intaglio.platform.live_settings import SettingsGroup
from intaglio.x509.host_names import is_dns_name

ClockSource = Literal["automatic", "chrony", "ntp", "system", "none"]


def _address(text: str) -> str:
    """Raise ValueError unless it is ``HOST``, ``HOST:PORT``, ``[IPv6]:PORT`` or the path of a socket."""
    if not text.startswith("/"):
        split_address(text, 0)
    return text


def split_address(text: str, default_port: int) -> tuple[str, int]:
    """Host and port of ``HOST``, ``HOST:PORT`` or ``[IPv6]:PORT``. Raises ValueError."""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError(f"{text[:100]} is not an address")
        port = rest[1:]
    else:
        host, _, port = text.partition(":")
        if not is_dns_name(host) and not host.replace(".", "").isdigit():
            raise ValueError(f"{text[:100]} is not an address; write an IPv6 address in brackets")
    if port and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError(f"{port[:20]} is not a port")
    return host, int(port or default_port)


Address = Annotated[str, Field(max_length=300), AfterValidator(_address)]


class Timestamping(SettingsGroup):
    """Where timestamping checks the time, and the limits of its service."""

    group = "timestamping"

    clock_source: ClockSource = Field(
        default="automatic",
        description="Who says that the clock is right: chrony (its command port or socket), ntp (servers asked "
        "directly), system (the kernel says it is synchronized), automatic (chrony when it is there, else the kernel), "
        "none (nobody; timestamps are given all the same).",
    )
    chrony_address: Address = Field(
        default="127.0.0.1:323", description="Command port of chronyd, HOST:PORT, or the path of its socket."
    )
    ntp_servers: Annotated[tuple[Address, ...], Field(max_length=8)] = Field(
        default=(), description="NTP servers for the source ntp; with three or more one false one is outvoted."
    )
    poll_interval: float = Field(default=30.0, ge=1, le=3600, description="Seconds between checks of the clock.")
    connection_timeout: float = Field(default=1.0, gt=0, le=30, description="Seconds one check may take.")
    maximum_error: float = Field(
        default=0.5, ge=0.001, le=60, description="Seconds the clock may be off before no timestamps are given."
    )
    max_body_octets: int = Field(default=8192, ge=256, le=1 << 20, description="Largest request.")
    max_header_octets: int = Field(
        default=1024,
        ge=256,
        le=1 << 16,
        description="Largest head of a request, request line included; behind a reverse proxy 8192 is better.",
    )
    listen_limit: int = Field(
        default=0, ge=0, le=100_000, description="Requests answered at the same time per process; 0: any number."
    )
    read_timeout: float = Field(default=60.0, ge=1, le=600, description="Seconds a request may take to arrive.")
    write_timeout: float = Field(default=60.0, ge=1, le=600, description="Seconds a client may take to read an answer.")
    log_requests: bool = Field(default=True, description="One line in the log for every timestamp that is given.")
