"""The keys and certificates that sign timestamps: made, certified, renewed, destroyed.

An automatic signer is certified by one of our CAs, on the path that every certificate takes, and gets a new key and
certificate after two thirds of its certificate's life. A foreign one gives a request, and takes what another CA made of
it. A certificate that was replaced stays valid: tokens are verified with it for as long as it lasts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import delete, insert, select, update

from intaglio.asn1 import der
from intaglio.asn1.signature_schemes import signature_scheme
from intaglio.audit.record import record
from intaglio.authority import internal_profiles, issuance, locks
from intaglio.authority.directory import CaView, Snapshot
from intaglio.authority.models import certificate as certificate_table
from intaglio.authority.operator_keys import user_of
from intaglio.core.errors import Refused, StateConflict
from intaglio.core.identifiers import new_id, serial_hex
from intaglio.core.principal import SYSTEM, Permission, Principal
from intaglio.db.engine import Transaction
from intaglio.keystore.models import private_key
from intaglio.keystore.service import Signer
from intaglio.profiles.engine import IssuanceInput, RequestedValidity
from intaglio.timestamping.checks import ordered_chain, require_fit
from intaglio.timestamping.context import Timestamps
from intaglio.timestamping.models import timestamp_key, timestamp_signer
from intaglio.timestamping.values import SignerKey, SignerOptions, SignerRecord
from intaglio.x509 import extensions as ext
from intaglio.x509.attribute_types import COMMON_NAME
from intaglio.x509.certificates import CertificateInfo, read_certificate, read_certificates
from intaglio.x509.names import AttributeValue, Name

#: How long the key of a replaced certificate is kept: whoever still signs with it has to hear of the new one first.
KEY_RETENTION = timedelta(hours=1)
#: Keys that were made here for this purpose; others belong to whoever made them and are never destroyed here.
_LABEL = "timestamp:"
_EXTENSION_REQUEST = "1.2.840.113549.1.9.14"
_LONGEST_COMMON_NAME = 64


async def make_signer(tx: Transaction, kind: str, ca_id: UUID | None, options: SignerOptions) -> SignerRecord:
    """A signer without a key yet."""
    signer = SignerRecord(new_id(), kind, ca_id, options, None, None)
    values = {"id": signer.id, "kind": kind, "ca_id": ca_id, "created_at": tx.now}
    await tx.execute(insert(timestamp_signer).values(**values, options=options.model_dump(mode="json")))
    return signer


async def certify(
    timestamps: Timestamps, tx: Transaction, principal: Principal, signer: SignerRecord, ca: CaView, name: str
) -> SignerKey:
    """Give an automatic signer a new key and a certificate for it, in place of the ones it has.

    ``name`` is that of an issuer, for the label of the key and a subject that nobody chose. Raises what issuing raises.
    """
    options = signer.options
    key = await _generate(timestamps, tx, principal, signer, name)
    subject = Name.parse(options.subject) if options.subject else _subject(ca, name)
    request = IssuanceInput(
        subject=subject,
        spki=key.spki,
        key_algorithm=key.algorithm,
        channel="platform",
        validity=RequestedValidity(not_after=tx.now + timedelta(days=options.lifetime_days)),
        clamp_validity=True,
    )
    profile = internal_profiles.timestamping(options.policies, access_information=options.access_information)
    order = issuance.Order(ca, profile, request)
    issued = await issuance.issue_in(timestamps.authority, tx, principal, order)
    certificate = read_certificate(issued.der)
    chain = tuple(map(read_certificate, ca.chain))
    require_fit(certificate, chain, key.spki, max(tx.now, certificate.not_before))
    made = await _put_current(tx, signer, key.key_id, certificate, chain, certificate_id=issued.id)
    _audit(tx, principal, "timestamp-signer.certify", name, certificate, ca=ca.full_id)
    return made


async def make_request(
    timestamps: Timestamps, tx: Transaction, principal: Principal, signer: SignerRecord, name: str, *, new_key: bool
) -> bytes:
    """A PKCS #10 request (DER) to be signed by another CA: over the key in use, or over a new one.

    Raises StateConflict (``timestamp-signer-automatic``) for a signer that one of our CAs certifies.
    """
    if signer.kind == "automatic":
        raise StateConflict(
            "The certificates of this issuer come from one of our CAs.",
            code="timestamp-signer-automatic",
            remedy="Renew it: intaglio tsa issuer renew.",
        )
    held = None if new_key else signer.pending or signer.current
    keystore = timestamps.authority.keystore
    if held is None:
        key = await _generate(timestamps, tx, principal, signer, name)
    else:
        key = await keystore.load(tx, held.key_id)
    subject = Name.parse(signer.options.subject or f"CN={name[: _LONGEST_COMMON_NAME - 13]} Timestamping")
    request = await _signed_request(key, subject)
    await _drop_pending(timestamps, tx, principal, signer, but=key.key_id)
    values = {"signer_id": signer.id, "state": "pending", "key_id": key.key_id, "chain": [], "changed_at": tx.now}
    await tx.execute(insert(timestamp_key).values(id=new_id(), request=request, **values))
    record(tx, principal, "timestamp-signer.request", "timestamp-issuer", name, subject=subject.rfc4514)
    return request


async def install(
    timestamps: Timestamps,
    tx: Transaction,
    principal: Principal,
    signer: SignerRecord,
    name: str,
    data: bytes | str,
    chain: Sequence[bytes | str],
) -> CertificateInfo:
    """Take the certificate that another CA made, with the CA certificates up to its root (in ``data`` or ``chain``).

    Needs ``keys.manage`` when its key was made for nothing in particular. Raises InvalidInput
    (``certificate-unparsable``), Refused with what :mod:`~intaglio.timestamping.checks` finds or for a key with another
    purpose (``tsa-certificate-key-taken``), Forbidden, StateConflict for a signer that one of our CAs certifies.
    """
    if signer.kind == "automatic":
        raise StateConflict(
            "The certificates of this issuer come from one of our CAs.",
            code="timestamp-signer-automatic",
            remedy="Create another issuer without a CA.",
        )
    certificate, others = read_bundle(data, chain)
    ordered = ordered_chain(certificate, others)
    key_id = await find_key(tx, signer, certificate.spki)
    require_fit(certificate, ordered, None if key_id is None else certificate.spki, tx.now)
    assert key_id is not None
    await _require_key(tx, principal, key_id)
    await _put_current(tx, signer, key_id, certificate, ordered, certificate_id=await _issued_here(tx, certificate))
    _audit(tx, principal, "timestamp-signer.install", name, certificate)
    return certificate


def read_bundle(
    data: bytes | str, chain: Sequence[bytes | str]
) -> tuple[CertificateInfo, tuple[CertificateInfo, ...]]:
    """The certificate that comes first, and all others. Raises InvalidInput (``certificate-unparsable``)."""
    first, *rest = read_certificates(data)
    return first, (*rest, *(each for part in chain for each in read_certificates(part)))


async def find_key(view: Transaction, signer: SignerRecord, spki: bytes) -> UUID | None:
    """The key of this public key: one of the signer's, or any other in the keystore that was not destroyed."""
    c = private_key.c
    rows = await view.all(select(c.id).where(c.public_key == spki, c.destroyed_at.is_(None)).order_by(c.created_at))
    found = [row["id"] for row in rows]
    own = [key.key_id for key in (signer.pending, signer.current) if key is not None]
    return next((key_id for key_id in found if key_id in own), found[0] if found else None)


