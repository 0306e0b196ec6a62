"""Reading and writing the table of signers, and the requests made over their keys."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, insert, select, update

from intaglio.asn1 import der
from intaglio.audit.record import record
from intaglio.authority import models as authority_models
from intaglio.authority.directory import CaView
from intaglio.core.errors import NotFound
from intaglio.core.identifiers import new_id
from intaglio.core.principal import Principal
from intaglio.db.engine import Transaction
from intaglio.keystore.models import private_key
from intaglio.keystore.service import KeyStore, Signer
from intaglio.validation import models
from intaglio.validation.signers.values import SignerKind, StoredSigner
from intaglio.x509 import extensions as ext
from intaglio.x509.certificates import CertificateInfo
from intaglio.x509.names import Name

_S, _A = models.status_signer, models.status_authority
_EXTENSION_REQUEST = "1.2.840.113549.1.9.14"


async def load_signers(view: Transaction, *conditions: ColumnElement[bool], lock: bool = False) -> list[StoredSigner]:
    """Signers with the names of their authorities, oldest first."""
    joined = _S.outerjoin(_A, _A.c.id == _S.c.authority_id)
    query = select(_S, _A.c.name.label("authority_name")).select_from(joined).where(*conditions)
    query = query.order_by(_S.c.created_at, _S.c.id)
    rows = await view.all(query.with_for_update(of=_S) if lock else query)
    return [StoredSigner.of(row, row["authority_name"]) for row in rows]


async def load_signer(view: Transaction, signer_id: UUID, *, lock: bool = False) -> StoredSigner:
    """One signer. Raises NotFound (``ocsp-signer-unknown``)."""
    found = await load_signers(view, _S.c.id == signer_id, lock=lock)
    if not found:
        raise NotFound(
            f"There is no OCSP signer {signer_id}.",
            code="ocsp-signer-unknown",
            remedy="List them with: intaglio ocsp signer list",
        )
    return found[0]


def same_as(signer: StoredSigner) -> ColumnElement[bool]:
    """Signers that stand in for each other: of one authority (or shared), kind and name."""
    authority = _S.c.authority_id
    whose = authority.is_(None) if signer.authority_id is None else authority == signer.authority_id
    return whose & (_S.c.label == signer.label) & (_S.c.kind == signer.kind)


async def insert_signer(
    tx: Transaction,
    principal: Principal,
    kind: SignerKind,
    label: str,
    key: Signer,
    subject: Name,
    *,
    authority_id: UUID | None,
    issuing_ca_id: UUID | None,
) -> StoredSigner:
    """A signer that waits for its certificate, with a request for it."""
    signer_id = new_id()
    await tx.execute(
        insert(_S).values(
            id=signer_id, authority_id=authority_id, kind=kind, label=label, key_id=key.key_id,
            request=await signed_request(key, subject), issuing_ca_id=issuing_ca_id, created_by=principal.name,
            created_at=tx.now,
        )
    )  # fmt: skip
    made = await load_signer(tx, signer_id)
    note(tx, principal, "create", made, kind=kind, key=str(key.key_id), subject=subject.rfc4514)
    return made


async def insert_ca_key(
    tx: Transaction, principal: Principal, label: str, ca: CaView, key_id: UUID, *, authority_id: UUID
) -> StoredSigner:
    """A signer that is one of our CAs itself, whatever key it has."""
    signer_id, certificate = new_id(), ca.certificate
    await tx.execute(
        insert(_S).values(
            id=signer_id, authority_id=authority_id, kind="ca", label=label, key_id=key_id,
            certificate=certificate.der, not_before=certificate.not_before, not_after=certificate.not_after,
            current=True, created_by=principal.name, created_at=tx.now,
        )
    )  # fmt: skip
    made = await load_signer(tx, signer_id)
    note(tx, principal, "create", made, kind="ca")
    tx.changed_configuration()
    return made


async def put_certificate(
    tx: Transaction, signer: StoredSigner, certificate: CertificateInfo, chain: Sequence[CertificateInfo]
) -> None:
    """Give a signer its certificate; it takes the place of those it stands in for."""
    await tx.execute(update(_S).where(same_as(signer)).values(current=False))
    values = {
        "certificate": certificate.der,
        "chain": b"".join(each.der for each in chain) or None,
        "not_before": certificate.not_before,
        "not_after": certificate.not_after,
        "current": True,
    }
    await tx.execute(update(_S).where(_S.c.id == signer.id).values(**values))
    tx.changed_configuration()


async def successor_key(keystore: KeyStore, tx: Transaction, principal: Principal, signer: StoredSigner) -> Signer:
    """A new key of the same kind, in the same place, as that of a signer."""
    former = await keystore.load(tx, signer.key_id)
    provider = await tx.scalar(select(private_key.c.provider).where(private_key.c.id == signer.key_id))
    label = f"ocsp:{signer.label}"
    return await keystore.generate(tx, former.algorithm, label, provider=provider, principal=principal)


async def replaced_before(view: Transaction, moment: datetime) -> list[StoredSigner]:
    """Signers that nobody needs any more: replaced, and their certificates ended before ``moment``."""
    c = _S.c
    return await load_signers(view, c.current.is_(False), c.not_after < moment, c.kind != "ca", lock=True)


async def issued_here(view: Transaction, certificates: Sequence[CertificateInfo]) -> dict[bytes, tuple[UUID, bool]]:
    """Of the certificates that our CAs issued, by their DER: which CA, and whether it is neither revoked nor held."""
    c = authority_models.certificate.c
    keys = {hashlib.sha256(each.spki).digest() for each in certificates}
    rows = await view.all(select(c.der, c.ca_id, c.status).where(c.spki_sha256.in_(keys))) if keys else ()
    return {bytes(row["der"]): (row["ca_id"], row["status"] == "valid") for row in rows}


def note(tx: Transaction, principal: Principal, what: str, signer: StoredSigner, **facts: Any) -> None:
    """The audit record of a change of a signer."""
    facts |= {"id": str(signer.id)} | ({"authority": signer.authority} if signer.authority else {})
    record(tx, principal, f"ocsp-signer.{what}", "ocsp-signer", signer.label, **facts)


async def signed_request(key: Signer, subject: Name) -> bytes:
    """A PKCS #10 request for what the certificate has to say. Source: RFC 2986 section 4, RFC 2985 section 5.4.2."""
    wanted = der.sequence(
        ext.extension(ext.KEY_USAGE, True, ext.key_usage(("digitalSignature",))),
        ext.extension(ext.EXTENDED_KEY_USAGE, False, ext.extended_key_usage((ext.OCSP_SIGNING,))),
        ext.extension(ext.OCSP_NO_CHECK, False, ext.ocsp_no_check()),
    )
    attributes = der.explicit(0, der.sequence(der.oid(_EXTENSION_REQUEST), der.set_of(wanted)))
    info = der.sequence(der.integer(0), subject.der, key.spki, attributes)
    return der.sequence(info, key.algorithm.signature_identifier, der.bit_string(await key.sign(info)))


def subject_of(request: bytes) -> Name:
    """The subject that a request asks for."""
    info = der.children(der.read_tlv(request, der.SEQUENCE).content)[0]
    return Name.from_der(der.children(info.content)[1].der)
