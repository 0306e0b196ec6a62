"""Signers of status authorities: made, certified, listed, renewed and deleted.

A signer that is to be replaced goes on signing: its successor is another row, and takes over when it has a certificate
that is valid already.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import delete, update

from intaglio.authority.access import require_ca
from intaglio.authority.directory import CaView, Snapshot
from intaglio.core.errors import InvalidInput, StateConflict
from intaglio.core.identifiers import serial_hex
from intaglio.core.principal import Permission, Principal
from intaglio.db.engine import Transaction
from intaglio.validation import models
from intaglio.validation.authorities import reading
from intaglio.validation.authorities.values import Authority
from intaglio.validation.context import Validation
from intaglio.validation.signers import automatic
from intaglio.validation.signers.checks import require_fit
from intaglio.validation.signers.storage import (
    insert_ca_key,
    insert_signer,
    load_signer,
    load_signers,
    note,
    put_certificate,
    same_as,
    signed_request,
    subject_of,
    successor_key,
)
from intaglio.validation.signers.values import MOST_IN_CHAIN, NewSigner, StoredSigner
from intaglio.x509.certificates import CertificateInfo, read_certificates
from intaglio.x509.names import Name

_S = models.status_signer
_MOST = 10_000


@dataclass(frozen=True)
class Saved:
    """A signer as it is now, and what is worth a warning."""

    signer: StoredSigner
    warnings: tuple[str, ...] = ()


async def listing(validation: Validation, principal: Principal) -> list[StoredSigner]:
    """All signers, replaced ones included. Needs ``validation.view``."""
    principal.require(Permission.VALIDATION_VIEW)
    async with validation.database.read() as view:
        return await load_signers(view)


async def get(validation: Validation, principal: Principal, signer_id: UUID) -> StoredSigner:
    """One signer. Needs ``validation.view``. Raises NotFound (``ocsp-signer-unknown``)."""
    principal.require(Permission.VALIDATION_VIEW)
    async with validation.database.read() as view:
        return await load_signer(view, signer_id)


async def create(validation: Validation, principal: Principal, wish: NewSigner) -> Saved:
    """Make a signer: with a request to be signed by another CA, or certified at once by one of ours.

    Needs ``validation.manage``, and ``ca.operate`` for a CA of ours that certifies it or is it. Raises NotFound for the
    authority or CA, InvalidInput, StateConflict, NotSupported (unknown provider), and what issuing raises.
    """
    principal.require(Permission.VALIDATION_MANAGE)
    snapshot = await validation.authority.current()
    async with validation.database.transaction() as tx:
        if len(await load_signers(tx)) >= _MOST:
            raise StateConflict(f"There are at most {_MOST} OCSP signers.", code="too-many")
        authority = None if wish.authority is None else await reading.load(tx, wish.authority)
        label = wish.label or wish.authority or ""
        if authority is not None and wish.kind == "ca":
            ca, key_id = _our_ca(authority, snapshot)
            await require_ca(tx, snapshot, principal, ca.full_id, Permission.CA_OPERATE)
            return Saved(await insert_ca_key(tx, principal, label, ca, key_id, authority_id=authority.id))
        issuing = None
        if wish.ca is not None:
            issuing = await require_ca(tx, snapshot, principal, wish.ca, Permission.CA_OPERATE)
        key = await validation.keystore.generate(
            tx, wish.key_algorithm, f"ocsp:{label}", provider=wish.provider, principal=principal
        )
        subject = Name.parse(wish.subject) if wish.subject else Name.build([("CN", str(key.key_id))])
        signer = await insert_signer(
            tx, principal, wish.kind, label, key, subject,
            authority_id=authority.id if authority else None, issuing_ca_id=issuing.id if issuing else None,
        )  # fmt: skip
        if issuing is None:
            return Saved(signer)
        await automatic.certify(validation, tx, principal, signer, issuing, subject if wish.subject else None)
        return Saved(await load_signer(tx, signer.id))


async def import_certificate(
    validation: Validation, principal: Principal, signer_id: UUID, data: bytes | str
) -> Saved:
    """Take the certificate that a CA made of a signer's request, with the CA certificates above it in any order.

    Needs ``validation.manage``. Raises NotFound, InvalidInput (``certificate-unparsable``), Refused
    (:func:`~intaglio.validation.signers.checks.require_fit`), StateConflict (``ocsp-signer-automatic``).
    """
    principal.require(Permission.VALIDATION_MANAGE)
    found = read_certificates(data)
    async with validation.database.transaction() as tx:
        signer = await load_signer(tx, signer_id, lock=True)
        if signer.kind == "ca" or signer.issuing_ca_id is not None:
            raise StateConflict(
                "The certificate of this signer is not imported.",
                code="ocsp-signer-automatic",
                remedy="Make a delegated or shared signer.",
            )
        key = await validation.keystore.load(tx, signer.key_id)
        certificate = next((each for each in found if each.spki == key.spki), found[0])
        chain = [each for each in found if each.der != certificate.der][:MOST_IN_CHAIN]
        issuers = await _issuers(validation, tx, signer)
        warnings = require_fit(certificate, key.spki, issuers, tx.now, shared=signer.kind == "shared")
        await put_certificate(tx, signer, certificate, chain)
        facts = {"subject": certificate.subject.rfc4514, "serial": serial_hex(certificate.serial)}
        note(tx, principal, "certify", signer, **facts)
        return Saved(await load_signer(tx, signer_id), tuple(warnings))


async def renew(validation: Validation, principal: Principal, signer_id: UUID) -> Saved:
    """Begin the replacement of a signer, which goes on signing meanwhile: by a new key and its certificate when one of
    our CAs certifies it, else by a new key and the request for it. A replacement that waits for its certificate is
    returned as it is.

    Needs ``validation.manage``. Raises NotFound, StateConflict (``ocsp-signer-automatic`` for the key of a CA), and
    what issuing raises.
    """
    principal.require(Permission.VALIDATION_MANAGE)
    snapshot = await validation.authority.current()
    async with validation.database.transaction() as tx:
        signer = await load_signer(tx, signer_id, lock=True)
        if signer.kind == "ca":
            raise StateConflict(
                "This signer is the key of a CA.", code="ocsp-signer-automatic", remedy="Re-key or renew the CA."
            )
        if signer.issuing_ca_id is not None:
            return Saved(await automatic.replace(validation, tx, principal, signer, snapshot))
        waiting = await load_signers(tx, same_as(signer), _S.c.certificate.is_(None))
        if waiting:
            return Saved(waiting[0])
        key = await successor_key(validation.keystore, tx, principal, signer)
        subject = signer.certificate.subject if signer.certificate else Name.build([("CN", str(key.key_id))])
        made = await insert_signer(
            tx, principal, signer.kind, signer.label, key, subject, authority_id=signer.authority_id, issuing_ca_id=None
        )
        return Saved(made)


async def remake_request(validation: Validation, principal: Principal, signer_id: UUID, subject: str) -> StoredSigner:
    """Make the request of a signer anew over the same key, with another subject (empty: the one it has).

    Needs ``validation.manage``. Raises NotFound, InvalidInput, StateConflict (``ocsp-signer-automatic``).
    """
    principal.require(Permission.VALIDATION_MANAGE)
    async with validation.database.transaction() as tx:
        signer = await load_signer(tx, signer_id, lock=True)
        if signer.request is None:
            raise StateConflict(
                "This signer has no request.", code="ocsp-signer-automatic", remedy="Make a delegated or shared signer."
            )
        key = await validation.keystore.load(tx, signer.key_id)
        wanted = Name.parse(subject) if subject else subject_of(signer.request)
        await tx.execute(update(_S).where(_S.c.id == signer_id).values(request=await signed_request(key, wanted)))
        note(tx, principal, "request", signer, subject=wanted.rfc4514)
        return await load_signer(tx, signer_id)


async def delete_signer(validation: Validation, principal: Principal, signer_id: UUID) -> None:
    """Delete a signer and destroy its key (that of a CA stays). Needs ``validation.manage``. Raises NotFound."""
    principal.require(Permission.VALIDATION_MANAGE)
    async with validation.database.transaction() as tx:
        signer = await load_signer(tx, signer_id, lock=True)
        await tx.execute(delete(_S).where(_S.c.id == signer_id))
        if signer.kind != "ca":
            await validation.keystore.destroy(tx, signer.key_id, principal=principal)
        note(tx, principal, "delete", signer)
        tx.changed_configuration()


# ---- steps -----------------------------------------------------------------------------------------------------------


def _our_ca(authority: Authority, snapshot: Snapshot) -> tuple[CaView, UUID]:
    """The CA of a native authority and its key."""
    ca = snapshot.cas.get(authority.ca_id) if authority.ca_id is not None else None
    if ca is None or ca.state != "active" or ca.key.key_id is None:
        raise InvalidInput(
            f'Status authority "{authority.name}" is not one of our CAs with a key here.',
            code="ocsp-signer-not-our-ca",
            remedy="Make a delegated signer.",
            target="kind",
        )
    return ca, ca.key.key_id


async def _issuers(validation: Validation, view: Transaction, signer: StoredSigner) -> Sequence[CertificateInfo]:
    """The CA certificates that a delegated signer's must be issued under."""
    if signer.authority is None:
        return ()
    authority = await reading.load(view, signer.authority)
    if authority.ca_id is None:
        return authority.issuers
    ca = (await validation.authority.snapshot()).cas[authority.ca_id]
    return [key.certificate for key in ca.keys.values() if key.certificate is not None]
