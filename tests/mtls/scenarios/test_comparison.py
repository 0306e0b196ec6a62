"""TLS and mutual TLS side by side."""

from __future__ import annotations

from intaglio.mtls.scenarios.comparison import compare
from intaglio.mtls.scenarios.values import Row


async def test_comparison_is_as_promised() -> None:
    told: list[Row] = []
    rows = await compare(told.append)
    assert [row for row in rows if not row.passed] == []
    assert told == rows
    tried = {(row.step, row.presents): row.observed for row in rows}
    assert {observed for (step, _), observed in tried.items() if step == "TLS"} == {"200"}
    assert tried["mutual TLS", "revoked certificate"] == "revoked"
    assert len([step for step, _ in tried if step == "the client looks at the server"]) == 3
