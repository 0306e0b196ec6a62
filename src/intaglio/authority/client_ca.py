"""The client CA of an organization: issues the certificates with which its users come to the gateway."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import insert

from intaglio.asn1.algorithms import KeyAlgorithm
from intaglio.audit import record as audit
from intaglio.authority import models
from intaglio.authority.cas.keys import add_certificate, add_key, make_current, self_signed
from intaglio.authority.directory import CaView, Snapshot
from intaglio.authority.options import CaOptions
from intaglio.core.clock import rfc3339
from intaglio.core.errors import NotFound
from intaglio.core.identifiers import new_id
from intaglio.core.principal import Principal
from intaglio.db.engine import Transaction
from intaglio.keystore.service import KeyStore
from intaglio.x509.names import Name

#: Id of the client CA; its kind, not its id, is what marks it.
CLIENT_CA_ID = "clients"


async def create_client_ca(
    keystore: KeyStore, tx: Transaction, principal: Principal, organization_id: UUID, organization: str
) -> None:
    """Give a new organization its client CA: P-256, self-signed, 20 years."""
    name = Name.build([("O", organization), ("CN", f"{organization} gateway clients")])
    await create_internal_ca(keystore, tx, principal, organization_id, organization, CLIENT_CA_ID, "client", name)


async def create_internal_ca(
    keystore: KeyStore,
    tx: Transaction,
    principal: Principal,
    organization_id: UUID,
    organization: str,
    ca_id: str,
    kind: str,
    subject: Name,
) -> UUID:
    """A self-signed P-256 CA that nobody configures. Returns its row key."""
    full_id, key, algorithm = f"{organization}~{ca_id}", new_id(), KeyAlgorithm.ECDSA_P256
    signer = await keystore.generate(tx, algorithm, f"ca:{full_id}", principal=principal)
    certificate = await self_signed(signer, full_id, subject, tx.now)
    await tx.execute(
        insert(models.ca).values(
            id=key,
            organization_id=organization_id,
            name=ca_id,
            kind=kind,
            state="creating",
            key_algorithm=algorithm.value,
            subject=subject.rfc4514,
            subject_der=subject.der,
            options=CaOptions().model_dump(mode="json"),
            created_by=principal.name,
            created_at=tx.now,
        )
    )
    await add_key(tx, key, 1, signer.spki, state="pending", key_id=signer.key_id)
    await add_certificate(tx, key, 1, certificate)
    await make_current(tx, key, 1, signer.spki)
    audit.record(
        tx, principal, "ca.create", "ca", full_id, organization=organization, kind=kind, subject=subject.rfc4514,
        fingerprint=certificate.fingerprint.hex(), not_after=rfc3339(certificate.not_after),
    )  # fmt: skip
    return key


def client_ca_of(snapshot: Snapshot, organization_id: UUID) -> CaView:
    """The client CA of an organization. Raises NotFound."""
    for ca in snapshot.cas.values():
        if ca.organization_id == organization_id and ca.kind == "client" and ca.state != "deleted":
            return ca
    raise NotFound("This organization has no client CA.", code="client-ca-missing")