async def remove(timestamps: Timestamps, tx: Transaction, principal: Principal, signer: SignerRecord) -> None:
    """Remove a signer that no issuer has any more; the keys that were made for it are destroyed."""
    c = timestamp_key.c
    rows = await tx.all(select(c.key_id).where(c.signer_id == signer.id).distinct())
    await tx.execute(delete(timestamp_key).where(c.signer_id == signer.id))
    await tx.execute(delete(timestamp_signer).where(timestamp_signer.c.id == signer.id))
    for row in rows:
        await _destroy(timestamps, tx, principal, row["key_id"])


async def due(view: Transaction, now: datetime) -> list[UUID]:
    """Automatic signers that need a new certificate: none there, past two thirds of its life, revoked or held."""
    from intaglio.timestamping.storage import load_signers

    signers = await load_signers(view)
    return [signer.id for signer in signers.values() if signer.kind == "automatic" and _is_due(signer, None, now)]


async def renew_if_due(timestamps: Timestamps, signer_id: UUID, snapshot: Snapshot, name: str) -> bool:
    """Renew an automatic signer that is due; says whether it was. Safe in any number of processes at once."""
    from intaglio.timestamping.storage import load_signer

    async with timestamps.authority.database.transaction() as tx:
        await locks.lock(tx, "timestamp-signer", signer_id)
        signer = await load_signer(tx, signer_id, lock=True)
        assert signer.ca_id is not None
        ca = snapshot.cas[signer.ca_id]
        if not _is_due(signer, ca, tx.now):
            return False
        await certify(timestamps, tx, SYSTEM, signer, ca, name)
        return True


