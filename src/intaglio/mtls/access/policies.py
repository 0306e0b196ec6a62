"""Policies: written in versions, proved by their cases before they are activated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast
from uuid import UUID

from sqlalchemy import Select, func, insert, select, update

from intaglio.audit import record as audit
from intaglio.authority import models as authority_models
from intaglio.authority.access import memberships_of, require_organization, sees_all
from intaglio.authority.configuration import changing
from intaglio.core.errors import InvalidInput, NotFound, Refused, StateConflict
from intaglio.core.identifiers import new_id
from intaglio.core.principal import Permission, Principal
from intaglio.db.engine import Row, Transaction
from intaglio.mtls.access import models
from intaglio.mtls.access.cedar import CompiledPolicy, admits_anybody, compile_policy
from intaglio.mtls.access.ingresses import policy_unknown
from intaglio.mtls.access.policy_values import (
    CaseResult,
    Language,
    Policy,
    PolicyCase,
    PolicyVersion,
    check_cases,
    run_cases,
    translated,
)
from intaglio.mtls.context import Mtls
from intaglio.mtls.identities.names import identity_name

_LONGEST_DESCRIPTION = 500


@dataclass(frozen=True)
class NewPolicy:
    """A policy, or the next version of one."""

    name: str
    organization: str
    source: str
    language: Language = "short"
    cases: Sequence[PolicyCase] = ()
    description: str | None = None


async def put_policy(mtls: Mtls, principal: Principal, wanted: NewPolicy) -> tuple[Policy, PolicyVersion]:
    """Write a new version of a policy, as a draft; the policy is made when there is none of this name.

    The same source and cases again as the newest version make no new one. Needs ``mtls.policy``. Raises InvalidInput
    (``case-invalid``), Refused (``policy-invalid``), NotFound.
    """
    name = identity_name(wanted.name)
    if wanted.language not in ("cedar", "short"):
        raise InvalidInput("The language is cedar or short.", target="language")
    description = _description(wanted.description)
    cedar = translated(wanted.language, wanted.source)
    check_cases(wanted.cases)
    cases = [asdict(case) for case in wanted.cases]
    async with mtls.database.transaction() as tx:
        organization = await require_organization(tx, principal, wanted.organization, Permission.MTLS_POLICY, lock=True)
        policy = await _made(tx, principal, organization.id, name, description)
        latest = await _version_row(tx, policy["id"], policy["latest_version"])
        new = {"language": wanted.language, "source": wanted.source, "cases": cases}
        if latest is None or any(latest[key] != value for key, value in new.items()):
            number = policy["latest_version"] + 1
            values = {"policy_id": policy["id"], "version": number, "cedar": cedar, "state": "draft", **new}
            await tx.execute(
                insert(models.policy_version).values(**values, created_by=principal.name, created_at=tx.now)
            )
            await _set(tx, policy["id"], latest_version=number)
            _note(tx, principal, "write", wanted.organization, name, version=number)
        if description is not None:
            await _set(tx, policy["id"], description=description)
        found = await visible(tx, principal, f"{wanted.organization}~{name}", Permission.MTLS_POLICY)
        return found, await load_version(tx, found, found.latest_version)


async def list_policies(mtls: Mtls, principal: Principal) -> list[Policy]:
    """The policies of the organizations one sees, by name. Needs ``mtls.view``."""
    principal.require(Permission.MTLS_VIEW)
    async with mtls.database.read() as view:
        query = _query(principal).order_by(authority_models.organization.c.name, models.policy.c.name)
        return [_policy_of(row) for row in await view.all(query)]


async def get_policy(mtls: Mtls, principal: Principal, name: str) -> tuple[Policy, list[PolicyVersion]]:
    """A policy with its versions, newest first (100 at most). Needs ``mtls.view``. Raises NotFound."""
    v = models.policy_version
    async with mtls.database.read() as view:
        policy = await visible(view, principal, name, Permission.MTLS_VIEW)
        rows = await view.all(select(v).where(v.c.policy_id == policy.id).order_by(v.c.version.desc()).limit(100))
        return policy, [_version_of(row) for row in rows]


async def prove_version(
    mtls: Mtls, principal: Principal, name: str, version: int | None = None
) -> tuple[Policy, int, list[CaseResult]]:
    """Run the cases of a version (default: the newest). Needs ``mtls.view``. Raises NotFound."""
    async with mtls.database.read() as view:
        policy = await visible(view, principal, name, Permission.MTLS_VIEW)
        found = await load_version(view, policy, policy.latest_version if version is None else version)
    return policy, found.version, run_cases(compiled(policy, found), found.cases)


async def activate(mtls: Mtls, principal: Principal, name: str, version: int | None = None) -> Policy:
    """Make a version (default: the newest) the one that counts, once all of its cases pass. Needs ``mtls.policy``.

    An earlier version may be activated again. Raises NotFound, Refused (``policy-cases-failed`` with the cases).
    """
    async with changing(mtls.authority, principal, Permission.MTLS_POLICY) as change:
        tx = change.tx
        policy = await _locked(tx, principal, name)
        found = await load_version(tx, policy, policy.latest_version if version is None else version)
        results = run_cases(compiled(policy, found), found.cases)
        if failed := [result for result in results if not result.passed]:
            raise Refused(
                f"{len(failed)} of {len(results)} cases of version {found.version} fail.",
                code="policy-cases-failed",
                remedy="Correct the policy or its cases.",
                extra={"cases": [asdict(result) for result in failed]},
            )
        v = models.policy_version
        mine = v.c.policy_id == policy.id
        await tx.execute(update(v).where(mine, v.c.state == "active").values(state="superseded"))
        chosen = {"state": "active", "activated_by": principal.name, "activated_at": tx.now}
        await tx.execute(update(v).where(mine, v.c.version == found.version).values(**chosen))
        await _set(tx, policy.id, active_version=found.version)
        _note(
            tx, principal, "activate", policy.organization, policy.name,
            version=[policy.active_version, found.version], admits_anybody=found.admits_anybody, cases=len(results),
        )  # fmt: skip
        return await visible(tx, principal, policy.full_name, Permission.MTLS_POLICY)


async def retire_policy(mtls: Mtls, principal: Principal, name: str) -> None:
    """Retire a policy that no ingress uses. Needs ``mtls.policy``.

    Raises NotFound, StateConflict (``policy-in-use``).
    """
    async with changing(mtls.authority, principal, Permission.MTLS_POLICY) as change:
        policy = await _locked(change.tx, principal, name)
        if policy.ingresses:
            raise StateConflict(
                f'Policy "{policy.full_name}" is used by {", ".join(policy.ingresses[:5])}.',
                code="policy-in-use",
                remedy="Give these ingresses another policy first.",
            )
        await _set(change.tx, policy.id, retired_at=change.tx.now)
        _note(change.tx, principal, "retire", policy.organization, policy.name)


# ---- for the rest of this room ---------------------------------------------------------------------------------------


async def visible(view: Transaction, principal: Principal, name: str, permission: Permission) -> Policy:
    """The policy ``{organization}~{name}``, or of a name that is unique among those one sees. Raises NotFound,
    StateConflict (``policy-ambiguous``)."""
    principal.require(permission)
    organization, _, own = name.rpartition("~")
    query = _query(principal).where(models.policy.c.name == own)
    if organization:
        query = query.where(authority_models.organization.c.name == organization)
    rows = await view.all(query.limit(2))
    if not rows:
        raise policy_unknown(name)
    if len(rows) > 1:
        raise StateConflict(
            f'There are several policies "{own[:64]}".',
            code="policy-ambiguous",
            remedy="Name the organization too: ORGANIZATION~POLICY.",
        )
    return _policy_of(rows[0])


async def load_version(view: Transaction, policy: Policy, version: int) -> PolicyVersion:
    """One version. Raises NotFound (``policy-version-unknown``)."""
    row = await _version_row(view, policy.id, version)
    if row is None:
        raise NotFound(
            f'Policy "{policy.full_name}" has no version {version}.',
            code="policy-version-unknown",
            remedy=f"It has versions 1 to {policy.latest_version}.",
            target="version",
        )
    return _version_of(row)


def compiled(policy: Policy, version: PolicyVersion) -> CompiledPolicy:
    """A version, ready to be asked. Raises Refused when it does not fit the schema (any more)."""
    return compile_policy(policy.name, version.version, version.cedar)


async def _locked(tx: Transaction, principal: Principal, name: str) -> Policy:
    found = await visible(tx, principal, name, Permission.MTLS_POLICY)
    await tx.scalar(select(models.policy.c.id).where(models.policy.c.id == found.id).with_for_update())
    return await visible(tx, principal, found.full_name, Permission.MTLS_POLICY)


async def _made(
    tx: Transaction, principal: Principal, organization_id: UUID, name: str, description: str | None
) -> Mapping[Any, Any]:
    p = models.policy
    mine = select(p).where(p.c.organization_id == organization_id, p.c.name == name, p.c.retired_at.is_(None))
    found = await tx.one_or_none(mine.with_for_update())
    if found is not None:
        return found
    values = {"id": new_id(), "organization_id": organization_id, "name": name, "description": description or ""}
    await tx.execute(insert(p).values(**values, created_by=principal.name, created_at=tx.now))
    return {**values, "latest_version": 0}


async def _version_row(view: Transaction, policy_id: UUID, version: int) -> Row | None:
    v = models.policy_version
    if not 0 < version < 1 << 31:
        return None
    return await view.one_or_none(select(v).where(v.c.policy_id == policy_id, v.c.version == version))


async def _set(tx: Transaction, policy_id: UUID, **values: Any) -> None:
    await tx.execute(update(models.policy).where(models.policy.c.id == policy_id).values(**values))


def _note(tx: Transaction, principal: Principal, verb: str, organization: str, name: str, **detail: Any) -> None:
    audit.record(
        tx, principal, f"access-policy.{verb}", "access-policy", f"{organization}~{name}",
        organization=organization, **detail,
    )  # fmt: skip


def _query(principal: Principal) -> Select[Any]:
    p, o, i = models.policy, authority_models.organization, models.ingress
    users = (
        select(func.array_agg(i.c.name))
        .where(i.c.policy_id == p.c.id, i.c.retired_at.is_(None))
        .scalar_subquery()
        .correlate(p)
    )
    query = (
        select(p, o.c.name.label("organization"), users.label("ingresses"))
        .join(o, o.c.id == p.c.organization_id)
        .where(p.c.retired_at.is_(None))
    )
    return query if sees_all(principal) else query.where(p.c.organization_id.in_(memberships_of(principal.name)))


def _policy_of(row: Row) -> Policy:
    names = (
        "id", "name", "organization", "description", "active_version", "latest_version", "created_by", "created_at",
    )  # fmt: skip
    used = tuple(sorted(f"{row['organization']}~{name}" for name in row["ingresses"] or ()))
    return Policy(**{name: row[name] for name in names}, ingresses=used)


def _version_of(row: Row) -> PolicyVersion:
    names = (
        "version", "language", "source", "cedar", "state", "created_by", "created_at", "activated_by", "activated_at",
    )  # fmt: skip
    cases = tuple(PolicyCase(**cast("dict[str, Any]", case)) for case in row["cases"])
    anybody = admits_anybody(row["cedar"])
    return PolicyVersion(**{name: row[name] for name in names}, cases=cases, admits_anybody=anybody)


def _description(text: str | None) -> str | None:
    if text is not None and (len(text) > _LONGEST_DESCRIPTION or not text.isprintable()):
        raise InvalidInput(
            f"A description has at most {_LONGEST_DESCRIPTION} printable characters.", target="description"
        )
    return text
