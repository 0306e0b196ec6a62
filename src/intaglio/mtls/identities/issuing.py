"""Certificates for identities.

1. who asks, and is the identity active   2. is the key good enough, and nobody else's   3. names and attributes from
the registry, lifetime from the trust domain   4. through the gateway like every certificate   5. the binding; only then
is the certificate handed out.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import insert, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from intaglio.authority import models as authority_models
from intaglio.authority.certificates import RevocationReason
from intaglio.authority.directory import CaView
from intaglio.authority.issuance import Issued
from intaglio.authority.revocation import change_status_in, revocation
from intaglio.core.clock import rfc3339
from intaglio.core.errors import IntaglioError, InvalidInput, Refused, StateConflict
from intaglio.core.identifiers import serial_hex
from intaglio.core.principal import SYSTEM, Permission, Principal
from intaglio.db.engine import Transaction
from intaglio.gateway.callers import Caller
from intaglio.gateway.enrollment import enroll
from intaglio.gateway.schemas import (
    CertificateRequestDetails,
    EnrollmentRequest,
    RequestedExtensionBody,
    SubjectAltName,
)
from intaglio.mtls.context import Mtls
from intaglio.mtls.identities import bindings, models, registry
from intaglio.mtls.identities.attributes import attributes_extension
from intaglio.mtls.identities.authorities import issuing_ca_of
from intaglio.mtls.identities.bindings import Details
from intaglio.mtls.identities.lifetimes import lifetime_for, profile_of
from intaglio.mtls.identities.names import dns_names
from intaglio.mtls.identities.values import Channel, Identity, IssuedIdentity, Kind, TrustDomain
from intaglio.x509 import extensions as x509
from intaglio.x509.names import Name
from intaglio.x509.requests import CertificateRequest, parse_request

#: Raises when what proved a requester has ended; otherwise it stays until the end of the transaction.
Ground = Callable[[Transaction], Awaitable[None]]


async def issue_identity(
    mtls: Mtls,
    principal: Principal,
    identity: Identity,
    request: CertificateRequest | bytes | str,
    *,
    channel: Channel,
    lifetime: timedelta | None = None,
    source: str = "",
    user_agent: str = "",
    code_id: UUID | None = None,
    also_dns: Sequence[str] = (),
    renews: UUID | None = None,
    idempotency_key: str | None = None,
    ground: Ground | None = None,
) -> IssuedIdentity:
    """Issue a certificate for an identity over the key of a certificate request.

    Of the request only the key counts; a parsed one must have had its proof of possession checked. ``principal`` is the
    identity itself (``identity.principal()``), its owner, or whoever keeps the registry. ``lifetime`` None is what the
    trust domain gives; ``also_dns`` are names below registered DNS names; ``renews`` is the binding that this one
    follows, whose certificate must still be valid. ``ground`` raises when what proved the requester has ended; it is
    asked last, and then the certificate is revoked instead of handed out. With ``idempotency_key`` the same request is
    answered with the same certificate, also after a crash in between.

    Raises Forbidden (not allowed, identity suspended or retired), InvalidInput (request), StateConflict
    (``key_reused``; renewing a revoked one; trust domain not active), Refused (``lifetime-above-ceiling``,
    ``attribute-missing``, ``key-compromised``, key type or strength), Unavailable (database, key store): then nothing
    is handed out.
    """
    csr = request if isinstance(request, CertificateRequest) else parse_request(request)
    spki_sha256 = hashlib.sha256(csr.spki).digest()
    async with mtls.database.transaction() as tx:
        identity = await registry.load_identity(tx, identity.id)
        await registry.require_may_use(tx, principal, identity)
        registry.require_active(identity)
        await _claim_key(tx, identity, spki_sha256)
    body = _enrollment(identity, csr, lifetime, also_dns)
    enrolled = await enroll(
        mtls.gateway,
        _caller(principal, identity, source),
        (await _issuing_ca(mtls, identity.domain)).full_id,
        body,
        channel="mtls",
        idempotency_key=idempotency_key,
        stated=(attributes_extension(identity),),
    )
    record = _Record(identity.id, enrolled.issued, spki_sha256, channel, code_id, renews, source, user_agent, ground)
    identity = await _bind(mtls, principal, record)
    issued = enrolled.issued
    return IssuedIdentity(
        identity, issued.id, issued.der, issued.chain, issued.serial, issued.not_before, issued.not_after,
        enrolled.warnings, issued.repeated,
    )  # fmt: skip


async def _claim_key(tx: Transaction, identity: Identity, spki_sha256: bytes) -> None:
    """Make the key this identity's.

    Raises StateConflict (``key_reused``) when it is somebody else's, Refused (``key-compromised``) when a certificate
    over it was revoked because others have the key too.
    """
    k = models.key_owner
    claim = upsert(k).values(spki_sha256=spki_sha256, identity_id=identity.id, since=tx.now)
    # Changing nothing makes the row come back, whosever it is.
    claim = claim.on_conflict_do_update(index_elements=["spki_sha256"], set_={"since": k.c.since})
    owner = await tx.scalar(claim.returning(k.c.identity_id))
    if owner != identity.id:
        raise StateConflict(
            "This key belongs to another identity.", code="key_reused", remedy="Make a new key.", target="csr"
        )
    c = authority_models.certificate.c
    stolen = select(c.id).where(c.spki_sha256 == spki_sha256, c.reason == RevocationReason.KEY_COMPROMISE).limit(1)
    if await tx.scalar(stolen) is not None:
        raise Refused(
            "A certificate over this key was revoked because the key was compromised.",
            code="key-compromised",
            remedy="Make a new key.",
            target="csr",
        )


async def _issuing_ca(mtls: Mtls, domain: TrustDomain) -> CaView:
    """The CA to issue with. The trust domain may know a newer one than this process. Raises StateConflict."""
    try:
        return issuing_ca_of(await mtls.gateway.snapshot(), domain)
    except StateConflict:
        return issuing_ca_of(await mtls.authority.current(), domain)


def _enrollment(
    identity: Identity, csr: CertificateRequest, lifetime: timedelta | None, also_dns: Sequence[str]
) -> EnrollmentRequest:
    """What the gateway is asked for: everything but the key is the registry's."""
    span = lifetime_for(identity.domain, identity.kind, lifetime)
    hosts = _hosts(identity, also_dns)
    subject = [("O", identity.domain.organization), ("OU", identity.team), ("CN", identity.name)]
    alternatives = [("uniformResourceIdentifier", identity.uri), ("rfc822Name", identity.email)]
    alternatives += [("dNSName", host) for host in hosts]
    purposes = x509.extended_key_usage([x509.CLIENT_AUTH, x509.SERVER_AUTH])
    serving = RequestedExtensionBody(oid=x509.EXTENDED_KEY_USAGE, value=base64.b64encode(purposes).decode())
    return EnrollmentRequest(
        profileId=profile_of(identity.kind).id,
        subjectAltNames=tuple(SubjectAltName(type=kind, value=value) for kind, value in alternatives if value),
        properties=_properties(identity),
        optionalCertificateRequestDetails=CertificateRequestDetails(
            subjectDn=Name.build([(kind, value) for kind, value in subject if value]).rfc4514,
            encodedPublicKey=base64.b64encode(csr.spki).decode(),
            validityPeriod=f"PT{int(span.total_seconds())}S",
            extensions=(serving,) if hosts else (),
        ),
    )


