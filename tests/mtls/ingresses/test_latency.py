"""How soon a revocation counts, computed from what refreshes what."""

from __future__ import annotations

from typing import Any

import pytest
from tests.mtls.ingresses.plans import make_plan, make_status

from intaglio.mtls.ingresses.kinds import KINDS, OWN_GATEWAY
from intaglio.mtls.ingresses.latency import Latency, latency_of, stale_seconds
from intaglio.mtls.ingresses.plan import Layout


def latency(type: str = "nginx", **changes: Any) -> Latency:
    return latency_of(make_plan(type, **changes), KINDS.get(type, OWN_GATEWAY))


@pytest.mark.parametrize(
    ("type", "source"),
    [(kind.name, source) for kind in KINDS.values() for source in kind.sources
     if kind.name not in ("linkerd", "aws-alb", "ingress-nginx", "stunnel", "istio")],
)  # fmt: skip
def test_with_a_refresh_of_ten_seconds_every_ingress_is_in_time(type: str, source: str) -> None:
    found = latency(type, revocation_source=source)
    assert found.in_time
    assert found.seconds is not None
    assert found.seconds <= 60
    assert found.advice == ()


def test_a_crl_of_five_minutes_is_too_late_and_it_is_said_what_to_change() -> None:
    found = latency(refresh_seconds=300)
    assert not found.in_time
    assert found.seconds is not None
    assert found.seconds > 300
    assert any("10 seconds" in advice for advice in found.advice)


def test_a_ca_that_issues_crls_by_the_day_is_too_late() -> None:
    found = latency_of(make_plan(status=make_status(publish_seconds=86_400.0)), KINDS["nginx"])
    assert not found.in_time
    assert any("crl_on_revoke" in advice for advice in found.advice)


def test_failing_open_has_no_bound_while_the_source_is_silent() -> None:
    found = latency(fail_mode="open")
    assert found.silent_seconds is None
    assert not found.in_time
    assert any("closed" in advice for advice in found.advice)


@pytest.mark.parametrize("type", ["linkerd", "aws-alb", "ingress-nginx"])
def test_what_gives_no_bound_is_said_to_have_none(type: str) -> None:
    found = latency(type)
    assert found.seconds is None
    assert not found.in_time
    assert "no bound" in " ".join(found.sentences)


def test_live_decisions_and_the_built_in_gateway_hear_at_once() -> None:
    assert latency(revocation_source="live").seconds == 2
    assert latency("gateway", revocation_source="crl").seconds == 2


@pytest.mark.parametrize("refresh", [1, 5, 10, 20])
def test_a_silent_source_is_borne_only_as_long_as_is_in_time(refresh: int) -> None:
    plan = make_plan("nginx", refresh_seconds=refresh)
    found = latency_of(plan, KINDS["nginx"])
    assert 10 <= stale_seconds(plan, KINDS["nginx"]) <= 45
    assert found.silent_seconds is not None
    assert found.silent_seconds <= 60


def test_a_longer_silence_can_be_asked_for_and_is_reported_as_too_late() -> None:
    plan = make_plan("nginx", Layout(stale_seconds=600))
    found = latency_of(plan, KINDS["nginx"])
    assert found.silent_seconds is not None
    assert found.silent_seconds > 600
    assert not found.in_time
