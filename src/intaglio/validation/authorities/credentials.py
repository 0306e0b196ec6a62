"""Client credentials for gateways whose certificate events are read: imported, listed, deleted, loaded.

The private keys are in the keystore and never come out of it but into a TLS context.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from pydantic import SecretStr
from sqlalchemy import insert, select, update

from intaglio.asn1 import der
from intaglio.asn1.algorithms import spki
from intaglio.audit.record import record
from intaglio.core.errors import InvalidInput, NotFound, Refused, StateConflict
from intaglio.core.identifiers import new_id
from intaglio.core.principal import Permission, Principal
from intaglio.db.engine import Row, Transaction
from intaglio.keystore.service import KeyStore
from intaglio.transport.contexts import ServerIdentity
from intaglio.validation import models
from intaglio.validation.context import Validation
from intaglio.x509 import extensions as ext
from intaglio.x509.certificates import CertificateInfo, pem, read_certificate
from intaglio.x509.pkcs12 import decode_pkcs12

_C = models.status_credential
_MOST = 1_000


@dataclass(frozen=True)
class Credential:
    """A client credential; ``latest`` marks the one that is used where none is named, ``est`` is the server (URL and
    anchors) that one came from by EST."""


    id: UUID
    private_key_id: UUID
    origin: str
    certificate: bytes = field(repr=False)
    chain: tuple[bytes, ...] = field(repr=False)
    subject: str
    serial: bytes
    not_before: datetime
    not_after: datetime
    issuing_ca_id: UUID | None
    replaces: UUID | None
    est: Mapping[str, str]
    created_by: str
    created_at: datetime
    latest: bool = False

    @property
    def renews_itself(self) -> bool:
        """Whether it has a successor in time."""
        return self.issuing_ca_id is not None or bool(self.est)


async def listing(validation: Validation, principal: Principal) -> list[Credential]:
    """All credentials, the latest first. Needs ``validation.view``."""
    principal.require(Permission.VALIDATION_VIEW)
    async with validation.database.read() as view:
        return await load_all(view)


async def import_pkcs12(
    validation: Validation, principal: Principal, data: bytes, password: SecretStr
) -> Credential:
    """Keep the key and the one client certificate of a PKCS #12 file. Needs ``validation.manage``.

    Raises InvalidInput (``pkcs12-unreadable``, ``pkcs12-without-key``, ``pkcs12-several-certificates``,
    ``key-mismatch``, ``key-algorithm-not-allowed``), Refused (``credential-expired``, ``not-a-client-certificate``),
    StateConflict (``already-exists``, ``too-many``).
    """
    principal.require(Permission.VALIDATION_MANAGE)
    content = await asyncio.to_thread(decode_pkcs12, data, password.get_secret_value())  # it may take a while
    if content.private_key is None or content.certificate_der is None:
        raise InvalidInput(
            "The PKCS #12 file has no certificate with its private key.",
            code="pkcs12-without-key",
            remedy="Export it again, with the private key.",
        )
    certificate = read_certificate(content.certificate_der)
    others = [read_certificate(each) for each in content.chain_ders]
    _check(certificate, others, spki(content.private_key.public_key()))
    async with validation.database.transaction() as tx:
        if any(each.certificate == certificate.der for each in await require_room(tx)):
            raise StateConflict("This credential has been imported already.", code="already-exists")
        if certificate.not_after <= tx.now:
            raise Refused(f"The certificate expired on {certificate.not_after:%Y-%m-%d}.", code="credential-expired")
        label = f"status-credential:{certificate.subject.rfc4514}"[:200]
        signer = await validation.keystore.adopt(tx, content.private_key, label, principal=principal)
        chain = chain_of(certificate, others)
        return await store(tx, principal, signer.key_id, certificate, chain, origin="pkcs12")


async def require_room(view: Transaction) -> list[Credential]:
    """All credentials, the latest first. Raises StateConflict (``too-many``) when there must not be one more."""
    known = await load_all(view)
    if len(known) >= _MOST:
        raise StateConflict(f"There are at most {_MOST} credentials.", code="too-many", remedy="Delete old ones.")
    return known


async def remove(validation: Validation, principal: Principal, credential_id: UUID) -> None:
    """Delete a credential and destroy its key. Needs ``validation.manage``.

    Raises NotFound, StateConflict (``credential-in-use``).
    """
    principal.require(Permission.VALIDATION_MANAGE)
    async with validation.database.transaction() as tx:
        found = await load_one(tx, credential_id)
        a = models.status_authority.c
        users = await tx.all(select(a.name).where(a.options["credential"].astext == str(credential_id)).limit(10))
        if users:
            names = ", ".join(row["name"] for row in users)
            raise StateConflict(f"The credential is used by {names}.", code="credential-in-use")
        await forget(validation, tx, principal, found)


async def forget(validation: Validation, tx: Transaction, principal: Principal, found: Credential) -> None:
    """Delete a credential and destroy its key."""
    await tx.execute(update(_C).where(_C.c.id == found.id).values(deleted_at=tx.now))
    await validation.keystore.destroy(tx, found.private_key_id, principal=principal)
    _note(tx, principal, "delete", found)


async def store(
    tx: Transaction,
    principal: Principal,
    key_id: UUID,
    certificate: CertificateInfo,
    chain: Sequence[bytes],
    *,
    origin: str,
    issuing_ca_id: UUID | None = None,
    replaces: UUID | None = None,
    est: Mapping[str, str] | None = None,
) -> Credential:
    """Keep a certificate whose key is in the keystore; it is the latest from now on."""
    credential_id = new_id()
    await tx.execute(
        insert(_C).values(
            id=credential_id,
            private_key_id=key_id,
            origin=origin,
            certificate=certificate.der,
            chain=b"".join(chain),
            subject=certificate.subject.rfc4514,
            serial=certificate.serial,
            not_before=certificate.not_before,
            not_after=certificate.not_after,
            issuing_ca_id=issuing_ca_id,
            replaces=replaces,
            est=dict(est or {}),
            created_by=principal.name,
            created_at=tx.now,
        )
    )
    made = await load_one(tx, credential_id)
    _note(tx, principal, {"pkcs12": "import", "est": "enroll"}.get(origin, "issue"), made)
    return made


async def identity_for(view: Transaction, keystore: KeyStore, credential_id: UUID | None) -> ServerIdentity:
    """The credential with this id, or its successor, or without an id the latest one, for a TLS context.

    Raises NotFound (``credential-unknown``, ``credential-missing``), Refused (``credential-expired``).
    """
    if credential_id is not None:
        found = await load_one(view, credential_id)
        successors = {each.replaces: each for each in await load_all(view)}
        while found.id in successors:
            found = successors[found.id]
    else:
        known = await load_all(view)
        if not known:
            raise NotFound(
                "There is no client credential for gateways.",
                code="credential-missing",
                remedy="Import one with: intaglio ocsp credential import FILE.p12",
            )
        found = known[0]
    if found.not_after <= view.now:
        raise Refused(
            f"The client credential {found.subject} expired on {found.not_after:%Y-%m-%d}.",
            code="credential-expired",
            remedy="Import a new one with: intaglio ocsp credential import FILE.p12",
        )
    signer = await keystore.load(view, found.private_key_id)
    key = signer.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return ServerIdentity("".join(map(pem, (found.certificate, *found.chain))).encode(), key)


def _check(certificate: CertificateInfo, others: Sequence[CertificateInfo], key: bytes) -> None:
    clients = [each for each in others if not each.is_ca and each.der != certificate.der]
    if clients:
        raise InvalidInput(
            f"The PKCS #12 file has {1 + len(clients)} client certificates; exactly one is expected.",
            code="pkcs12-several-certificates",
            remedy="Export each into a file of its own.",
        )
    if certificate.spki != key:
        raise InvalidInput("The private key does not belong to the certificate.", code="key-mismatch")
    require_client(certificate)


def require_client(certificate: CertificateInfo) -> None:
    """Raise Refused (``not-a-client-certificate``) for a certificate that TLS clients do not show."""
    if certificate.is_ca or (certificate.eku is not None and not {ext.CLIENT_AUTH} & set(certificate.eku)):
        raise Refused(
            "The certificate is not one of a TLS client.",
            code="not-a-client-certificate",
            remedy="Use one with the extended key usage clientAuth.",
        )


def chain_of(certificate: CertificateInfo, others: Sequence[CertificateInfo]) -> list[bytes]:
    """The issuers of a certificate among others, in their order, without the root."""
    issuing = {each.subject.key: each for each in others if each.is_ca and not each.is_self_issued}
    chain: list[bytes] = []
    above = issuing.get(certificate.issuer.key)
    while above is not None and above.der not in chain:
        chain.append(above.der)
        above = issuing.get(above.issuer.key)
    return chain


def _note(tx: Transaction, principal: Principal, verb: str, found: Credential) -> None:
    record(tx, principal, f"status-credential.{verb}", "status-credential", str(found.id), subject=found.subject)


async def load_all(view: Transaction) -> list[Credential]:
    """All credentials, the latest first."""
    query = select(_C).where(_C.c.deleted_at.is_(None)).order_by(_C.c.created_at.desc(), _C.c.id.desc())
    rows = await view.all(query)
    return [_credential(row, latest=position == 0) for position, row in enumerate(rows)]


async def load_one(view: Transaction, credential_id: UUID) -> Credential:
    """One credential. Raises NotFound (``credential-unknown``)."""
    found = next((each for each in await load_all(view) if each.id == credential_id), None)
    if found is None:
        raise NotFound(f"There is no client credential {credential_id}.", code="credential-unknown")
    return found


def _credential(row: Row, *, latest: bool) -> Credential:
    names = ("id", "private_key_id", "origin", "certificate", "subject", "serial", "not_before", "not_after")
    chain = tuple(each.der for each in der.children(row["chain"], 20))
    values = {name: row[name] for name in (*names, "issuing_ca_id", "replaces", "est", "created_by", "created_at")}
    return Credential(**values, chain=chain, latest=latest)