async def destroy_old_keys(timestamps: Timestamps) -> int:
    """Destroy the keys of replaced certificates; returns how many. The certificates stay, to verify tokens by."""
    c = timestamp_key.c
    async with timestamps.authority.database.transaction() as tx:
        in_use = select(c.key_id).where(c.state != "replaced")
        old = await tx.all(
            select(c.id, c.key_id)
            .join(private_key, private_key.c.id == c.key_id)
            .where(c.state == "replaced", c.changed_at < tx.now - KEY_RETENTION, c.key_id.not_in(in_use))
            .where(private_key.c.destroyed_at.is_(None), private_key.c.label.startswith(_LABEL))
            .limit(100)
            .with_for_update(of=timestamp_key, skip_locked=True)
        )
        for key_id in {row["key_id"] for row in old}:
            await _destroy(timestamps, tx, SYSTEM, key_id)
    return len(old)


async def _require_key(view: Transaction, principal: Principal, key_id: UUID) -> None:
    """See that a key is one of timestamping, or has no purpose yet and may be given one by this principal: whoever runs
    timestamping decides nothing over the keys of CAs. Raises Refused, Forbidden."""
    k = timestamp_key.c.key_id
    if await view.scalar(select(k).where(k == key_id).limit(1)) is not None:
        return
    if (user := await user_of(view, key_id)) is not None:
        raise Refused(
            f"The key of the certificate has another purpose: {user}.",
            code="tsa-certificate-key-taken",
            remedy="Have the request of this issuer signed: intaglio tsa issuer csr.",
            target="certificate",
        )
    principal.require(Permission.KEYS_MANAGE)


async def _issued_here(view: Transaction, certificate: CertificateInfo) -> UUID | None:
    """The id of a certificate that one of our CAs issued, so that its revocation is heard of."""
    c = certificate_table.c
    hashed = hashlib.sha256(certificate.spki).digest()
    found: UUID | None = await view.scalar(
        select(c.id).where(c.spki_sha256 == hashed, c.der == certificate.der).limit(1)
    )
    return found


def _is_due(signer: SignerRecord, ca: CaView | None, now: datetime) -> bool:
    key = signer.current
    if key is None or key.status != "valid" or key.not_before is None or key.not_before > now:
        return True
    assert key.renew_at is not None
    assert key.not_after is not None
    # A new certificate could not last longer when the CA ends before this one does.
    return now >= key.renew_at and (ca is None or key.not_after < ca.certificate.not_after)


async def _generate(
    timestamps: Timestamps, tx: Transaction, principal: Principal, signer: SignerRecord, name: str
) -> Signer:
    options = signer.options
    return await timestamps.authority.keystore.generate(
        tx, options.key_algorithm, f"{_LABEL}{name}", provider=options.provider, principal=principal
    )


