"""Timestamp issuers in declarations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final
from uuid import UUID

from intaglio.core.errors import Refused
from intaglio.core.principal import Permission, Principal
from intaglio.server.management.declarative.certificates import bundle, certificate_change
from intaglio.server.management.declarative.document import DeclaredTimestampIssuer, Document
from intaglio.server.management.declarative.steps import Step, changed_fields
from intaglio.timestamping import issuers
from intaglio.timestamping.context import Timestamps
from intaglio.timestamping.issuers import IssuerView, NewIssuer
from intaglio.timestamping.values import SignerOptions

_SIGNER: Final = tuple(SignerOptions.model_fields)
_FIXED: Final = ("ca", "share_with", *_SIGNER)


async def read_timestamp_issuers(timestamps: Timestamps, principal: Principal) -> list[DeclaredTimestampIssuer] | None:
    """All of them, those that others share a certificate with first; None for who may not see them."""
    if not principal.may(Permission.TIMESTAMPING_VIEW):
        return None
    found = sorted(await issuers.list_issuers(timestamps, principal), key=lambda each: each.record.created_at)
    owners: dict[UUID, str] = {}
    return [_declared(each, owners.setdefault(each.record.signer.id, each.record.name)) for each in found]


def timestamp_steps(wanted: Document, current: Document) -> Iterator[Step]:
    """Issuers to create and to change, in the order of the document: one may share the certificate of one before it.

    Raises Refused (``setting-frozen``) for what is said once, when an issuer is made.
    """
    known = {each.name: each for each in current.timestamp_issuers or ()}
    for issuer in wanted.timestamp_issuers or ():
        before = known.get(issuer.name)
        if before is None:
            yield Step("timestamp issuer", "create", issuer.name, wanted=issuer)
            continue
        if frozen := [change.name for change in changed_fields(issuer, before, _FIXED)]:
            raise Refused(
                f"timestamp issuer {issuer.name}: {', '.join(frozen)} cannot be changed.",
                code="setting-frozen",
                remedy="Declare another issuer, or delete this one first.",
                target=frozen[0],
                extra={"fields": frozen},
            )
            continue
        changes = changed_fields(issuer, before, ("enabled", "profile"))
        if (renewed := certificate_change(issuer.certificate, before.certificate)) is not None:
            changes = (*changes, renewed)
        if changes:
            yield Step("timestamp issuer", "change", issuer.name, wanted=issuer, fields=changes)


def gone_timestamp_issuers(wanted: Document, current: Document) -> Iterator[Step]:
    """Those that a complete section does not name."""
    if wanted.timestamp_issuers is not None:
        kept = {each.name for each in wanted.timestamp_issuers}
        gone = [each.name for each in current.timestamp_issuers or () if each.name not in kept]
        yield from (Step("timestamp issuer", "delete", name) for name in gone)


async def put(timestamps: Timestamps, principal: Principal, step: Step) -> list[str]:
    """Create or change an issuer; returns what a person has still to do."""
    wanted: DeclaredTimestampIssuer = step.wanted
    if step.action == "change":
        changed = {change.name for change in step.fields}
        if "certificate" in changed:
            await issuers.import_certificate(timestamps, principal, step.name, wanted.certificate)
        if changed - {"certificate"}:
            await issuers.change_issuer(
                timestamps, principal, step.name, profile=wanted.profile, enabled=wanted.enabled
            )
        return []
    signer = SignerOptions(**{name: getattr(wanted, name) for name in _SIGNER})
    wish = NewIssuer(
        name=wanted.name,
        profile=wanted.profile,
        ca=wanted.ca,
        share_with=wanted.share_with,
        signer=signer,
        enabled=wanted.enabled,
    )
    made = await issuers.create_issuer(timestamps, principal, wish)
    if made.certificate is not None:
        return []
    return [f"Timestamp issuer {step.name} waits for its certificate: intaglio tsa issuer csr {step.name}."]


async def delete(timestamps: Timestamps, principal: Principal, step: Step) -> None:
    """Delete an issuer."""
    await issuers.delete_issuer(timestamps, principal, step.name)


def _declared(found: IssuerView, owner: str) -> DeclaredTimestampIssuer:
    record = found.record
    signer: dict[str, Any] = {name: getattr(record.signer.options, name) for name in _SIGNER}
    if owner != record.name:
        signer = {name: field.default for name, field in SignerOptions.model_fields.items()}
    by_another_ca = found.ca is None and owner == record.name
    return DeclaredTimestampIssuer(
        name=record.name,
        enabled=record.enabled,
        profile=record.profile,
        ca=found.ca if owner == record.name else None,
        share_with=None if owner == record.name else owner,
        certificate=bundle(found.certificate, found.chain) if by_another_ca else "",
        **signer,
    )
