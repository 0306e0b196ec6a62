"""Access policies: what callers may do, by what their certificates say."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from intaglio.mtls.access import policies, trials
from intaglio.mtls.access.cedar import LONGEST_POLICY, SCHEMA
from intaglio.mtls.access.policy_values import CaseResult as FoundResult
from intaglio.mtls.access.policy_values import Policy as Found
from intaglio.mtls.access.policy_values import PolicyCase
from intaglio.mtls.access.policy_values import PolicyVersion as FoundVersion
from intaglio.server.management.access import Asked, Asker
from intaglio.server.management.lists import Items, page
from intaglio.server.management.mtls.given import GivenMtls

router = APIRouter(prefix="/mtls/v1", tags=["access policies"])


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Policy(BaseModel):
    """A policy; version 0 is none. ``ingresses`` use it."""

    id: str
    name: str
    full_name: str
    organization: str
    description: str
    active_version: int
    latest_version: int
    ingresses: list[str]
    created_by: str
    created_at: datetime

    @classmethod
    def of(cls, found: Found) -> Policy:
        members = {"id": str(found.id), "full_name": found.full_name, "ingresses": list(found.ingresses)}
        return cls.model_validate({**vars(found), **members})


class CaseRequest(_Body):
    """A request, and who makes it: the members of ``identity`` are kind, name, domain, environment, team, service,
    roles, version, uri and email."""

    identity: dict[str, Any] = {}
    method: str = "GET"
    path: str = "/"
    host: str = ""
    ingress: str = ""
    source_ip: str = ""
    tls_version: str = ""
    issuer: str = Field(default="", description="CA of the certificate: ORGANIZATION~CA.")


class Case(CaseRequest):
    """A request with the answer it has to get."""

    name: str
    expect: Literal["allow", "deny"]


class PolicyWish(_Body):
    """A policy, or the next version of one."""

    organization: str
    source: str = Field(max_length=LONGEST_POLICY)
    language: Literal["short", "cedar"] = "short"
    cases: list[Case] = []
    description: str | None = None
    activate: bool = Field(default=False, description="Activate it at once, if its cases pass.")


class PolicyVersion(BaseModel):
    """One version. ``cedar`` is what is evaluated; ``admits_anybody`` when some rule asks nothing of the caller."""

    version: int
    language: Literal["short", "cedar"]
    source: str
    cedar: str
    cases: list[Case]
    state: Literal["draft", "active", "superseded"]
    admits_anybody: bool
    created_by: str
    created_at: datetime
    activated_by: str | None
    activated_at: datetime | None

    @classmethod
    def of(cls, found: FoundVersion) -> PolicyVersion:
        return cls.model_validate({**vars(found), "cases": [asdict(case) for case in found.cases]})


class PolicyWithVersions(BaseModel):
    """A policy with its versions, newest first."""

    policy: Policy
    versions: list[PolicyVersion]


class VersionChoice(_Body):
    """A version; the newest when left out."""

    version: int | None = None


class CaseResult(BaseModel):
    """What a policy answered to a case."""

    name: str
    expect: str
    answer: str
    passed: bool
    rules: list[str]

    @classmethod
    def of(cls, found: FoundResult) -> CaseResult:
        return cls.model_validate({**asdict(found), "passed": found.passed})


class CaseResults(BaseModel):
    """Whether all cases of a version pass."""

    policy: str
    version: int
    passed: bool
    cases: list[CaseResult]


class DryRunWish(VersionChoice):
    """How far to look back."""

    hours: int = Field(default=24, ge=1, le=8784)


class ChangedDecision(BaseModel):
    """Requests that would be decided differently."""

    identity: str
    ingress: str
    method: str
    host: str
    path: str
    source_ip: str
    before: Literal["allow", "deny"]
    after: Literal["allow", "deny"]
    rules: list[str]
    count: int
    last_seen: datetime


class DryRun(BaseModel):
    """What a version would have decided about recorded requests."""

    policy: str
    version: int
    hours: int
    requests: int
    distinct: int
    complete: bool
    newly_allowed: int
    newly_denied: int
    changes: list[ChangedDecision]


class Question(VersionChoice, CaseRequest):
    """A request to explain."""


class Explanation(BaseModel):
    """What a version answers, and from what."""

    policy: str
    version: int
    allowed: bool
    rules: list[str]
    principal: dict[str, Any]
    action: str
    path: str


class Schema(BaseModel):
    """The Cedar schema that policies are checked against."""

    schema_text: str


@router.get("/policies")
async def list_policies(mtls: GivenMtls, asker: Asker, asked: Asked) -> Items[Policy]:
    """The policies of the organizations one belongs to."""
    return page(map(Policy.of, await policies.list_policies(mtls, asker)), asked, key="full_name")


@router.get("/policy-schema")
async def get_policy_schema(asker: Asker) -> Schema:
    """What rules may name, as a Cedar schema."""
    return Schema(schema_text=SCHEMA)


@router.put("/policies/{policy}")
async def put_policy(mtls: GivenMtls, asker: Asker, policy: str, body: PolicyWish) -> PolicyWithVersions:
    """Write a new version; the same again makes none."""
    cases = [PolicyCase(**case.model_dump()) for case in body.cases]
    wish = policies.NewPolicy(policy, body.organization, body.source, body.language, cases, body.description)
    made, version = await policies.put_policy(mtls, asker, wish)
    if body.activate and version.state != "active":
        await policies.activate(mtls, asker, made.full_name, version.version)
    found, versions = await policies.get_policy(mtls, asker, made.full_name)
    return PolicyWithVersions(policy=Policy.of(found), versions=[PolicyVersion.of(each) for each in versions[:1]])


@router.get("/policies/{policy}")
async def get_policy(mtls: GivenMtls, asker: Asker, policy: str) -> PolicyWithVersions:
    """A policy with its versions: `ORGANIZATION~NAME`, or a name that is unique."""
    found, versions = await policies.get_policy(mtls, asker, policy)
    return PolicyWithVersions(policy=Policy.of(found), versions=[PolicyVersion.of(each) for each in versions])


@router.delete("/policies/{policy}", status_code=204)
async def retire_policy(mtls: GivenMtls, asker: Asker, policy: str) -> None:
    """Retire a policy that no ingress uses."""
    await policies.retire_policy(mtls, asker, policy)


@router.post("/policies/{policy}/activate")
async def activate_policy(mtls: GivenMtls, asker: Asker, policy: str, body: VersionChoice) -> Policy:
    """Make a version the one that counts; all its cases have to pass."""
    return Policy.of(await policies.activate(mtls, asker, policy, body.version))


@router.get("/policies/{policy}/cases")
async def run_policy_cases(
    mtls: GivenMtls, asker: Asker, policy: str, version: Annotated[int | None, Query()] = None
) -> CaseResults:
    """Run the cases of a version."""
    found, number, results = await policies.prove_version(mtls, asker, policy, version)
    passed = all(result.passed for result in results)
    return CaseResults(
        policy=found.full_name, version=number, passed=passed, cases=[CaseResult.of(each) for each in results]
    )


@router.post("/policies/{policy}/dry-run")
async def dry_run_policy(mtls: GivenMtls, asker: Asker, policy: str, body: DryRunWish) -> DryRun:
    """Which recorded requests a version would decide differently."""
    found = await trials.dry_run(mtls, asker, policy, body.version, hours=body.hours)
    return DryRun.model_validate(asdict(found))


@router.post("/policies/{policy}/explain")
async def explain_policy(mtls: GivenMtls, asker: Asker, policy: str, body: Question) -> Explanation:
    """What a version (the active one, unless told otherwise) answers to a request, and by which rules."""
    members = body.model_dump(exclude={"version"})
    question = PolicyCase(name="question", expect="allow", **members)
    found = await trials.explain(mtls, asker, policy, question, body.version)
    return Explanation.model_validate(asdict(found))
