"""What comes from outside: certificates of external roots, and certificates made elsewhere for our issuing CAs."""

from __future__ import annotations

from typing import Any

from sqlalchemy import delete, insert, update

from intaglio.audit import record as audit
from intaglio.authority import models
from intaglio.authority.access import require_ca, require_organization
from intaglio.authority.cas.checks import check_ca_id
from intaglio.authority.cas.keys import add_certificate, add_key, make_current
from intaglio.authority.cas.requests import pending_request
from intaglio.authority.cas.values import CaDetails, NewExternalRoot
from intaglio.authority.cas.views import details
from intaglio.authority.configuration import changing
from intaglio.authority.context import Authority
from intaglio.authority.directory import CaView
from intaglio.authority.options import CaOptions
from intaglio.core.clock import rfc3339
from intaglio.core.errors import InvalidInput, Refused, StateConflict
from intaglio.core.identifiers import new_id, serial_hex
from intaglio.core.principal import Permission, Principal
from intaglio.x509.certificates import CertificateInfo, read_certificates
from intaglio.x509.paths import check_root_certificate, root_warnings, verify_ca_certificate


async def add_external_root(
    authority: Authority, principal: Principal, organization: str, wanted: NewExternalRoot
) -> CaDetails:
    """Record a root CA whose key is elsewhere, so that issuing CAs can be made below it.

    The certificate may come in a bundle; its root is taken. Needs ``ca.configure``. Raises NotFound (organization),
    InvalidInput (unreadable, not self-signed, no CA, expired, weak key), StateConflict (id or root known already).
    What is out of date about it, such as a self-signature with SHA-1, is among the ``warnings`` of the answer.
    """
    async with changing(authority, principal, Permission.CA_CONFIGURE) as change:
        tx, snapshot = change.tx, await change.locked()
        found = await require_organization(tx, principal, organization, Permission.CA_CONFIGURE)
        await check_ca_id(tx, found.id, organization, wanted.name)
        root = _root_of(wanted.certificate)
        check_root_certificate(root, tx.now)
        for ca in snapshot.cas.values():
            if ca.organization_id == found.id and ca.state != "deleted" and ca.generation and ca.key.spki == root.spki:
                raise StateConflict(f'This root is here already as "{ca.full_id}".', code="root-exists")
        ca_id = new_id()
        await tx.execute(
            insert(models.ca).values(
                id=ca_id,
                organization_id=found.id,
                name=wanted.name,
                kind="external-root",
                state="creating",
                label=wanted.label,
                subject=root.subject.rfc4514,
                subject_der=root.subject.der,
                options=CaOptions().model_dump(mode="json"),
                created_by=principal.name,
                created_at=tx.now,
            )
        )
        await add_key(tx, ca_id, 1, root.spki, state="pending", key_id=None, identifier=root.ski)
        await add_certificate(tx, ca_id, 1, root)
        await make_current(tx, ca_id, 1, root.spki)
        audit.record(
            tx, principal, "ca.create", "ca", f"{organization}~{wanted.name}", organization=organization,
            kind="external-root", **_facts(root), **_warnings(root),
        )  # fmt: skip
        snapshot = await change.read()
        return await details(tx, snapshot, snapshot.cas[ca_id])


async def replace_external_root(
    authority: Authority, principal: Principal, full_id: str, certificate: bytes | str
) -> CaDetails:
    """Record the renewed certificate of an external root: over its old key, or over a new one under the same name.

    Needs ``ca.configure``. Raises NotFound, InvalidInput as :func:`add_external_root`, Refused (``not-external-root``,
    ``root-other-subject``).
    """
    async with changing(authority, principal, Permission.CA_CONFIGURE) as change:
        tx, snapshot = change.tx, await change.locked()
        ca = await require_ca(tx, snapshot, principal, full_id, Permission.CA_CONFIGURE)
        if ca.kind != "external-root":
            raise Refused(f'"{full_id}" is no external root.', code="not-external-root", remedy="Renew it instead.")
        root = _root_of(certificate)
        check_root_certificate(root, tx.now)
        if root.subject.key != ca.subject.key:
            raise Refused(
                f'The certificate is of "{root.subject}", not of "{ca.subject}".',
                code="root-other-subject",
                remedy="Add it as another external root.",
            )
        generation = next((g for g, key in ca.keys.items() if key.spki == root.spki), None)
        if generation is None:
            generation = max(ca.keys) + 1
            await add_key(tx, ca.id, generation, root.spki, state="pending", key_id=None, identifier=root.ski)
        await add_certificate(tx, ca.id, generation, root)
        if generation > ca.generation:
            await make_current(tx, ca.id, generation, root.spki)
        audit.record(
            tx, principal, "ca.replace-certificate", "ca", full_id, organization=ca.organization,
            generation=generation, **_facts(root), **_warnings(root),
        )  # fmt: skip
        snapshot = await change.read()
        return await details(tx, snapshot, snapshot.cas[ca.id])


