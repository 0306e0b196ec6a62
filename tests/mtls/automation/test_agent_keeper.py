"""The agent's work with a server that is played: what it keeps, when it asks again, what it says."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from intaglio.core import clock
from intaglio.core.clock import rfc3339
from intaglio.core.errors import IntaglioError, RateLimited, Unavailable
from intaglio.mtls.automation.agent import asking, timing
from intaglio.mtls.automation.agent.asking import Answer, Refusal
from intaglio.mtls.automation.agent.keeper import Keeper
from intaglio.mtls.automation.agent.options import Options
from intaglio.mtls.automation.agent.status import status

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
URI = "spiffe://prod.example/env/prod/team/shop/svc/web"
LIFE = timedelta(hours=24)


class Server:
    """Answers in turn what it was given; a certificate when nothing is left. ``time`` is its clock."""

    def __init__(self) -> None:
        self.turns: list[IntaglioError] = []
        self.time = NOW
        self.keys: list[bytes] = []
        self.holders: list[str | None] = []

    def ask(self, options: Options, key: bytes, holder: Any) -> Answer:
        self.keys.append(key)
        self.holders.append(holder.serial if holder else None)
        if self.turns:
            raise self.turns.pop(0)
        about = {"identity": URI, "serial": f"{len(self.keys):040X}"}
        about |= {"not_before": rfc3339(self.time), "not_after": rfc3339(self.time + LIFE)}
        return Answer({"tls.crt": b"crt", "tls.key": key, "ca.crt": b"ca"}, about, self.time)


class Ticks:
    """A clock that never jumps, moved by the test."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    made = Server()
    monkeypatch.setattr(asking, "ask", made.ask)
    return made


@pytest.fixture
def ticks(monkeypatch: pytest.MonkeyPatch) -> Ticks:
    made = Ticks()
    monkeypatch.setattr(timing, "_ticks", made)
    return made


Make = Callable[..., Keeper]


@pytest.fixture
def make(tmp_path: Path, server: Server, ticks: Ticks) -> Make:
    def keeper(**changes: Any) -> Keeper:
        made = Keeper(Options("https://pki.example:1443", tmp_path / "out", **changes), random.Random(7))
        made.store.prepare()
        made._take_up()
        return made

    return keeper


def events(capture: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capture.readouterr().err.splitlines()]


def test_it_renews_at_two_thirds_by_the_servers_clock(make: Make, server: Server, ticks: Ticks) -> None:
    with clock.frozen(NOW - timedelta(hours=5)):  # the clock of this machine is five hours slow
        keeper = make()
        keeper._step(False)
        assert keeper.clock.skew == timedelta(hours=-5)
        ticks.seconds += 14 * 3600
        keeper._step(False)
        assert len(server.keys) == 1
        ticks.seconds += 2 * 3600 + 60
        server.time += timedelta(hours=16)
        keeper._step(False)
        assert len(server.keys) == 2
        assert server.holders == [None, f"{1:040X}"]
        assert server.keys[0] != server.keys[1]


def test_a_wrong_clock_is_told(make: Make, server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    with clock.frozen(NOW + timedelta(minutes=10)):
        make()._step(False)
    told = next(each for each in events(capsys) if "clock" in each["event"])
    assert told["seconds"] == 600


def test_failures_leave_the_certificate_and_raise_the_alarm_once(
    make: Make, server: Server, ticks: Ticks, capsys: pytest.CaptureFixture[str]
) -> None:
    with clock.frozen(NOW):
        keeper = make()
        keeper._step(False)
        before = (keeper.store.current / "tls.key").read_bytes()
        server.turns = [Unavailable("The CA is away.") for _ in range(500)]
        healths = []
        while (found := timing.health(keeper.version and keeper.version.validity, keeper.clock.now())) != "expired":
            ticks.seconds += 300
            keeper._step(False)
            healths.append(found.value)
        assert (keeper.store.current / "tls.key").read_bytes() == before
    assert list(dict.fromkeys(healths)) == ["good", "overdue", "critical"]
    said = [each["event"] for each in events(capsys) if each["event"].startswith("the certificate is")]
    assert said == ["the certificate is overdue", "the certificate is critical", "the certificate is expired"]
    told, code = status(keeper.options.out)
    assert code == 2
    assert told["reason"].startswith("The CA is away.")
    assert "certificate_health" in keeper.metrics()


def test_it_does_as_it_is_told_to_wait(make: Make, server: Server, ticks: Ticks) -> None:
    with clock.frozen(NOW):
        keeper = make()
        server.turns = [RateLimited("Too many.", retry_after=40)]
        keeper._step(False)
        ticks.seconds += 39
        keeper._step(False)
        assert len(server.keys) == 1
        ticks.seconds += 2
        keeper._step(False)
        assert len(server.keys) == 2
        assert keeper.version is not None


def test_a_bootstrap_that_was_not_answered_is_repeated_with_the_same_key(make: Make, server: Server) -> None:
    with clock.frozen(NOW):
        server.turns = [Unavailable("The connection broke.")]
        make()._step(False)
        again = make()  # the agent was killed meanwhile
        again._step(False)
    assert server.keys[0] == server.keys[1]
    assert again.store.pending_key() is None


def test_a_revoked_certificate_is_never_shown_again(make: Make, server: Server) -> None:
    with clock.frozen(NOW):
        keeper = make()
        keeper._step(False)
        for code in ("revoked", "bootstrap-token-used"):
            server.turns = [Refusal("No.", code=code)]
            keeper = make()
            keeper.renew_now()
            with pytest.raises(Refusal):
                keeper._step(False)
        told, exit_status = status(keeper.options.out)
        assert (told["refused"], exit_status) == ("bootstrap-token-used", 2)
        fresh = make()
        fresh._step(False)
    assert server.holders == [None, f"{1:040X}", None, None]
    assert fresh.version is not None
    assert fresh.version.serial == f"{4:040X}"


def test_a_folder_of_somebody_else_is_not_gone_on_with(make: Make, server: Server) -> None:
    with clock.frozen(NOW):
        make()._step(False)
        other = make(identity="service:orders")
        other._step(False)
    assert server.holders == [None, None]


@pytest.mark.parametrize(
    ("wanted", "is_it"),
    [
        ("", True), (URI, True), ("web", True), ("service:web", True), ("service:web@prod.example", True),
        ("workload:web", False), ("orders", False), ("web@dev.example", False), ("shop", False),
    ],
)  # fmt: skip
def test_an_identity_is_meant_by_its_names(wanted: str, is_it: bool) -> None:
    assert asking.is_named(URI, wanted) is is_it


@pytest.mark.parametrize("uri", ["", "spiffe://", "spiffe://x", "spiffe://x/y", "x"])
def test_what_is_no_identity_is_nobody(uri: str) -> None:
    assert not asking.is_named(uri, "web")
