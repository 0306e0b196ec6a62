"""Renewing a CA (a new certificate for its key) and re-keying it (a new key with a new certificate).

Below an external root both leave a certificate request that has to be signed there; until its answer is uploaded the CA
goes on with what it has. After a re-key the old key signs no more certificates, but CRLs and OCSP answers for those it
has signed.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import select

from intaglio.asn1.algorithms import KeyAlgorithm
from intaglio.audit import record as audit
from intaglio.authority import models
from intaglio.authority.access import require_ca
from intaglio.authority.cas import requests
from intaglio.authority.cas.keys import add_certificate, add_key, certify, make_current, self_signed
from intaglio.authority.cas.values import CaDetails
from intaglio.authority.cas.views import PUBLIC_KINDS, details
from intaglio.authority.configuration import ConfigurationChange, changing
from intaglio.authority.context import Authority
from intaglio.authority.directory import CaView, Snapshot
from intaglio.core.clock import rfc3339
from intaglio.core.errors import Refused, StateConflict
from intaglio.core.principal import Permission, Principal
from intaglio.keystore.service import Signer
from intaglio.x509.certificates import CertificateInfo


async def renew_ca(
    authority: Authority, principal: Principal, full_id: str, *, not_after: datetime | None = None
) -> CaDetails:
    """Give a CA a new certificate for the key it has, valid until ``not_after`` or as long as possible.

    Needs ``ca.configure``. Raises NotFound, StateConflict (not active, a request is outstanding, issuer not active),
    Refused (external root, dates beyond the issuer or the profile).
    """
    async with changing(authority, principal, Permission.CA_CONFIGURE) as change:
        snapshot = await change.locked()
        ca = await _renewable(change, snapshot, principal, full_id)
        key_id = ca.key.key_id
        assert key_id is not None, "checked by _renewable"
        signer = await authority.keystore.load(change.tx, key_id)
        certificate = await _new_certificate(change, snapshot, principal, ca, signer, ca.generation, not_after)
        return await _finish(change, principal, ca, "ca.renew", ca.generation, certificate)


async def rekey_ca(
    authority: Authority,
    principal: Principal,
    full_id: str,
    *,
    key_algorithm: KeyAlgorithm | None = None,
    key_provider: str | None = None,
    not_after: datetime | None = None,
) -> CaDetails:
    """Give a CA a new key, of the same type unless ``key_algorithm`` and in the same place unless ``key_provider`` says
    otherwise, and a certificate for it.

    Needs ``ca.configure``. Raises what :func:`renew_ca` raises.
    """
    async with changing(authority, principal, Permission.CA_CONFIGURE) as change:
        ca = await _renewable(change, change.before, principal, full_id)
        algorithm = key_algorithm or ca.algorithm
        assert algorithm is not None, "checked by _renewable"
        present = ca.key.key_id
        assert present is not None, "checked by _renewable"
        provider = key_provider or (await authority.keystore.stored(change.tx, present)).provider
        signer = await authority.keystore.generate(
            change.tx, algorithm, f"ca:{full_id}", provider=provider, principal=principal
        )
        snapshot = await change.locked()
        ca = await _renewable(change, snapshot, principal, full_id)
        generation = max(ca.keys) + 1
        await add_key(change.tx, ca.id, generation, signer.spki, state="pending", key_id=signer.key_id)
        certificate = await _new_certificate(change, snapshot, principal, ca, signer, generation, not_after)
        if certificate is not None:
            await make_current(change.tx, ca.id, generation, signer.spki)
        return await _finish(change, principal, ca, "ca.rekey", generation, certificate)


async def _renewable(change: ConfigurationChange, snapshot: Snapshot, principal: Principal, full_id: str) -> CaView:
    """The CA, if it can get another certificate now."""
    ca = await require_ca(change.tx, snapshot, principal, full_id, Permission.CA_CONFIGURE)
    if ca.kind == "external-root":
        raise Refused(
            f'The key of "{full_id}" is elsewhere.',
            code="ca-has-no-key",
            remedy="Renew it where its key is, and replace the certificate here.",
        )
    if ca.kind not in PUBLIC_KINDS:
        raise Refused(f'"{full_id}" belongs to the platform.', code="ca-internal")
    ca.require_active()
    query = select(models.ca_request.c.generation).where(models.ca_request.c.ca_id == ca.id)
    if await change.tx.scalar(query) is not None:
        raise StateConflict(
            f'"{full_id}" waits for a certificate already.',
            code="request-pending",
            remedy="Upload it, or withdraw the request.",
        )
    return ca


async def _new_certificate(
    change: ConfigurationChange,
    snapshot: Snapshot,
    principal: Principal,
    ca: CaView,
    signer: Signer,
    generation: int,
    not_after: datetime | None,
) -> CertificateInfo | None:
    """A certificate for a key of the CA, recorded; None when a request for it goes to an external root."""
    subject, path_length = ca.certificate.subject, ca.certificate.path_len or 0
    issuer = snapshot.cas[ca.issuer_id] if ca.issuer_id else None
    if issuer is not None and issuer.kind == "external-root":
        await requests.make_request(change.tx, signer, ca.id, generation, subject, path_length)
        return None
    if issuer is None:
        now, limits = change.tx.now, ca.options.constraints
        certificate = await self_signed(signer, ca.full_id, subject, now, not_after=not_after, constraints=limits)
    else:
        certificate = await certify(
            change, principal, issuer, subject, signer, path_length, not_after, ca.options.constraints
        )
    await add_certificate(change.tx, ca.id, generation, certificate)
    return certificate


async def _finish(
    change: ConfigurationChange,
    principal: Principal,
    ca: CaView,
    action: str,
    generation: int,
    certificate: CertificateInfo | None,
) -> CaDetails:
    facts: dict[str, Any] = {"generation": generation}
    if certificate is None:
        facts["request"] = "to be signed by the external root"
    else:
        facts |= {"fingerprint": certificate.fingerprint.hex(), "not_after": rfc3339(certificate.not_after)}
    audit.record(change.tx, principal, action, "ca", ca.full_id, organization=ca.organization, **facts)
    snapshot = await change.read()
    return await details(change.tx, snapshot, snapshot.cas[ca.id])
