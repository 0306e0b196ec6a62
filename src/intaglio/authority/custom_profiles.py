"""Custom certificate profiles: drafts, versions, approval.

A custom profile is a clone of another one with changes, or a declaration. Every change is a new version in state
``draft``. It becomes ``active`` once it was tried out (declared is issued, the deep lint is clean) and approved by
somebody else than its author, where there is somebody else. CAs that offer the profile then issue under that version;
the one before is ``retired``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import any_, func, insert, literal, select, update

from intaglio.audit import record as audit
from intaglio.authority import locks, models
from intaglio.authority.access import visible_organizations
from intaglio.authority.configuration import changing
from intaglio.authority.context import Authority
from intaglio.authority.directory import CaView, Snapshot
from intaglio.core.errors import Forbidden, Refused, StateConflict
from intaglio.core.principal import Permission, Principal
from intaglio.db.engine import Transaction
from intaglio.identity.models import role, user_account
from intaglio.profiles import custom, registry
from intaglio.profiles.declarations import dump_declaration
from intaglio.profiles.model import CertificateProfile
from intaglio.profiles.testing import ProfileReport, try_profile

State = Literal["built-in", "draft", "active", "retired"]


@dataclass(frozen=True)
class StoredProfile:
    """A profile with where it stands; of a built-in one only ``profile`` and ``state`` say something."""

    profile: CertificateProfile
    state: State
    created_by: str = ""
    created_at: datetime | None = None
    approved_by: str | None = None
    approved_at: datetime | None = None

    @property
    def declaration(self) -> str:
        """The profile as YAML."""
        return dump_declaration(self.profile)


@dataclass(frozen=True)
class ProfileHistory:
    """A profile with its versions, newest first, and the full ids of the CAs that offer it, as far as one sees them."""

    current: StoredProfile
    versions: tuple[StoredProfile, ...]
    offered_by: tuple[str, ...] = field(default=())


async def list_profiles(authority: Authority, principal: Principal, *, hidden: bool = False) -> list[StoredProfile]:
    """The built-in profiles and the newest version of every custom one. Needs ``ca.view``.

    ``hidden`` adds the profiles that only the platform uses, and retired ones.
    """
    _require_viewer(principal)
    async with authority.database.read() as view:
        stored = await _newest(view)
    built_in = [StoredProfile(profile, "built-in") for profile in registry.listed(hidden=hidden)]
    return built_in + [each for each in stored if hidden or each.state != "retired"]


async def get_profile(authority: Authority, principal: Principal, profile_id: str) -> ProfileHistory:
    """One profile, by either spelling of its id: of a custom one the active version, else the newest.

    Needs ``ca.view``. Raises NotFound.
    """
    _require_viewer(principal)
    wanted, snapshot = registry.normal_id(profile_id), await authority.current()
    async with authority.database.read() as view:
        offered_by, _ = await _offering(view, principal, snapshot, wanted)
        versions = await _versions(view, wanted)
    if (built_in := registry.find(wanted)) is not None:
        found = StoredProfile(built_in, "built-in")
        return ProfileHistory(found, (found,), offered_by)
    if not versions:
        raise registry.unknown(profile_id)
    return ProfileHistory(_effective(versions), versions, offered_by)


async def clone_profile(
    authority: Authority, principal: Principal, source_id: str, new_id: str, changes: Mapping[str, Any]
) -> StoredProfile:
    """A new custom profile that is another one with some fields replaced. Needs ``profiles.manage``.

    Raises NotFound (source), Forbidden (internal source), InvalidInput (id, changes), StateConflict (id in use).
    """
    principal.require(Permission.PROFILES_MANAGE)
    source = (await get_profile(authority, principal, source_id)).current.profile
    made = custom.clone(source, new_id, changes)
    async with authority.database.transaction() as tx:
        await locks.lock(tx, "custom-profile", made.id)
        if await _versions(tx, made.id):
            raise StateConflict(
                f'There is a profile "{made.id}" already.', code="profile-exists", remedy="Revise it.", target="id"
            )
        return await _add_draft(tx, principal, made, "profile.clone", source=made.based_on)


async def revise_profile(
    authority: Authority, principal: Principal, profile_id: str, changes: Mapping[str, Any]
) -> StoredProfile:
    """The next version of a custom profile, with some fields replaced; the newest one when nothing changes.

    Needs ``profiles.manage``. Raises NotFound, Forbidden (built-in), InvalidInput.
    """
    principal.require(Permission.PROFILES_MANAGE)
    wanted = registry.normal_id(profile_id)
    if (built_in := registry.find(wanted)) is not None:
        custom.revise(built_in, changes)  # says why not
    async with authority.database.transaction() as tx:
        await locks.lock(tx, "custom-profile", wanted)
        newest = await _newest_version(tx, wanted)
        revised = custom.revise(newest.profile, changes)
        if revised is newest.profile:
            if newest.state != "retired":
                return newest
            revised = _next(newest.profile)
        return await _add_draft(tx, principal, revised, "profile.revise", fields=sorted(changes))


async def declare_profile(authority: Authority, principal: Principal, declaration: str) -> StoredProfile:
    """Create a custom profile from its YAML, or make the next version of it; unchanged when it says the same.

    Needs ``profiles.manage``. Raises InvalidInput naming every wrong field.
    """
    principal.require(Permission.PROFILES_MANAGE)
    wanted = custom.from_declaration(declaration).id
    async with authority.database.transaction() as tx:
        await locks.lock(tx, "custom-profile", wanted)
        versions = await _versions(tx, wanted)
        newest = versions[0] if versions else None
        declared = custom.from_declaration(declaration, newest.profile if newest else None)
        if newest is not None and declared == newest.profile:
            if newest.state != "retired":
                return newest
            declared = _next(newest.profile)
        return await _add_draft(tx, principal, declared, "profile.declare")


async def try_out_profile(authority: Authority, principal: Principal, profile_id: str) -> ProfileReport:
    """Issue from a throw-away CA under the newest version, compare with the declaration, and lint.

    Needs ``ca.view``. Raises NotFound.
    """
    history = await get_profile(authority, principal, profile_id)
    return await asyncio.to_thread(try_profile, history.versions[0].profile)


async def activate_profile(
    authority: Authority, principal: Principal, profile_id: str, *, version: int | None = None
) -> StoredProfile:
    """Approve a draft (the newest, or the ``version`` that was looked at) and let CAs issue under it.

    Needs ``profiles.manage``. Raises NotFound, StateConflict (no draft, or a newer version than ``version``), Refused
    (``profile-lint-failed`` with the findings), Forbidden (``approval-by-author`` while somebody else could approve).
    """
    principal.require(Permission.PROFILES_MANAGE)
    wanted = registry.normal_id(profile_id)
    async with authority.database.read() as view:
        draft = _draft(await _newest_version(view, wanted), version)
    report = await asyncio.to_thread(try_profile, draft.profile)
    if not report.ok:
        raise _lint_failed(draft.profile, report)
    async with changing(authority, principal, Permission.PROFILES_MANAGE) as change:
        await locks.lock(change.tx, "custom-profile", wanted)
        # Nothing but the version that was tried out becomes active.
        draft = _draft(await _newest_version(change.tx, wanted), draft.profile.version)
        if draft.created_by == principal.name and await _holders(change.tx) > 1:
            raise Forbidden(
                f'"{principal.name}" wrote version {draft.profile.version} and cannot approve it as well.',
                code="approval-by-author",
                remedy="Have somebody else with profiles.manage activate it.",
            )
        await _set_state(change.tx, wanted, "active", "retired")
        approval = {"approved_by": principal.name, "approved_at": change.tx.now}
        await _set_state(change.tx, wanted, "draft", "active", **approval)
        audit.record(
            change.tx, principal, "profile.activate", "profile", wanted, version=draft.profile.version,
            author=draft.created_by,
        )  # fmt: skip
        return await _newest_version(change.tx, wanted)


async def retire_profile(authority: Authority, principal: Principal, profile_id: str, *, force: bool = False) -> None:
    """Let nothing be issued under a custom profile any more; certificates issued before stay valid.

    Needs ``profiles.manage``. Raises NotFound, Forbidden (built-in), StateConflict (``profile-in-use``) listing the CAs
    that offer it, unless ``force``.
    """
    principal.require(Permission.PROFILES_MANAGE)
    history = await get_profile(authority, principal, profile_id)
    if history.current.state == "built-in":
        raise Forbidden("Built-in profiles stay; take them from the CAs that offer them.", code="profile-immutable")
    wanted = history.current.profile.id
    async with changing(authority, principal, Permission.PROFILES_MANAGE) as change:
        snapshot = await change.locked()
        seen, unseen = await _offering(change.tx, principal, snapshot, wanted)
        if (seen or unseen) and not force:
            named = [*seen[:10], *([f"{unseen} of other organizations"] if unseen else [])]
            raise StateConflict(
                f'The profile "{wanted}" is offered by {", ".join(named)}.',
                code="profile-in-use",
                remedy="Take it from these CAs first, or force it.",
                extra={"cas": list(seen)},
            )
        await locks.lock(change.tx, "custom-profile", wanted)
        for state in ("draft", "active"):
            await _set_state(change.tx, wanted, state, "retired")
        offering = [ca.full_id for ca in _offering_all(snapshot, wanted)]
        audit.record(change.tx, principal, "profile.retire", "profile", wanted, offered_by=offering)


async def _offering(
    view: Transaction, principal: Principal, snapshot: Snapshot, profile_id: str
) -> tuple[tuple[str, ...], int]:
    """The full ids of the CAs that offer a profile and that the principal may know of, and how many others do."""
    offering = _offering_all(snapshot, profile_id)
    visible = {each.id for each in await visible_organizations(view, principal)}
    seen = tuple(ca.full_id for ca in offering if ca.organization_id in visible)
    return seen, len(offering) - len(seen)


def _offering_all(snapshot: Snapshot, profile_id: str) -> list[CaView]:
    found = [ca for ca in snapshot.cas.values() if profile_id in ca.profile_ids and ca.state != "deleted"]
    return sorted(found, key=lambda ca: ca.full_id)


async def _add_draft(
    tx: Transaction, principal: Principal, profile: CertificateProfile, action: str, **facts: Any
) -> StoredProfile:
    """Record a version as the only draft of its profile."""
    await _set_state(tx, profile.id, "draft", "retired")
    await tx.execute(
        insert(models.custom_profile).values(
            profile_id=profile.id,
            version=profile.version,
            state="draft",
            declaration=profile.model_dump(mode="json"),
            created_by=principal.name,
            created_at=tx.now,
        )
    )
    audit.record(tx, principal, action, "profile", profile.id, version=profile.version, **facts)
    return StoredProfile(profile, "draft", principal.name, tx.now)


async def _set_state(tx: Transaction, profile_id: str, before: str, after: str, **values: Any) -> None:
    p = models.custom_profile.c
    statement = update(models.custom_profile).where(p.profile_id == profile_id, p.state == before)
    await tx.execute(statement.values(state=after, **values))


async def _versions(view: Transaction, profile_id: str) -> tuple[StoredProfile, ...]:
    p = models.custom_profile.c
    query = select(models.custom_profile).where(p.profile_id == profile_id).order_by(p.version.desc())
    return tuple(_stored(row) for row in await view.all(query))


async def _newest_version(view: Transaction, profile_id: str) -> StoredProfile:
    versions = await _versions(view, profile_id)
    if not versions:
        raise registry.unknown(profile_id)
    return versions[0]


async def _newest(view: Transaction) -> list[StoredProfile]:
    """Of every custom profile the active version, else the newest; by id."""
    p = models.custom_profile.c
    found: dict[str, list[StoredProfile]] = {}
    for row in await view.all(select(models.custom_profile).order_by(p.profile_id, p.version.desc())):
        found.setdefault(row["profile_id"], []).append(_stored(row))
    return [_effective(tuple(versions)) for versions in found.values()]


def _next(profile: CertificateProfile) -> CertificateProfile:
    """The same once more as a version of its own: how a retired profile comes back."""
    return profile.model_copy(update={"version": profile.version + 1})


def _effective(versions: tuple[StoredProfile, ...]) -> StoredProfile:
    return next((each for each in versions if each.state == "active"), versions[0])


def _stored(row: Mapping[Any, Any]) -> StoredProfile:
    return StoredProfile(
        CertificateProfile.model_validate(row["declaration"]), row["state"], row["created_by"], row["created_at"],
        row["approved_by"], row["approved_at"],
    )  # fmt: skip


def _draft(newest: StoredProfile, version: int | None) -> StoredProfile:
    profile = newest.profile
    if newest.state != "draft":
        raise StateConflict(
            f'The newest version of "{profile.id}", {profile.version}, is {newest.state}.',
            code="profile-not-draft",
            remedy="Revise the profile for a draft to activate.",
        )
    if version not in (None, profile.version):
        raise StateConflict(
            f'"{profile.id}" has a newer draft, version {profile.version}.',
            code="profile-changed",
            remedy="Look at it, then activate that version.",
        )
    return newest


def _lint_failed(profile: CertificateProfile, report: ProfileReport) -> Refused:
    errors = [finding for finding in report.findings if finding.severity == "error"]
    told = [*report.differences, *(finding.text for finding in errors)]
    return Refused(
        f'Version {profile.version} of "{profile.id}" does not pass its trial: {"; ".join(told[:5])}.',
        code="profile-lint-failed",
        remedy="Revise the profile; `intaglio profile test` shows everything that was found.",
        extra={"differences": list(report.differences), "findings": [finding.code for finding in errors]},
    )


async def _holders(view: Transaction) -> int:
    """How many enabled users may approve profiles."""
    u, r = user_account.c, role.c
    query = (
        select(func.count(u.id.distinct()))
        .join(role, r.name == any_(u.roles))
        .where(~u.disabled, literal(Permission.PROFILES_MANAGE.value) == any_(r.permissions))
    )
    return int(await view.scalar(query) or 0)


def _require_viewer(principal: Principal) -> None:
    if not principal.may(Permission.PROFILES_MANAGE):
        principal.require(Permission.CA_VIEW)
