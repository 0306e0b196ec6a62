"""What posture checks look at, and what they find. Plain values: a check is a function of them and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, Literal
from uuid import UUID

#: A revoked certificate is refused within so many seconds.
TARGET_SECONDS: Final = 60.0
#: Drills are a quarter old at most.
DRILL_AGE: Final = timedelta(days=92)
#: What certificates of services and workloads may live. CAs date certificates back for clients whose clocks are behind.
CEILING: Final = timedelta(hours=72)
BACKDATING: Final = timedelta(hours=1)
#: How far back access events are looked at.
EVENT_WINDOW: Final = timedelta(days=7)
#: The alerts that have to be proved, by kind.
REQUIRED_ALERTS: Final = ("no-certificate", "expired-attempt", "unknown-ca", "unusual-volume")
EXPIRY_ALERT: Final = "expiry"


class Status(StrEnum):
    """What became of a check. Unknown: nothing was there to be judged; it counts as not passed, but fails nothing."""

    PASS = "pass"  # noqa: S105 - a verdict
    FAIL = "fail"
    WAIVED = "waived"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Offence:
    """Something that breaks the rule of a check: what it is about, and what was seen."""

    subject: str
    evidence: str


@dataclass(frozen=True)
class Outcome:
    """What a check found: ``offences``, or when there are none, the ``evidence`` that it holds. ``unknown`` says why
    nothing can be said."""

    offences: tuple[Offence, ...] = ()
    evidence: str = ""
    unknown: str = ""


# ---- what is looked at -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DomainState:
    """A trust domain in use. ``trouble`` is what is wrong with its CA, ``foreign`` the other environments in which a CA
    of its chains counts too."""

    name: str
    environment: str
    trouble: str = ""
    foreign: tuple[str, ...] = ()
    revoke_drill: DrillState | None = None
    rotate_drill: DrillState | None = None
    runbook_at: datetime | None = None


@dataclass(frozen=True)
class DrillState:
    """The newest finished drill of a kind; ``slowest`` is its longest measured refusal in seconds."""

    passed: bool
    at: datetime
    slowest: float | None = None


@dataclass(frozen=True)
class CertifiedState:
    """An active identity of a machine with one of its live certificates; without one, ``channel`` is empty.

    ``renewed`` is whether an automatic channel has replaced a certificate of it at least once.
    """

    name: str
    kind: str
    team: str
    service: str
    channel: str = ""
    not_before: datetime | None = None
    not_after: datetime | None = None
    renewed: bool = False
    weakness: str = ""


@dataclass(frozen=True)
class IngressState:
    """An ingress. ``bound`` is the computed worst case of revocation in seconds (None: no bound), ``trouble`` what
    keeps it from verifying fully; ``admits`` says why its policy lets any valid certificate in; ``address_refuses`` and
    ``certificate_refuses`` are what the probe of the two barriers saw."""

    name: str
    mode: str
    permissive_until: datetime | None = None
    ip_rule: tuple[str, ...] | None = None
    trouble: tuple[str, ...] = ()
    bound: float | None = None
    admits: str = ""
    events: int = 0
    address_refuses: bool | None = None
    certificate_refuses: bool | None = None


@dataclass(frozen=True)
class EdgeState:
    """A caller and what it calls; ``state`` is none, permissive or enforced."""

    caller: str
    callee: str
    protocol: str
    state: str

    @property
    def subject(self) -> str:
        return f"{self.caller} -> {self.callee}"


@dataclass(frozen=True)
class ScanState:
    """The newest result of one scan: ``findings`` as (rule, place, text)."""

    kind: str
    place: str
    complete: bool
    open_findings: int
    findings: tuple[tuple[str, str, str], ...]
    at: datetime


@dataclass(frozen=True)
class State:
    """Everything the checks of an organization look at; ``without_owner`` is identities whose owner is a mere name, and
    that name."""

    organization: str
    now: datetime
    domains: tuple[DomainState, ...] = ()
    without_edges: tuple[str, ...] = ()
    without_owner: tuple[tuple[str, str], ...] = ()
    services: int = 0
    certified: tuple[CertifiedState, ...] = ()
    unmonitored: tuple[str, ...] = ()
    ingresses: tuple[IngressState, ...] = ()
    edges: tuple[EdgeState, ...] = ()
    scans: tuple[ScanState, ...] = ()
    proofs: Mapping[str, datetime] = field(default_factory=dict)
    mutes: Mapping[str, datetime] = field(default_factory=dict)


# ---- what is told ----------------------------------------------------------------------------------------------------

WaiverState = Literal["pending", "approved", "rejected", "withdrawn"]


@dataclass(frozen=True)
class Waiver:
    """A finding that is borne until ``until``. ``subject`` ``*`` covers every finding of the check."""

    id: UUID
    organization: str
    check: str
    subject: str
    owner: str
    reason: str
    until: datetime
    state: WaiverState
    requested_by: str
    requested_at: datetime
    decided_by: str | None = None
    decided_at: datetime | None = None

    def covers(self, check: str, subject: str, now: datetime) -> bool:
        """Whether it makes this finding borne at this moment."""
        return self.state == "approved" and self.until > now and self.is_about(check, subject)

    def is_about(self, check: str, subject: str) -> bool:
        return self.check == check and self.subject in ("*", subject)


@dataclass(frozen=True)
class Finding:
    """An offence as it is reported; ``waiver`` is what covers it, ``expired`` one that did until it ended."""

    check: str
    subject: str
    evidence: str
    waiver: Waiver | None = None
    expired: Waiver | None = None


@dataclass(frozen=True)
class CheckResult:
    """One check of a report. ``evidence`` is a sentence also when it was passed. ``count`` is how many findings there
    are; only the first are listed."""

    id: str
    title: str
    rule: str
    stage: int
    status: Status
    evidence: str
    remedy: str
    count: int = 0
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class Step:
    """One of the six steps of a rollout: done when all of its checks hold; else ``next_action`` is what to do."""

    number: int
    label: str
    title: str
    done: bool
    passed: int
    checks: tuple[str, ...]
    next_action: str = ""


@dataclass(frozen=True)
class Barriers:
    """The proof of the two barriers at an ingress: each was asked on its own, with the other one satisfied."""

    ingress: str
    address_refuses: bool | None
    certificate_refuses: bool | None

    @property
    def proved(self) -> bool:
        return bool(self.address_refuses and self.certificate_refuses)


@dataclass(frozen=True)
class Report:
    """The posture of an organization. ``score`` is the percentage of checks that hold, a waived one counting half.
    ``stage`` is the highest one all of whose checks hold: 1 addresses, 2 mutual TLS, 3 workload identity."""

    organization: str
    made_at: datetime
    passed: bool
    score: int
    stage: int
    results: tuple[CheckResult, ...]
    steps: tuple[Step, ...]
    barriers: tuple[Barriers, ...]
    waivers: tuple[Waiver, ...]
