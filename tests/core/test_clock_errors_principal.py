from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from intaglio.core import clock, errors
from intaglio.core.errors import Forbidden, IntaglioError, Unauthenticated
from intaglio.core.principal import ALL_PERMISSIONS, ANONYMOUS, SYSTEM, Permission, Principal, operator


def test_a_stopped_clock_moves_only_when_told_and_runs_again_afterwards() -> None:
    start = datetime(2026, 1, 2, 8, 33, 49, tzinfo=UTC)
    with clock.frozen(start) as advance:
        assert clock.now() == start
        advance(timedelta(hours=1))
        assert clock.now() == start + timedelta(hours=1)
    assert clock.now() > start + timedelta(days=1)
    assert clock.now().tzinfo is UTC


def test_moments_are_written_in_utc_with_seconds() -> None:
    berlin = timezone(timedelta(hours=1))
    assert clock.rfc3339(datetime(2026, 1, 2, 9, 33, 49, 999, tzinfo=berlin)) == "2026-01-02T08:33:49Z"


def test_every_refusal_has_a_code_of_its_own_and_a_status() -> None:
    kinds = IntaglioError.__subclasses__()
    own = [kind for kind in kinds if kind.__module__ == errors.__name__]
    assert len({kind.default_code for kind in own}) == len(own)
    assert all(400 <= kind.status < 600 for kind in own)


def test_a_refusal_says_what_was_wrong_and_what_to_do() -> None:
    refusal = errors.InvalidInput("The key is weak.", remedy="Use P-256.", code="weak-key", target="csr", retry_after=3)
    assert str(refusal) == "The key is weak. Use P-256."
    assert (refusal.status, refusal.code, refusal.target, refusal.retry_after) == (400, "weak-key", "csr", 3)
    assert str(errors.Unavailable("Gone.")).startswith("Gone. Try again")


def test_nobody_must_log_in_and_somebody_needs_the_permission() -> None:
    with pytest.raises(Unauthenticated):
        ANONYMOUS.require(Permission.CA_VIEW)
    bob = Principal("user", "bob", frozenset({Permission.CA_VIEW}))
    bob.require(Permission.CA_VIEW)
    with pytest.raises(Forbidden) as refused:
        bob.require(Permission.CA_CONFIGURE)
    assert refused.value.extra == {"permission": "ca.configure"}


def test_the_operator_and_the_system_may_do_everything() -> None:
    assert operator("root").permissions == SYSTEM.permissions == ALL_PERMISSIONS == frozenset(Permission)