async def upload_certificate(
    authority: Authority, principal: Principal, full_id: str, certificate: bytes | str
) -> CaDetails:
    """Take the certificate that an external root made for the outstanding request of an issuing CA.

    Needs ``ca.configure``. Raises NotFound, InvalidInput (unreadable), StateConflict (nothing is awaited), Refused with
    the first rule that is broken (``ca-certificate-...``: key, issuer, signature, CA flag, key usage, dates, subject);
    then the CA keeps waiting.
    """
    async with changing(authority, principal, Permission.CA_CONFIGURE) as change:
        tx, snapshot = change.tx, await change.locked()
        ca = await require_ca(tx, snapshot, principal, full_id, Permission.CA_CONFIGURE)
        request = await pending_request(tx, ca)
        expected = ca.keys[request.generation].spki
        uploaded = _certificate_for(read_certificates(certificate), expected)
        issuer = _issuer_of(uploaded, snapshot.cas[ca.issuer_id] if ca.issuer_id else ca)
        verify_ca_certificate(uploaded, issuer, expected, tx.now)
        if uploaded.subject.key != ca.subject.key:
            raise Refused(
                f'The certificate is for "{uploaded.subject}", not for "{ca.subject}".',
                code="ca-certificate-wrong-subject",
                remedy="Have the request signed without changing its subject.",
            )
        await add_certificate(tx, ca.id, request.generation, uploaded)
        await make_current(tx, ca.id, request.generation, expected)
        # How the external CA encoded the name is how it stands in what this CA issues.
        await tx.execute(update(models.ca).where(models.ca.c.id == ca.id).values(subject_der=uploaded.subject.der))
        await tx.execute(delete(models.ca_request).where(models.ca_request.c.ca_id == ca.id))
        audit.record(
            tx, principal, "ca.upload-certificate", "ca", full_id, organization=ca.organization,
            generation=request.generation, **_facts(uploaded),
        )  # fmt: skip
        snapshot = await change.read()
        return await details(tx, snapshot, snapshot.cas[ca.id])


def _root_of(data: bytes | str) -> CertificateInfo:
    """The root in a certificate or bundle; the only certificate whatever it is, so that its own defect is named."""
    found = read_certificates(data)
    roots = [each for each in found if each.is_self_issued] or found
    if len({each.der for each in roots}) > 1:
        raise InvalidInput(
            "There are several certificates, and it is not clear which is the root.",
            code="root-ambiguous",
            remedy="Send the root certificate alone.",
            target="certificate",
        )
    return roots[0]


def _certificate_for(found: list[CertificateInfo], spki: bytes) -> CertificateInfo:
    return next((each for each in found if each.spki == spki), found[0])


def _issuer_of(uploaded: CertificateInfo, issuer: CaView) -> CertificateInfo:
    """The certificate of that key of the issuer which signed, or of its current key."""
    for key in sorted(issuer.keys.values(), key=lambda key: -key.generation):
        if key.certificate is not None and uploaded.verify_signed_by(key.spki):
            return key.certificate
    return issuer.certificate


def _facts(certificate: CertificateInfo) -> dict[str, Any]:
    return {
        "subject": certificate.subject.rfc4514,
        "serial": serial_hex(certificate.serial),
        "fingerprint": certificate.fingerprint.hex(),
        "not_after": rfc3339(certificate.not_after),
    }


def _warnings(root: CertificateInfo) -> dict[str, Any]:
    found = root_warnings(root)
    return {"warnings": list(found)} if found else {}