def _properties(identity: Identity) -> dict[str, str]:
    """What is kept with the certificate. Raises Refused when something is missing that its profile requires."""
    values = {
        "identity": str(identity.id),
        "environment": identity.environment,
        "team": identity.team,
        "service": identity.service,
        "roles": ",".join(identity.roles),
        "version": identity.version,
    }
    wanted = [entry.name for entry in profile_of(identity.kind).requested_properties if entry.required]
    if identity.kind in (Kind.SERVICE, Kind.WORKLOAD):
        wanted += identity.domain.required_attributes
    if missing := [name for name in dict.fromkeys(wanted) if not values[name]]:
        raise Refused(
            f'The {identity.kind} "{identity.name}" has no {", ".join(missing)}.',
            code="attribute-missing",
            remedy="Complete it in the registry: intaglio mtls identity edit.",
            target=missing[0],
        )
    return {name: value for name, value in values.items() if value}


def _hosts(identity: Identity, also: Sequence[str]) -> tuple[str, ...]:
    """The registered DNS names and those asked for below them. Raises Refused (``dns-name-not-registered``)."""
    extra = dns_names(also, ())
    for name in extra:
        if not any(name == known or name.endswith(f".{known}") for known in identity.dns_names):
            raise Refused(
                f'"{identity.name}" has no DNS name at or above "{name}".',
                code="dns-name-not-registered",
                remedy="Have the name registered with the identity, or leave it out.",
                target="dns_names",
            )
    return tuple(dict.fromkeys((*identity.dns_names, *extra)))


