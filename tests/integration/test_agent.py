"""The agent beside a real server."""

from __future__ import annotations

from bench.process import resident
from tests.support.agents import running_agent
from tests.support.product import Product

LIMIT_MIB = 60


def test_agent_that_holds_a_certificate_is_small(product: Product) -> None:
    with running_agent(product, "small") as (agent, folder):
        assert (folder / "current" / "tls.key").stat().st_mode & 0o777 == 0o600
        assert resident(agent.pid) < LIMIT_MIB
