"""Policies as people write them: a source, and cases that say what it has to answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from intaglio.core.errors import InvalidInput
from intaglio.mtls.access.cedar import CompiledPolicy, PolicyRequest, check_policy
from intaglio.mtls.access.configuration import address_of
from intaglio.mtls.access.routes import normalized_host, normalized_path
from intaglio.mtls.access.short_form import to_cedar
from intaglio.mtls.identities.values import CertifiedIdentity, Kind, spiffe_id

Language = Literal["cedar", "short"]
MOST_CASES = 200
_LONGEST_TEXT = 300
_IDENTITY = ("kind", "name", "domain", "environment", "team", "service", "version", "uri", "email")


@dataclass(frozen=True)
class PolicyCase:
    """A request with the answer it has to get. ``identity`` has the members of a certified identity, all optional but
    ``kind``; ``issuer`` is the CA."""

    name: str
    expect: Literal["allow", "deny"]
    identity: Mapping[str, Any] = field(default_factory=dict)
    method: str = "GET"
    path: str = "/"
    host: str = ""
    ingress: str = ""
    source_ip: str = ""
    tls_version: str = ""
    issuer: str = ""

    def request(self) -> PolicyRequest:
        """The request of the case. Raises InvalidInput."""
        return PolicyRequest(
            identity=identity_of(self.identity),
            issuer=self.issuer,
            ingress=self.ingress,
            method=self.method,
            host=normalized_host(self.host),
            path=normalized_path(self.path) or "",
            source_ip=str(address_of(self.source_ip) or ""),
            tls_version=self.tls_version,
        )


@dataclass(frozen=True)
class CaseResult:
    """What a policy answered to a case."""

    name: str
    expect: str
    answer: str
    rules: tuple[str, ...]

    @property
    def passed(self) -> bool:
        return self.answer == self.expect


@dataclass(frozen=True)
class PolicyVersion:
    """One version of a policy. ``state`` is draft, active or superseded; ``cedar`` is what is evaluated."""

    version: int
    language: Language
    source: str
    cedar: str
    cases: tuple[PolicyCase, ...]
    state: str
    admits_anybody: bool
    created_by: str
    created_at: datetime
    activated_by: str | None
    activated_at: datetime | None


@dataclass(frozen=True)
class Policy:
    """A policy with its newest and its active version (0: none, which denies everything)."""

    id: UUID
    name: str
    organization: str
    description: str
    active_version: int
    latest_version: int
    created_by: str
    created_at: datetime
    ingresses: tuple[str, ...] = ()

    @property
    def full_name(self) -> str:
        """``{organization}~{name}``."""
        return f"{self.organization}~{self.name}"


def translated(language: Language, source: str) -> str:
    """The Cedar text of a source, checked. Raises Refused (``policy-invalid``)."""
    cedar = to_cedar(source) if language == "short" else source
    check_policy(cedar)
    return cedar


def run_cases(policy: CompiledPolicy, cases: Sequence[PolicyCase]) -> list[CaseResult]:
    """Ask a policy every case."""
    results = []
    for case in cases:
        outcome = policy.evaluate(case.request())
        results.append(CaseResult(case.name, case.expect, "allow" if outcome.allowed else "deny", outcome.rules))
    return results


def check_cases(cases: Sequence[PolicyCase]) -> None:
    """Raise InvalidInput (``case-invalid``) for a case that cannot be asked."""
    if len(cases) > MOST_CASES:
        raise InvalidInput(f"A policy has at most {MOST_CASES} cases.", code="case-invalid", target="cases")
    for number, case in enumerate(cases):
        texts = (case.name, case.method, case.path, case.host, case.ingress, case.tls_version, case.issuer)
        if any(len(text) > _LONGEST_TEXT or not text.isprintable() for text in texts):
            raise _bad_case(number, f"texts have at most {_LONGEST_TEXT} printable characters")
        if case.expect not in ("allow", "deny"):
            raise _bad_case(number, "expect is allow or deny")
        if normalized_path(case.path) is None:
            raise _bad_case(number, f'the path "{case.path[:60]}" can be read in two ways, which nothing is allowed on')
        if case.source_ip and address_of(case.source_ip) is None:
            raise _bad_case(number, f'"{case.source_ip[:40]}" is not an address')
        try:
            case.request()
        except InvalidInput as error:
            raise _bad_case(number, error.detail) from None


def identity_of(members: Mapping[str, Any]) -> CertifiedIdentity | None:
    """The identity a case or a question describes; None for an empty description. Raises InvalidInput."""
    if not members:
        return None
    if unknown := set(members) - {*_IDENTITY, "roles"}:
        raise InvalidInput(f'An identity has no "{sorted(unknown)[0][:40]}".', remedy=f"It has {', '.join(_IDENTITY)}.")
    texts = {name: str(members.get(name) or "") for name in _IDENTITY}
    roles = members.get("roles") or ()
    if isinstance(roles, str) or not all(isinstance(role, str) for role in roles) or len(roles) > MOST_CASES:
        raise InvalidInput("roles is a list of texts.")
    if any(len(text) > _LONGEST_TEXT or not text.isprintable() for text in (*texts.values(), *roles)):
        raise InvalidInput(f"Attributes have at most {_LONGEST_TEXT} printable characters.")
    try:
        kind = Kind(texts["kind"])
    except ValueError:
        raise InvalidInput(f'"{texts["kind"][:40]}" is not a kind.', remedy=f"Use one of: {', '.join(Kind)}.") from None
    if not texts["uri"]:
        texts["uri"] = spiffe_id(texts["domain"], texts["environment"], texts["team"], kind, texts["name"])
    return CertifiedIdentity(**{**texts, "kind": kind, "roles": tuple(roles)})  # type: ignore[arg-type]


def _bad_case(number: int, why: str) -> InvalidInput:
    return InvalidInput(f"Case {number + 1} is wrong: {why}.", code="case-invalid", target=f"/cases/{number}")
