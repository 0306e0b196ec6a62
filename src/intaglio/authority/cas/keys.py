"""Keys and certificates of a CA as rows, and the certificate a root signs for itself."""

from __future__ import annotations

import hashlib
from datetime import datetime
from uuid import UUID

from sqlalchemy import case, insert, update

from intaglio.asn1 import der
from intaglio.asn1.algorithms import key_identifier, load_public_key
from intaglio.authority import internal_profiles, models
from intaglio.authority.configuration import ConfigurationChange
from intaglio.authority.directory import CaView
from intaglio.authority.issuance import Order, issue_in
from intaglio.authority.options import CaConstraints
from intaglio.core.identifiers import new_id, new_serial_number
from intaglio.core.principal import Principal
from intaglio.db.engine import Transaction
from intaglio.keystore.service import Signer
from intaglio.profiles import vocabulary
from intaglio.profiles.engine import IssuanceInput, Issuer, RequestedValidity, compile_profile
from intaglio.x509 import extensions as x509
from intaglio.x509.certificates import CertificateInfo, read_certificate
from intaglio.x509.extensions import Extension
from intaglio.x509.names import Name

_EMAIL, _DNS, _URI, _IP = 0x81, 0x82, 0x86, 0x87  # tags of general names (RFC 5280 section 4.2.1.6)


async def add_key(
    tx: Transaction,
    ca_id: UUID,
    generation: int,
    spki: bytes,
    *,
    state: str,
    key_id: UUID | None,
    identifier: bytes | None = None,
) -> None:
    """Record a key of a CA: ``state`` pending or current; ``key_id`` in the keystore (None: the key is elsewhere).

    ``identifier`` is the subject key identifier of its certificate where it already has one, however that was made.
    """
    public_key = subject_public_key(spki)
    await tx.execute(
        insert(models.ca_key).values(
            ca_id=ca_id,
            generation=generation,
            key_id=key_id,
            spki=spki,
            key_identifier=identifier or key_identifier(spki),
            issuer_key_sha1=hashlib.sha1(public_key, usedforsecurity=False).digest(),
            issuer_key_sha256=hashlib.sha256(public_key).digest(),
            state=state,
            created_at=tx.now,
        )
    )


async def add_certificate(tx: Transaction, ca_id: UUID, generation: int, certificate: CertificateInfo) -> None:
    """Record a certificate of a CA's key and make it the current one of that key.

    The subject key identifier in it is what certificates issued from now on refer to.
    """
    c, k = models.ca_certificate.c, models.ca_key.c
    older = update(models.ca_certificate).where(c.ca_id == ca_id, c.generation == generation, c.current)
    await tx.execute(older.values(current=False))
    await tx.execute(
        insert(models.ca_certificate).values(
            id=new_id(),
            ca_id=ca_id,
            generation=generation,
            serial=certificate.serial,
            der=certificate.der,
            fingerprint=certificate.fingerprint,
            not_before=certificate.not_before,
            not_after=certificate.not_after,
            current=True,
            created_at=tx.now,
        )
    )
    if certificate.ski is not None:
        key = update(models.ca_key).where(k.ca_id == ca_id, k.generation == generation)
        await tx.execute(key.values(key_identifier=certificate.ski))


async def make_current(tx: Transaction, ca_id: UUID, generation: int, spki: bytes) -> None:
    """Let a CA sign with this key from now on. An earlier key keeps signing status for what it issued.

    An OCSP signer that was of the same type as the CA's key follows the new key's type.
    """
    k, c = models.ca_key.c, models.ca
    await tx.execute(
        update(models.ca_key)
        .where(k.ca_id == ca_id, k.generation < generation, k.state == "current")
        .values(state="previous")
    )
    await tx.execute(update(models.ca_key).where(k.ca_id == ca_id, k.generation == generation).values(state="current"))
    algorithm = load_public_key(spki)[1].value
    follows = case((c.c.ocsp_key_algorithm == c.c.key_algorithm, algorithm), else_=c.c.ocsp_key_algorithm)
    await tx.execute(
        update(c)
        .where(c.c.id == ca_id)
        .values(generation=generation, state="active", key_algorithm=algorithm, ocsp_key_algorithm=follows)
    )


async def certify(
    change: ConfigurationChange,
    principal: Principal,
    issuer: CaView,
    subject: Name,
    signer: Signer,
    path_length: int,
    not_after: datetime | None,
    constraints: CaConstraints | None = None,
) -> CertificateInfo:
    """Have a CA of ours sign the certificate of a CA below it, recorded like every other certificate: 10 years unless
    ``not_after`` or the issuer's end says less.

    Raises what issuing raises: StateConflict (issuer not active), Refused (dates, path length).
    """
    order = Order(
        ca=issuer,
        profile=internal_profiles.ca_subordinate(path_length),
        input=IssuanceInput(
            subject=subject,
            spki=signer.spki,
            key_algorithm=signer.algorithm,
            channel="platform",
            validity=RequestedValidity(not_after=not_after) if not_after else None,
            stated=limits(constraints),
        ),
    )
    issued = await issue_in(change.authority, change.tx, principal, order)
    return read_certificate(issued.der)


async def self_signed(
    signer: Signer,
    full_id: str,
    subject: Name,
    now: datetime,
    *,
    not_after: datetime | None = None,
    constraints: CaConstraints | None = None,
) -> CertificateInfo:
    """A root certificate over the signer's key: 20 years unless ``not_after`` says less.

    Raises Refused (``validity-beyond-profile``), InvalidInput for an end in the past.
    """
    issuer = Issuer.of_root(full_id, subject, key_identifier(signer.spki), signer.algorithm, now)
    prepared = compile_profile(internal_profiles.ca_root(), issuer).prepare(
        IssuanceInput(
            subject=subject,
            spki=signer.spki,
            key_algorithm=signer.algorithm,
            channel="platform",
            validity=RequestedValidity(not_after=not_after) if not_after else None,
            stated=limits(constraints),
        ),
        serial=new_serial_number(),
        now=now,
    )
    return read_certificate(prepared.assemble(await signer.sign(prepared.tbs)))


def limits(constraints: CaConstraints | None) -> tuple[Extension, ...]:
    """The extensions by which a CA certificate limits what counts below it."""
    if constraints is None:
        return ()
    permitted = [(_DNS, name.encode()) for name in constraints.permitted_dns]
    permitted += [(_EMAIL, host.encode()) for host in constraints.permitted_email]
    permitted += [(_URI, host.encode()) for host in constraints.permitted_uri_hosts]
    everywhere = [(_IP, bytes(8)), (_IP, bytes(32))]  # IPv4 and IPv6: address and mask, all zero
    found = [Extension(x509.NAME_CONSTRAINTS, True, x509.name_constraints(permitted, everywhere))]
    if constraints.purposes:
        purposes = [vocabulary.purpose_oid(purpose) for purpose in constraints.purposes]
        found.append(Extension(x509.EXTENDED_KEY_USAGE, False, x509.extended_key_usage(purposes)))
    return tuple(found)


def subject_public_key(spki: bytes) -> bytes:
    """The contents of the subjectPublicKey BIT STRING, what OCSP hashes. Source: RFC 6960 section 4.1.1."""
    fields = der.Reader(spki).enter()
    fields.read(der.SEQUENCE)
    return der.decode_bit_string(fields.read(der.BIT_STRING).content)[0]
