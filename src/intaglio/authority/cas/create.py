"""Creating root and issuing CAs.

All or nothing: when a step fails nothing of the CA exists, and it can be tried again.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import insert, update

from intaglio.asn1.algorithms import KeyAlgorithm
from intaglio.audit import record as audit
from intaglio.authority import credentials, models
from intaglio.authority.access import Organization, require_organization
from intaglio.authority.cas import requests
from intaglio.authority.cas.checks import check_ca_id, check_not_after, checked_profiles, checked_subject
from intaglio.authority.cas.keys import add_certificate, add_key, certify, make_current, self_signed
from intaglio.authority.cas.values import CreatedCa, NewCa, NewIssuing, NewRoot
from intaglio.authority.cas.views import details
from intaglio.authority.client_users import checked_rights
from intaglio.authority.configuration import ConfigurationChange, changing
from intaglio.authority.context import Authority
from intaglio.authority.directory import CaView, Snapshot
from intaglio.core.clock import rfc3339
from intaglio.core.errors import NotFound, Refused
from intaglio.core.identifiers import new_id
from intaglio.core.principal import Permission, Principal
from intaglio.db.engine import Transaction
from intaglio.x509.certificates import CertificateInfo
from intaglio.x509.names import Name


async def create_root(
    authority: Authority, principal: Principal, organization: str, wanted: NewRoot, *, without_clients: bool = False
) -> CreatedCa:
    """Create a root CA: key, self-signed certificate, rights, and a credential for every new name.

    ``without_clients`` permits a CA that nobody administers through the gateway. Needs ``ca.configure``. Raises
    NotFound (organization), InvalidInput (subject, profiles, names, dates), StateConflict (id taken or reserved),
    Refused (longer than 20 years), Unavailable (keystore, database).
    """
    async with changing(authority, principal, Permission.CA_CONFIGURE) as change:
        plan = await _plan(change.tx, principal, organization, wanted, without_clients)
        signer = await authority.keystore.generate(
            change.tx, wanted.key_algorithm, f"ca:{plan.full_id}", provider=wanted.key_provider, principal=principal
        )
        await change.locked()
        await _check_again(change.tx, principal, plan, wanted)
        certificate = await self_signed(
            signer, plan.full_id, plan.subject, change.tx.now,
            not_after=wanted.not_after, constraints=wanted.options.constraints,
        )  # fmt: skip
        ca_id = await _insert(change.tx, principal, plan, wanted, "root")
        await add_key(change.tx, ca_id, 1, signer.spki, state="pending", key_id=signer.key_id)
        await add_certificate(change.tx, ca_id, 1, certificate)
        await make_current(change.tx, ca_id, 1, signer.spki)
        return await _finish(change, principal, plan, wanted, ca_id, certificate)


async def create_issuing(
    authority: Authority, principal: Principal, organization: str, wanted: NewIssuing, *, without_clients: bool = False
) -> CreatedCa:
    """Create an issuing CA. Below a CA whose key is here it is signed at once; below an external root it waits for
    its certificate, with a request to be signed there.

    Needs ``ca.configure``. Raises what :func:`create_root` raises, and Refused: unknown or unsuitable issuer, expiry
    beyond the issuer, no room in the path length.
    """
    async with changing(authority, principal, Permission.CA_CONFIGURE) as change:
        plan = await _plan(change.tx, principal, organization, wanted, without_clients)
        _issuer(change.before, plan, wanted, change.tx.now)
        signer = await authority.keystore.generate(
            change.tx, wanted.key_algorithm, f"ca:{plan.full_id}", provider=wanted.key_provider, principal=principal
        )
        snapshot = await change.locked()
        await _check_again(change.tx, principal, plan, wanted)
        issuer = _issuer(snapshot, plan, wanted, change.tx.now)
        ca_id = await _insert(change.tx, principal, plan, wanted, "issuing", issuer=issuer)
        await add_key(change.tx, ca_id, 1, signer.spki, state="pending", key_id=signer.key_id)
        certificate = None
        if issuer.kind == "external-root":
            await requests.make_request(change.tx, signer, ca_id, 1, plan.subject, wanted.path_length)
            values = {"state": "awaiting-certificate", "requested_not_after": wanted.not_after}
            await change.tx.execute(update(models.ca).where(models.ca.c.id == ca_id).values(**values))
        else:
            certificate = await certify(
                change, principal, issuer, plan.subject, signer, wanted.path_length, wanted.not_after,
                wanted.options.constraints,
            )  # fmt: skip
            await add_certificate(change.tx, ca_id, 1, certificate)
            await make_current(change.tx, ca_id, 1, signer.spki)
        return await _finish(change, principal, plan, wanted, ca_id, certificate)


@dataclass(frozen=True)
class _Plan:
    """A wish that was checked."""

    organization: Organization
    full_id: str
    subject: Name
    profiles: list[str]
    rights: dict[str, str]


async def _plan(
    tx: Transaction, principal: Principal, organization: str, wanted: NewCa, without_clients: bool
) -> _Plan:
    found = await require_organization(tx, principal, organization, Permission.CA_CONFIGURE)
    await check_ca_id(tx, found.id, organization, wanted.name)
    check_not_after(wanted, tx.now)
    return _Plan(
        found,
        f"{organization}~{wanted.name}",
        checked_subject(wanted.subject),
        await checked_profiles(tx, wanted.profiles),
        {} if without_clients and not wanted.administrators else checked_rights(wanted.administrators, wanted.auditors),
    )


async def _check_again(tx: Transaction, principal: Principal, plan: _Plan, wanted: NewCa) -> None:
    """What may have changed while the key was made: the organization, its CA ids, the profiles."""
    await require_organization(tx, principal, plan.organization.name, Permission.CA_CONFIGURE)
    await check_ca_id(tx, plan.organization.id, plan.organization.name, wanted.name)
    await checked_profiles(tx, wanted.profiles)


def _issuer(snapshot: Snapshot, plan: _Plan, wanted: NewIssuing, now: datetime) -> CaView:
    """The CA that shall sign. Raises Refused when it does not exist, is no root, or must not sign CAs."""
    try:
        issuer = snapshot.ca(f"{plan.organization.name}~{wanted.issuer}")
    except NotFound:
        raise _unsuitable(
            f'Organization "{plan.organization.name}" has no CA "{wanted.issuer[:40]}".', "issuer-unknown"
        ) from None
    if issuer.kind == "issuing" and not issuer.options.allow_issuing_below:
        raise _unsuitable(f'"{issuer.full_id}" is no root and is not set to have CAs below it.', "issuer-not-root")
    if issuer.kind not in ("root", "external-root", "issuing"):
        raise _unsuitable(f'"{issuer.full_id}" does not sign CAs.', "issuer-not-root")
    if issuer.subject.key == plan.subject.key:
        raise _unsuitable(f'The subject is that of the issuer "{issuer.full_id}".', "subject-equals-issuer")
    if issuer.state != "active":
        raise _unsuitable(f'"{issuer.full_id}" is {issuer.state}.', "issuer-not-active")
    if issuer.certificate.not_after <= now:
        raise _unsuitable(f'"{issuer.full_id}" has expired.', "issuer-expired")
    if issuer.path_budget is not None and issuer.path_budget < 1 + wanted.path_length:
        raise _unsuitable(
            f'Below "{issuer.full_id}" there is room for {issuer.path_budget} further CA certificate(s); '
            f"{1 + wanted.path_length} are needed.",
            "path-length-exceeded",
        )
    ends = issuer.certificate.not_after
    if wanted.not_after is not None and wanted.not_after > ends:
        raise Refused(
            f'The CA would outlive its issuer "{issuer.full_id}", which ends at {rfc3339(ends)}.',
            code="validity-beyond-issuer",
            remedy=f"Choose a date not later than {rfc3339(ends)}.",
            target="not_after",
        )
    return issuer


async def _insert(
    tx: Transaction, principal: Principal, plan: _Plan, wanted: NewCa, kind: str, *, issuer: CaView | None = None
) -> UUID:
    ca_id = new_id()
    await tx.execute(
        insert(models.ca).values(
            id=ca_id,
            organization_id=plan.organization.id,
            name=wanted.name,
            kind=kind,
            state="creating",
            label=wanted.label,
            issuer_id=issuer.id if issuer else None,
            key_algorithm=wanted.key_algorithm.value,
            ocsp_key_algorithm=_ocsp_algorithm(wanted),
            subject=plan.subject.rfc4514,
            subject_der=plan.subject.der,
            profiles=plan.profiles,
            options=wanted.options.model_dump(mode="json"),
            created_by=principal.name,
            created_at=tx.now,
        )
    )
    return ca_id


def _ocsp_algorithm(wanted: NewCa) -> KeyAlgorithm | None:
    if wanted.ocsp_key_algorithm == "off":
        return None
    return wanted.ocsp_key_algorithm or wanted.key_algorithm


async def _finish(
    change: ConfigurationChange,
    principal: Principal,
    plan: _Plan,
    wanted: NewCa,
    ca_id: UUID,
    certificate: CertificateInfo | None,
) -> CreatedCa:
    """Rights and credentials, the audit record, and what the caller gets to see."""
    snapshot = await change.read()
    ca = snapshot.cas[ca_id]
    made = await credentials.assign(change, snapshot, principal, ca, plan.rights, wanted.credentials.wish)
    facts: dict[str, Any] = {"kind": ca.kind, "subject": plan.subject.rfc4514, "state": ca.state}
    facts |= {"key_algorithm": wanted.key_algorithm.value, "key_provider": wanted.key_provider}
    facts |= {"profiles": plan.profiles, "rights": plan.rights}
    if certificate is not None:
        facts |= {"fingerprint": certificate.fingerprint.hex(), "not_after": rfc3339(certificate.not_after)}
    audit.record(change.tx, principal, "ca.create", "ca", plan.full_id, organization=plan.organization.name, **facts)
    return CreatedCa(ca=await details(change.tx, snapshot, ca), credentials=tuple(made))


def _unsuitable(detail: str, code: str) -> Refused:
    return Refused(detail, code=code, remedy="Choose an active root of this organization.", target="issuer")
