"""Names of certificates are absolute, whichever domains this host searches."""

from __future__ import annotations

import pytest

from intaglio.core.outgoing import Guard
from intaglio.enrollment.acme.validation import ValidationFailed
from intaglio.enrollment.acme.validation.hosts import Hosts

LOCAL = Guard.of(["127.0.0.0/8", "::1/128"])


async def test_the_domains_that_this_host_searches_do_not_answer_for_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    async def resolve(self: Guard, host: str, port: int) -> list[str]:
        asked.append(host)
        if not host.endswith("."):  # what a cluster says of www.example.svc.cluster.local
            return ["127.0.0.1"]
        raise OSError

    monkeypatch.setattr(Guard, "resolve", resolve)
    with pytest.raises(ValidationFailed) as failure:
        await Hosts(LOCAL).addresses("www.example", 80)
    assert failure.value.problem == "dns"
    assert asked == ["www.example."]


async def test_a_name_in_the_file_of_hosts_is_found() -> None:
    assert set(await Hosts(LOCAL).addresses("localhost", 80)) <= {"127.0.0.1", "::1"}
