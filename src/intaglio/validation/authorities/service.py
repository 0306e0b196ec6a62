"""Status authorities: created, checked, changed, deleted, and given another source."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import delete, func, insert, select, update

from intaglio.audit.record import record
from intaglio.authority.access import visible_organizations
from intaglio.core.errors import InvalidInput, StateConflict
from intaglio.core.identifiers import new_id
from intaglio.core.principal import Permission, Principal
from intaglio.db.engine import Transaction
from intaglio.validation import models
from intaglio.validation.authorities import checks, reading
from intaglio.validation.authorities.checks import Problem, Surroundings
from intaglio.validation.authorities.values import Authority, AuthoritySpec, GatewayOptions
from intaglio.validation.context import Validation
from intaglio.validation.sources import freshness
from intaglio.validation.sources.freshness import State
from intaglio.x509.certificates import read_certificates

_A, _I, _S = models.status_authority, models.status_issuer, models.status_source
_MOST = 10_000


@dataclass(frozen=True)
class Described:
    """An authority with how current it is; ``state`` is None for a native or disabled one, which has no source."""

    authority: Authority
    state: State | None


@dataclass(frozen=True)
class Saved:
    """An authority as it is now, and what should be looked at (warnings)."""

    authority: Authority
    warnings: tuple[Problem, ...] = ()


async def listing(validation: Validation, principal: Principal) -> list[Described]:
    """All status authorities. Needs ``validation.view``."""
    principal.require(Permission.VALIDATION_VIEW)
    async with validation.database.read() as view:
        found, states = await reading.load_all(view), await freshness.states(view, view.now)
    return [Described(each, states.get(each.id)) for each in found]


async def get(validation: Validation, principal: Principal, name: str) -> Described:
    """One status authority. Needs ``validation.view``. Raises NotFound."""
    principal.require(Permission.VALIDATION_VIEW)
    async with validation.database.read() as view:
        found = await reading.load(view, name)
        return Described(found, (await freshness.states(view, view.now)).get(found.id))


async def validate(
    validation: Validation, principal: Principal, spec: AuthoritySpec, *, replaces: str | None = None
) -> list[Problem]:
    """Everything that is wrong with a configuration; nothing is saved.

    ``replaces`` names the authority it is to change. Needs ``validation.view``.
    """
    principal.require(Permission.VALIDATION_VIEW)
    async with validation.database.read() as view:
        return checks.problems(spec, await _surroundings(validation, view, principal, except_for=replaces))


async def create(validation: Validation, principal: Principal, spec: AuthoritySpec) -> Saved:
    """Create a status authority. It answers ``tryLater`` until its source has been read completely once.

    Needs ``validation.manage``. Raises InvalidInput (``status-authority-invalid``, with every error), StateConflict.
    """
    principal.require(Permission.VALIDATION_MANAGE)
    async with validation.database.transaction() as tx:
        if await tx.scalar(select(func.count()).select_from(_A)) >= _MOST:
            raise StateConflict(f"There are at most {_MOST} status authorities.", code="too-many")
        warnings = await _checked(validation, tx, principal, spec, except_for=None)
        authority_id = new_id()
        values = _row(spec, await _native_ca_id(validation, spec))
        await tx.execute(
            insert(_A).values(
                id=authority_id,
                name=spec.name,
                set_id=new_id(),
                created_by=principal.name,
                created_at=tx.now,
                changed_at=tx.now,
                **values,
            )
        )
        await _store_issuers(tx, authority_id, spec)
        _note(tx, principal, "create", spec.name, source=spec.source, profile=spec.profile)
        tx.changed_configuration()
        return Saved(await reading.load(tx, spec.name), warnings)


async def change(
    validation: Validation, principal: Principal, name: str, spec: AuthoritySpec, *, version: int | None = None
) -> Saved:
    """Replace the configuration of an authority; what is known stays. ``version`` is the one that was seen.

    Needs ``validation.manage``. Raises NotFound, InvalidInput, StateConflict (``version-changed``,
    ``source-change-needs-reset``).
    """
    principal.require(Permission.VALIDATION_MANAGE)
    async with validation.database.transaction() as tx:
        found = await reading.load(tx, name, lock=True)
        _check_version(found, version)
        if _other_source(found, spec):
            raise StateConflict(
                f'What is known of "{name}" came from another source and cannot be kept.',
                code="source-change-needs-reset",
                remedy=f"Use: intaglio ocsp authority reset-source {name}",
            )
        warnings = await _checked(validation, tx, principal, spec, except_for=name)
        await _replace(validation, tx, found, spec)
        await _look_again(tx, found, spec)
        _note(tx, principal, "change", name, changed=_differences(found.spec, spec))
        return Saved(await reading.load(tx, spec.name), warnings)


async def reset_source(
    validation: Validation, principal: Principal, name: str, spec: AuthoritySpec, *, version: int | None = None
) -> Saved:
    """Give an authority another source, and forget what the one before said, in one step.

    Until the new source has been read completely once, answers are ``tryLater``. Needs ``validation.manage``. Raises
    NotFound, InvalidInput, StateConflict (``version-changed``).
    """
    principal.require(Permission.VALIDATION_MANAGE)
    async with validation.database.transaction() as tx:
        found = await reading.load(tx, name, lock=True)
        _check_version(found, version)
        warnings = await _checked(validation, tx, principal, spec, except_for=name)
        known = await tx.scalar(select(func.coalesce(func.sum(_S.c.entries), 0)).where(_S.c.set_id == found.set_id))
        await tx.execute(delete(_S).where(_S.c.authority_id == found.id))
        await tx.execute(delete(models.status_pull).where(models.status_pull.c.authority_id == found.id))
        await _replace(validation, tx, found, spec, set_id=new_id())
        _note(
            tx, principal, "reset-source", name, before=found.source, now=spec.source, entries_forgotten=int(known)
        )  # fmt: skip
        return Saved(await reading.load(tx, spec.name), warnings)


async def remove(validation: Validation, principal: Principal, name: str) -> Described:
    """Delete an authority and everything known of its certificates; returns what it was.

    Needs ``validation.manage``. Raises NotFound.
    """
    principal.require(Permission.VALIDATION_MANAGE)
    async with validation.database.transaction() as tx:
        found = await reading.load(tx, name, lock=True)
        state = (await freshness.states(tx, tx.now)).get(found.id)
        await tx.execute(delete(_A).where(_A.c.id == found.id))
        _note(tx, principal, "delete", name, source=found.source, entries=state.entries if state else 0)
        tx.changed_configuration()
        return Described(found, state)


async def _checked(
    validation: Validation, tx: Transaction, principal: Principal, spec: AuthoritySpec, *, except_for: str | None
) -> tuple[Problem, ...]:
    """The warnings. Raises InvalidInput (``status-authority-invalid``) with every error."""
    found = checks.problems(spec, await _surroundings(validation, tx, principal, except_for=except_for))
    wrong = checks.errors(found)
    if wrong:
        raise InvalidInput(
            wrong[0].message if len(wrong) == 1 else f"{len(wrong)} things are wrong. {wrong[0].message}",
            code="status-authority-invalid",
            remedy="Correct what is listed; intaglio ocsp authority validate lists it without saving.",
            target=wrong[0].target,
            fields=[(problem.target.replace(".", "/"), problem.message) for problem in wrong],
            extra={"problems": [problem.code for problem in wrong]},
        )
    return tuple(found)


async def _surroundings(
    validation: Validation, view: Transaction, principal: Principal, *, except_for: str | None
) -> Surroundings:
    others = [each for each in await reading.load_all(view) if each.name != except_for]
    d, c = models.status_directory, models.status_credential
    credentials = await view.all(select(c.c.id, c.c.not_after).where(c.c.deleted_at.is_(None)))
    return Surroundings(
        snapshot=await validation.authority.snapshot(),
        names={each.name for each in others},
        issuers={(i.subject.der, i.spki): each.name for each in others if each.enabled for i in each.issuers},
        directories={row["name"] for row in await view.all(select(d.c.name))},
        credentials={row["id"]: row["not_after"] for row in credentials},
        organizations={each.id: each.name for each in await visible_organizations(view, principal)},
        now=view.now,
    )


async def _replace(
    validation: Validation, tx: Transaction, found: Authority, spec: AuthoritySpec, *, set_id: UUID | None = None
) -> None:
    values = _row(spec, await _native_ca_id(validation, spec))
    if set_id is not None:
        values["set_id"] = set_id
    await tx.execute(
        update(_A).where(_A.c.id == found.id).values(
            name=spec.name, version=found.version + 1, changed_at=tx.now, **values
        )
    )  # fmt: skip
    await tx.execute(delete(_I).where(_I.c.authority_id == found.id))
    await _store_issuers(tx, found.id, spec)
    tx.changed_configuration()


async def _look_again(tx: Transaction, found: Authority, spec: AuthoritySpec) -> None:
    """Have CRLs fetched and verified anew under the changed configuration. What was signed with a key that is trusted
    no longer is not answered from until then."""
    if found.source != "crl":
        return
    values: dict[str, Any] = {"etag": None, "last_modified": None, "digest": None}
    before = {each.spki for each in (*found.issuers, *found.crl.signers)}
    if before - {each.spki for each in (*read_certificates(spec.issuers), *(spec.crl.signers if spec.crl else ()))}:
        values["complete"] = False
    await tx.execute(update(_S).where(_S.c.set_id == found.set_id).values(**values))


def _row(spec: AuthoritySpec, ca_id: UUID | None) -> dict[str, Any]:
    assert spec.options is not None
    return {
        "enabled": spec.enabled,
        "source": spec.source,
        "ca_id": ca_id,
        "profile": spec.profile,
        "options": spec.options.model_dump(mode="json"),
        "responder": spec.responder.model_dump(mode="json"),
    }


async def _native_ca_id(validation: Validation, spec: AuthoritySpec) -> UUID | None:
    ca = checks.native_ca(spec, await validation.authority.snapshot())
    return ca.id if ca else None


async def _store_issuers(tx: Transaction, authority_id: UUID, spec: AuthoritySpec) -> None:
    if spec.source == "native" or not spec.issuers:
        return
    found = {each.fingerprint: each for each in read_certificates(spec.issuers)}
    rows = [
        {
            "authority_id": authority_id,
            "position": position,
            "certificate": each.der,
            "spki_sha256": hashlib.sha256(each.spki).digest(),
            "not_after": each.not_after,
        }
        for position, each in enumerate(found.values())
    ]
    await tx.execute(insert(_I), rows)


def _other_source(found: Authority, spec: AuthoritySpec) -> bool:
    """Whether what is known could not come from the source that is now meant."""
    if found.source != spec.source or (spec.source == "native" and found.ca != spec.ca):
        return True
    if found.issuers and spec.issuers and found.issuers[0].subject != read_certificates(spec.issuers)[0].subject:
        return True
    if isinstance(found.options, GatewayOptions) and spec.gateway is not None:
        return (found.options.url, found.options.ca) != (spec.gateway.url, spec.gateway.ca)
    return False


def _check_version(found: Authority, version: int | None) -> None:
    if version is not None and version != found.version:
        raise StateConflict(
            f'"{found.name}" was changed meanwhile: it is at version {found.version}, not {version}.',
            code="version-changed",
            remedy="Look at it again, and repeat the change.",
        )


def _differences(before: AuthoritySpec, after: AuthoritySpec) -> list[str]:
    """The members that differ."""
    old, new = before.model_dump(mode="json"), after.model_dump(mode="json")
    return sorted(name for name in new if new[name] != old.get(name))


def _note(tx: Transaction, principal: Principal, verb: str, name: str, **facts: Any) -> None:
    record(tx, principal, f"status-authority.{verb}", "status-authority", name, **facts)


