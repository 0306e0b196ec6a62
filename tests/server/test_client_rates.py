"""How many requests a second one client may make of the public listener."""

from __future__ import annotations

from typing import Any

import pytest

from intaglio.server import client_rates
from intaglio.server.client_rates import RateLimited


class _Application:
    """Answers everything; what begins with /tsa without waiting."""

    def __init__(self) -> None:
        self.calls = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.calls += 1
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    def at_once(self, scope: Any, body: bytes) -> Any:
        return (204, (), b"") if scope["path"].startswith("/tsa") else None


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The monotonic clock, as its one element."""
    now = [100.0]
    monkeypatch.setattr(client_rates, "monotonic", lambda: now[0])
    return now


async def _ask(app: RateLimited, address: str | None = "192.0.2.1", path: str = "/crl/x.crl") -> tuple[int, bytes]:
    """One request, as a connection makes it: at once if possible."""
    scope: dict[str, Any] = {
        "type": "http", "method": "GET", "path": path, "headers": [], "client": (address, 1) if address else None
    }  # fmt: skip
    answer = app.at_once(scope, b"")
    if answer is not None:
        return answer[0], answer[2]
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, None, send)  # type: ignore[arg-type]
    return sent[0]["status"], sent[1]["body"]


async def _statuses(app: RateLimited, count: int, address: str, path: str = "/crl/x.crl") -> list[int]:
    return [(await _ask(app, address, path))[0] for _ in range(count)]


@pytest.mark.parametrize("path", ["/crl/x.crl", "/tsa/standard", "/eva/health"])
async def test_a_client_that_asks_too_often_waits_until_the_next_second(time: list[float], path: str) -> None:
    app = RateLimited(_Application(), 3)
    assert await _statuses(app, 5, "192.0.2.1", path) == [204, 204, 204, 429, 429]
    assert await _statuses(app, 1, "192.0.2.2", path) == [204], "others are not concerned"
    time[0] += 1.0
    assert await _statuses(app, 4, "192.0.2.1", path) == [204, 204, 204, 429]


@pytest.mark.usefixtures("time")
async def test_ocsp_clients_are_told_to_try_later() -> None:
    app = RateLimited(_Application(), 1)
    for path in ("/ocsp", "/eva/legacy/MFEwTzBN"):
        app = RateLimited(_Application(), 1)
        assert (await _ask(app, path=path))[0] == 204
        assert await _ask(app, path=path) == (200, bytes.fromhex("30030a0103"))


@pytest.mark.usefixtures("time")
async def test_an_ipv6_client_is_its_network() -> None:
    app = RateLimited(_Application(), 1)
    assert await _statuses(app, 1, "2001:db8::1") == [204]
    assert await _statuses(app, 1, "2001:db8::ffff:2") == [429]
    assert await _statuses(app, 1, "2001:db8:0:1::1") == [204]
    assert await _statuses(app, 2, "fe80::1%eth0") == [204, 429]


@pytest.mark.usefixtures("time")
async def test_whoever_has_no_address_is_not_counted() -> None:
    app = RateLimited(_Application(), 1)
    assert [(await _ask(app, None))[0] for _ in range(3)] == [204, 204, 204]


@pytest.mark.usefixtures("time")
async def test_a_crowd_is_counted_together_beyond_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_rates, "_MOST_CLIENTS", 2)
    app = RateLimited(_Application(), 1)
    assert [(await _statuses(app, 1, f"192.0.2.{n}"))[0] for n in range(5)] == [204, 204, 204, 429, 429]
