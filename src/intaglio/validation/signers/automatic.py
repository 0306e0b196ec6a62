"""Signers that one of our CAs certifies: a new key and certificate after two thirds of a life, with nobody asking."""

from __future__ import annotations

from intaglio.asn1.algorithms import load_public_key
from intaglio.authority import issuance, ocsp_signers
from intaglio.authority.directory import CaView, Snapshot
from intaglio.core.errors import StateConflict
from intaglio.core.identifiers import serial_hex
from intaglio.core.principal import Principal
from intaglio.db.engine import Transaction
from intaglio.profiles.engine import IssuanceInput
from intaglio.validation.context import Validation
from intaglio.validation.signers.storage import insert_signer, load_signer, note, put_certificate, successor_key
from intaglio.validation.signers.values import StoredSigner
from intaglio.x509.attribute_types import COMMON_NAME
from intaglio.x509.certificates import read_certificate
from intaglio.x509.names import AttributeValue, Name

_LONGEST_COMMON_NAME = 64


async def certify(
    validation: Validation,
    tx: Transaction,
    principal: Principal,
    signer: StoredSigner,
    ca: CaView,
    subject: Name | None,
) -> None:
    """Issue the certificate of a signer from one of our CAs, on the path that every certificate takes.

    Raises what issuing raises.
    """
    ca.require_active()
    key = await validation.keystore.load(tx, signer.key_id)
    request = IssuanceInput(
        subject=subject or _subject(ca, signer.label),
        spki=key.spki,
        key_algorithm=load_public_key(key.spki)[1],
        channel="platform",
        clamp_validity=True,
    )
    order = issuance.Order(ca, ocsp_signers.profile(), request)
    issued = await issuance.issue_in(validation.authority, tx, principal, order)
    certificate = read_certificate(issued.der)
    await put_certificate(tx, signer, certificate, [read_certificate(each) for each in ca.chain])
    facts = {"subject": certificate.subject.rfc4514, "serial": serial_hex(certificate.serial), "ca": ca.full_id}
    note(tx, principal, "certify", signer, **facts)


async def replace(
    validation: Validation, tx: Transaction, principal: Principal, signer: StoredSigner, snapshot: Snapshot
) -> StoredSigner:
    """A new key and certificate in place of those of a signer, under the same subject.

    Raises StateConflict (``ca-not-active``) when its CA is gone, and what issuing raises.
    """
    ca = snapshot.cas.get(signer.issuing_ca_id) if signer.issuing_ca_id is not None else None
    if ca is None:
        raise StateConflict(f'The CA that certifies OCSP signer "{signer.label}" is gone.', code="ca-not-active")
    key = await successor_key(validation.keystore, tx, principal, signer)
    subject = signer.certificate.subject if signer.certificate is not None else _subject(ca, signer.label)
    made = await insert_signer(
        tx, principal, signer.kind, signer.label, key, subject,
        authority_id=signer.authority_id, issuing_ca_id=signer.issuing_ca_id,
    )  # fmt: skip
    await certify(validation, tx, principal, made, ca, subject)
    return await load_signer(tx, made.id)


def _subject(ca: CaView, label: str) -> Name:
    """The name of the CA, with that of the signer as common name."""
    rdns: list[list[AttributeValue]] = [
        [(attribute.oid, attribute.raw) for attribute in rdn]
        for rdn in ca.certificate.subject.attributes
        if all(attribute.oid != COMMON_NAME for attribute in rdn)
    ]
    return Name.build([*rdns, ("CN", f"{label[: _LONGEST_COMMON_NAME - 5]} OCSP")])