def _caller(principal: Principal, identity: Identity, source: str) -> Caller:
    """The registry speaks to the gateway for whoever asks: what he may do was decided here."""
    permissions = principal.permissions | {Permission.CA_OPERATE}
    asking = replace(principal, permissions=permissions, source=principal.source or source)
    return Caller.of_principal(asking, frozenset({identity.domain.organization_id}))


@dataclass(frozen=True)
class _Record:
    """What the binding of a certificate is written from."""

    identity_id: UUID
    issued: Issued
    spki_sha256: bytes
    channel: Channel
    code_id: UUID | None
    renews: UUID | None
    source: str
    user_agent: str
    ground: Ground | None


async def _bind(mtls: Mtls, principal: Principal, record: _Record) -> Identity:
    """Write the binding; the identity as it is now.

    Whoever suspends the identity waits for this transaction and then finds the certificate, or comes before it, and
    then the certificate is revoked instead of handed out; likewise for the certificate that is renewed.
    """
    refusal: IntaglioError | None = None
    async with mtls.database.transaction() as tx:
        identity = await registry.load_identity(tx, record.identity_id, keep=True)
        if record.issued.repeated:
            await _require_valid(tx, record.issued.id, "The certificate of this request")
        await _insert(tx, mtls, identity, record)
        try:
            registry.require_active(identity)
            if record.renews is not None:
                await _follow(tx, identity, record.renews, record.issued.id)
            if record.ground is not None:
                await record.ground(tx)
        except IntaglioError as error:
            refusal, change = error, revocation(RevocationReason.PRIVILEGE_WITHDRAWN)
            await change_status_in(tx, SYSTEM, record.issued.ca, record.issued.serial, change)
        else:
            registry.note(tx, principal, "issue", identity, **_facts(record))
    if refusal is not None:
        raise refusal
    return identity


async def _insert(tx: Transaction, mtls: Mtls, identity: Identity, record: _Record) -> None:
    issued = record.issued
    details = Details(identity.email, record.source, record.user_agent[:400])
    values: Mapping[str, Any] = {
        "id": issued.id,
        "identity_id": identity.id,
        "domain_id": identity.domain.id,
        "ca_id": issued.ca.id,
        "ca": issued.ca.full_id,
        "serial": issued.serial,
        "certificate_sha256": hashlib.sha256(issued.der).digest(),
        "spki_sha256": record.spki_sha256,
        "not_before": issued.not_before,
        "not_after": issued.not_after,
        "channel": record.channel.value,
        "code_id": record.code_id,
        "renews": record.renews,
        "sealed": bindings.seal(mtls.master_key, issued.id, details),
        "created_at": tx.now,
    }
    if issued.repeated:  # the answer to a request that was made before, perhaps without getting this far
        await tx.execute(upsert(models.binding).values(**values).on_conflict_do_nothing(index_elements=["id"]))
    else:
        await tx.execute(insert(models.binding).values(**values))


async def _follow(tx: Transaction, identity: Identity, renews: UUID, by: UUID) -> None:
    """Note that a binding is followed by another. Raises InvalidInput, StateConflict when it is not valid any more."""
    b = models.binding.c
    owner = await tx.scalar(select(b.identity_id).where(b.id == renews))
    if owner != identity.id:
        raise InvalidInput("What is to be renewed is not a binding of this identity.", code="binding-unknown")
    await _require_valid(tx, renews, "The certificate to be renewed")
    await tx.execute(update(models.binding).where(b.id == renews).values(replaced_by=by))


async def _require_valid(tx: Transaction, certificate_id: UUID, what: str) -> None:
    """Raise StateConflict for a certificate that is revoked or held; it stays as it is until the end."""
    c = authority_models.certificate.c
    status = await tx.scalar(select(c.status).where(c.id == certificate_id).with_for_update(read=True))
    if status != "valid":
        raise StateConflict(
            f"{what} is {status}.",
            code="certificate-revoked" if status == "revoked" else "certificate-held",
            remedy="Enrol anew.",
        )


def _facts(record: _Record) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "ca": record.issued.ca.full_id,
        "serial": serial_hex(record.issued.serial),
        "channel": record.channel.value,
        "not_after": rfc3339(record.issued.not_after),
    }
    if record.code_id is not None:
        facts["code"] = str(record.code_id)
    return facts
