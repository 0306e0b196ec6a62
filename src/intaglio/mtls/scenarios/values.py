"""What a scenario is, and what it showed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID


@dataclass(frozen=True)
class Row:
    """One try: from which address, with which certificate, what has to come of it and what came of it.

    ``expected`` and ``observed`` are an HTTP status, a reason code, or words.
    """

    step: str
    source: str
    presents: str
    expected: str
    observed: str

    @property
    def passed(self) -> bool:
        return self.expected == self.observed


@dataclass(frozen=True)
class Scenario:
    """A scenario as people read it. ``network_alone`` is what an IP rule alone achieves, ``adds`` what mTLS adds."""

    number: int
    name: str
    title: str
    network_alone: str
    adds: str


CATALOGUE = {
    scenario.number: scenario
    for scenario in (
        Scenario(1, "admin-api", "Administration interface, internal only", "keeps outsiders out",
                 "insiders need the certificate of an administrator, too"),
        Scenario(2, "service-to-service", "Calls between services", "only inside of the private network",
                 "a service is called by the services that may, and by no other"),
        Scenario(3, "pipeline", "Build pipeline", "only from its fixed address",
                 "the runner proves which pipeline it works for"),
        Scenario(4, "remote-team", "People at changing addresses", "fails: the addresses change",
                 "the certificate of the device counts, wherever it is"),
        Scenario(5, "autoscaling", "Containers that come and go", "fails: addresses are given anew all the time",
                 "each gets a short-lived certificate when it starts"),
        Scenario(6, "insider", "An attacker inside of the allowed network", "fails: the address is trusted",
                 "without a certificate of ours, and its key, there is no way further"),
        Scenario(7, "stolen-credential", "A stolen key and certificate", "no protection",
                 "revoking ends every connection made with it"),
        Scenario(8, "thousands", "Thousands of services", "rules nobody can keep up with",
                 "issued and rotated without a hand, and without any network rule"),
    )
}  # fmt: skip


@dataclass(frozen=True)
class Run:
    """A finished run. ``figures`` are measurements: seconds, rates, counts."""

    id: UUID
    number: int
    rows: Sequence[Row]
    figures: Mapping[str, float]
    started_by: str
    started_at: datetime
    finished_at: datetime
    passed: bool = field(default=False)
