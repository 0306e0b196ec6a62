"""Signers of status authorities in declarations. Their keys are made where they are applied."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Final
from uuid import UUID

from intaglio.core.errors import NotFound, Refused
from intaglio.core.principal import Permission, Principal
from intaglio.server.management.declarative.certificates import bundle, certificate_change
from intaglio.server.management.declarative.document import DeclaredOcspSigner, Document
from intaglio.server.management.declarative.steps import Step, changed_fields
from intaglio.validation.context import Validation
from intaglio.validation.signers import service
from intaglio.validation.signers.storage import subject_of
from intaglio.validation.signers.values import NewSigner, StoredSigner
from intaglio.x509.names import Name

_FIXED: Final = ("key_algorithm", "provider", "ca")


async def read_signers(validation: Validation, principal: Principal) -> list[DeclaredOcspSigner] | None:
    """Those in use, and those that wait for their first certificate; None for who may not see them."""
    if not principal.may(Permission.VALIDATION_VIEW):
        return None
    found: list[DeclaredOcspSigner] = []
    for each in (await _in_use(validation, principal)).values():
        with contextlib.suppress(NotFound):  # it was deleted, with its key, while this is being read
            found.append(await _declared(validation, each))
    return found


def signer_steps(wanted: Document, current: Document) -> Iterator[Step]:
    """Signers to create, and certificates to import. Raises Refused (``setting-frozen``) for what is said once."""
    known = {each.reference: each for each in current.ocsp_signers or ()}
    for signer in wanted.ocsp_signers or ():
        before = known.get(signer.reference)
        if before is None:
            yield Step("ocsp signer", "create", signer.reference, wanted=signer)
            continue
        fixed = [name for name in _FIXED if name in signer.model_fields_set and signer.kind != "ca"]
        if frozen := [change.name for change in changed_fields(signer, before, fixed)]:
            raise Refused(
                f"OCSP signer {signer.reference}: {', '.join(frozen)} cannot be changed.",
                code="setting-frozen",
                remedy="Declare another signer under another label, or delete this one first.",
                target=frozen[0],
                extra={"fields": frozen},
            )
        if (change := certificate_change(signer.certificate, before.certificate)) is not None:
            yield Step("ocsp signer", "change", signer.reference, wanted=signer, fields=(change,))


def gone_signers(wanted: Document, current: Document) -> Iterator[Step]:
    """Those that a complete section does not name."""
    if wanted.ocsp_signers is not None:
        kept = {each.reference for each in wanted.ocsp_signers}
        gone = [each.reference for each in current.ocsp_signers or () if each.reference not in kept]
        yield from (Step("ocsp signer", "delete", reference) for reference in gone)


async def put(validation: Validation, principal: Principal, step: Step) -> list[str]:
    """Make a signer, or import the certificate of one; returns what a person has still to do."""
    wanted: DeclaredOcspSigner = step.wanted
    if step.action == "change":
        found = (await _in_use(validation, principal, waiting_first=True))[step.name]
        saved = await service.import_certificate(validation, principal, found.id, wanted.certificate)
        return [f"OCSP signer {step.name}: {warning}" for warning in saved.warnings]
    made = await service.create(validation, principal, NewSigner(**wanted.model_dump(exclude={"certificate"})))
    if made.signer.certificate is not None:
        return []
    return [f"OCSP signer {step.name} waits for its certificate: intaglio ocsp signer csr {made.signer.id}."]


async def delete(validation: Validation, principal: Principal, step: Step) -> None:
    """Delete a signer, the one that was to replace it, and their keys."""
    for each in await service.listing(validation, principal):
        if _reference(each) == step.name:
            await service.delete_signer(validation, principal, each.id)


async def _in_use(
    validation: Validation, principal: Principal, *, waiting_first: bool = False
) -> dict[str, StoredSigner]:
    """One signer for each reference: that in use, or (``waiting_first``) the one that waits for its certificate."""
    found: dict[str, StoredSigner] = {}
    for each in await service.listing(validation, principal):
        waits = each.certificate is None
        preferred = waits if waiting_first else each.current
        if preferred or (_reference(each) not in found and (waits or each.current)):
            found[_reference(each)] = each
    return found


def _reference(signer: StoredSigner) -> str:
    return DeclaredOcspSigner.reference_of(signer.kind, signer.authority, signer.label)


async def _declared(validation: Validation, signer: StoredSigner) -> DeclaredOcspSigner:
    label = None if signer.label == signer.authority else signer.label
    if signer.kind == "ca":
        return DeclaredOcspSigner(kind="ca", authority=signer.authority, label=label)
    async with validation.database.read() as view:
        key = await validation.keystore.stored(view, signer.key_id)
    return DeclaredOcspSigner(
        kind=signer.kind,
        authority=signer.authority,
        label=label,
        key_algorithm=key.algorithm,
        provider=key.provider,
        subject=_subject(signer),
        ca=await _ca(validation, signer.issuing_ca_id),
        certificate="" if signer.issuing_ca_id else bundle(signer.certificate, signer.chain),
    )


async def _ca(validation: Validation, ca_id: UUID | None) -> str | None:
    if ca_id is None:
        return None
    found = (await validation.authority.current()).cas.get(ca_id)
    return None if found is None else found.full_id


def _subject(signer: StoredSigner) -> str:
    """The subject that was asked for; empty where it was made up."""
    asked = None if signer.request is None else subject_of(signer.request)
    if asked is None or asked.key == Name.build([("CN", str(signer.key_id))]).key:
        return ""
    return asked.rfc4514