async def _put_current(
    tx: Transaction,
    signer: SignerRecord,
    key_id: UUID,
    certificate: CertificateInfo,
    chain: Sequence[CertificateInfo],
    *,
    certificate_id: UUID | None = None,
) -> SignerKey:
    """Put a key with its certificate to use, in place of the one in use and of the one that waited for it."""
    c = timestamp_key.c
    await tx.execute(
        update(timestamp_key)
        .where(c.signer_id == signer.id, c.state == "current")
        .values(state="replaced", changed_at=tx.now)
    )
    await tx.execute(delete(timestamp_key).where(c.signer_id == signer.id, c.state == "pending", c.key_id == key_id))
    above = tuple(each.der for each in chain)
    key = SignerKey(
        new_id(), signer.id, "current", key_id, None, certificate.der, above, certificate_id,
        certificate.not_before, certificate.not_after,
    )  # fmt: skip
    await tx.execute(
        insert(timestamp_key).values(
            id=key.id,
            signer_id=signer.id,
            state=key.state,
            key_id=key_id,
            certificate=key.certificate,
            chain=list(above),
            certificate_id=certificate_id,
            not_before=key.not_before,
            not_after=key.not_after,
            changed_at=tx.now,
        )
    )
    tx.changed_configuration()
    return key


async def _drop_pending(
    timestamps: Timestamps, tx: Transaction, principal: Principal, signer: SignerRecord, *, but: UUID
) -> None:
    """Give up an earlier request; a key that only it had is destroyed."""
    pending = signer.pending
    if pending is None:
        return
    await tx.execute(delete(timestamp_key).where(timestamp_key.c.id == pending.id))
    if pending.key_id != but and (signer.current is None or signer.current.key_id != pending.key_id):
        await _destroy(timestamps, tx, principal, pending.key_id)


async def _destroy(timestamps: Timestamps, tx: Transaction, principal: Principal, key_id: UUID) -> None:
    """Destroy a key, if it was made here for this and no other signer has it."""
    k = private_key.c
    row = await tx.one_or_none(select(k.label, k.destroyed_at).where(k.id == key_id))
    used = await tx.scalar(
        select(timestamp_key.c.id).where(timestamp_key.c.key_id == key_id, timestamp_key.c.state != "replaced").limit(1)
    )
    if row is None or row["destroyed_at"] is not None or used is not None or not row["label"].startswith(_LABEL):
        return
    await timestamps.authority.keystore.destroy(tx, key_id, principal=principal)


async def _signed_request(key: Signer, subject: Name) -> bytes:
    """A PKCS #10 request for what the certificate has to say. Source: RFC 2986 section 4, RFC 2985 section 5.4.2."""
    wanted = der.sequence(
        ext.extension(ext.KEY_USAGE, True, ext.key_usage(("digitalSignature",))),
        ext.extension(ext.EXTENDED_KEY_USAGE, True, ext.extended_key_usage((ext.TIME_STAMPING,))),
    )
    attributes = der.explicit(0, der.sequence(der.oid(_EXTENSION_REQUEST), der.set_of(wanted)))
    info = der.sequence(der.integer(0), subject.der, key.spki, attributes)
    return der.sequence(info, signature_scheme(key.algorithm).identifier, der.bit_string(await key.sign(info)))


def _subject(ca: CaView, name: str) -> Name:
    """The name of the CA, with the issuer's as common name."""
    rdns: list[list[AttributeValue]] = [
        [(attribute.oid, attribute.raw) for attribute in rdn]
        for rdn in ca.certificate.subject.attributes
        if all(attribute.oid != COMMON_NAME for attribute in rdn)
    ]
    return Name.build([*rdns, ("CN", f"{name[: _LONGEST_COMMON_NAME - 13]} Timestamping")])


def _audit(
    tx: Transaction, principal: Principal, action: str, name: str, certificate: CertificateInfo, *, ca: str = ""
) -> None:
    record(
        tx,
        principal,
        action,
        "timestamp-issuer",
        name,
        subject=certificate.subject.rfc4514,
        serial=serial_hex(certificate.serial),
        not_after=certificate.not_after.isoformat(),
        ca=ca or certificate.issuer.rfc4514,
    )


def no_ca(name: str) -> Refused:
    """The refusal of an automatic renewal where there is nothing to renew by."""
    return Refused(
        f'The certificate of "{name}" was issued by another CA, so it is not renewed here.',
        code="timestamp-signer-foreign",
        remedy="Make a request (intaglio tsa issuer csr) and import what the CA makes of it.",
    )
