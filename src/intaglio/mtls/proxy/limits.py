"""How much and how long: what a client may cost the gateway."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Octets and seconds.

    ``head`` and ``body`` are octets of one request (None: any); ``head_time`` is from its first octet to the end of its
    head, ``idle`` how long a connection may be without a request, ``stall`` how long a client may neither send the next
    part of a body nor take the next part of an answer. ``streams`` are concurrent requests of an HTTP/2 connection,
    ``connections`` are open at once.
    """

    head: int = 1 << 16
    body: int | None = 1 << 30
    head_time: float = 10.0
    idle: float = 75.0
    stall: float = 60.0
    streams: int = 100
    connections: int = 10_000
