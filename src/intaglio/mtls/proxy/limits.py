"""How much and how long: what a client may cost the gateway."""

from __future__ import annotations

from dataclasses import dataclass, field

from intaglio.core.clock import monotonic


@dataclass(frozen=True)
class Limits:
    """Octets and seconds.

    ``head`` and ``body`` are octets of one request (None: any); ``head_time`` is from its first octet to the end of its
    head, ``idle`` how long a connection may be without a request, ``stall`` how long a client may neither send the next
    part of a body nor take the next part of an answer. ``streams`` are concurrent requests of an HTTP/2 connection,
    ``connections`` are open at once, handshakes under way included, ``connections_per_address`` those of one address
    (None: half of all).
    """

    head: int = 1 << 16
    body: int | None = 1 << 30
    head_time: float = 10.0
    idle: float = 75.0
    stall: float = 60.0
    streams: int = 100
    connections: int = 10_000
    connections_per_address: int | None = None

    @property
    def of_one_address(self) -> int:
        return self.connections_per_address or max(1, self.connections // 2)


@dataclass
class Allowance:
    """What somebody may do ``most`` times at once and ``per_second`` in the long run."""

    most: float
    per_second: float
    _left: float = field(init=False)
    _since: float = field(init=False)

    def __post_init__(self) -> None:
        self._left, self._since = self.most, monotonic()

    def spend(self, number: int = 1) -> None:
        """Count what was done."""
        now = monotonic()
        self.grant((now - self._since) * self.per_second)
        self._since = now
        self._left -= number

    def grant(self, number: float) -> None:
        """Allow more of it for a good reason."""
        self._left = min(self.most, self._left + number)

    @property
    def exceeded(self) -> bool:
        return self._left < 0
