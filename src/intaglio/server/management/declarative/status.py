"""Status authorities and the directories they read from, in declarations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from intaglio.core.principal import Permission, Principal
from intaglio.server.management.declarative.document import DeclaredDirectory, DeclaredStatusAuthority, Document
from intaglio.server.management.declarative.steps import Step, changed_fields
from intaglio.validation.authorities import directories, service
from intaglio.validation.authorities.directories import DirectorySpec
from intaglio.validation.authorities.values import AuthoritySpec
from intaglio.validation.context import Validation

_OF_AUTHORITIES = ("enabled", "source", "ca", "profile", "issuers", "gateway", "crl", "responder")
_OF_DIRECTORIES = ("url", "start_tls", "server_ca", "user_name")


async def read_directories(validation: Validation, principal: Principal) -> list[DeclaredDirectory] | None:
    """All of them, without their passwords; None for who may not see them."""
    if not principal.may(Permission.VALIDATION_VIEW):
        return None
    found = await directories.listing(validation, principal)
    return [DeclaredDirectory(name=each.name, **{n: getattr(each, n) for n in _OF_DIRECTORIES}) for each in found]


async def read_authorities(validation: Validation, principal: Principal) -> list[DeclaredStatusAuthority] | None:
    """All of them; None for who may not see them."""
    if not principal.may(Permission.VALIDATION_VIEW):
        return None
    found = await service.listing(validation, principal)
    return [_declared(each.authority.spec) for each in found]


def status_steps(wanted: Document, current: Document) -> Iterator[Step]:
    """Directories, then authorities, to create and to change."""
    known = {each.name: each for each in current.status_directories or ()}
    for directory in wanted.status_directories or ():
        before = known.get(directory.name)
        if before is None:
            yield Step("status directory", "create", directory.name, wanted=directory)
        elif changes := changed_fields(directory, before, _OF_DIRECTORIES):
            yield Step("status directory", "change", directory.name, wanted=directory, fields=changes)
    authorities = {each.name: each for each in current.status_authorities or ()}
    for authority in wanted.status_authorities or ():
        present = authorities.get(authority.name)
        if present is None:
            yield Step("status authority", "create", authority.name, wanted=authority)
        elif changes := changed_fields(authority, present, _OF_AUTHORITIES):
            yield Step("status authority", "change", authority.name, wanted=authority, fields=changes)


def gone_status(wanted: Document, current: Document) -> Iterator[Step]:
    """Those that a complete section does not name: authorities first, they use directories."""
    if wanted.status_authorities is not None:
        kept = {each.name for each in wanted.status_authorities}
        gone = [each.name for each in current.status_authorities or () if each.name not in kept]
        yield from (Step("status authority", "delete", name) for name in gone)
    if wanted.status_directories is not None:
        kept = {each.name for each in wanted.status_directories}
        gone = [each.name for each in current.status_directories or () if each.name not in kept]
        yield from (Step("status directory", "delete", name) for name in gone)


async def put(validation: Validation, principal: Principal, step: Step) -> list[str]:
    """Create or change a directory or an authority; returns what a person should know."""
    if step.section == "status directory":
        await directories.save(validation, principal, DirectorySpec(**step.wanted.model_dump()))
        logs_in = step.action == "create" and step.wanted.user_name
        return [f"Directory {step.name} gets its password from `intaglio ocsp directory set`."] if logs_in else []
    spec = AuthoritySpec.model_validate(step.wanted.model_dump())
    if step.action == "create":
        saved = await service.create(validation, principal, spec)
    else:
        saved = await service.change(validation, principal, step.name, spec)
    return [f"Status authority {step.name}: {each.message}" for each in saved.warnings]


async def delete(validation: Validation, principal: Principal, step: Step) -> None:
    """Delete a directory or an authority, with what is known of its certificates."""
    if step.section == "status directory":
        await directories.remove(validation, principal, step.name)
    else:
        await service.remove(validation, principal, step.name)


def _declared(spec: AuthoritySpec) -> DeclaredStatusAuthority:
    values: dict[str, Any] = {name: getattr(spec, name) for name in AuthoritySpec.model_fields}
    return DeclaredStatusAuthority(**values)
