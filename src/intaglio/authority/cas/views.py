"""Showing CAs: details, lists, certificates and chains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import select

from intaglio.authority import models
from intaglio.authority.access import require_ca, require_organization, visible_organizations
from intaglio.authority.cas.requests import requested_path_length
from intaglio.authority.cas.values import CaDetails
from intaglio.authority.client_users import ADMINISTRATOR, AUDITOR, rights_on_all
from intaglio.authority.context import Authority
from intaglio.authority.directory import CaView, Snapshot
from intaglio.core.errors import NotFound
from intaglio.core.identifiers import serial_hex
from intaglio.core.principal import Permission, Principal
from intaglio.db.engine import Transaction
from intaglio.keystore.models import private_key
from intaglio.x509.certificates import CertificateInfo
from intaglio.x509.paths import root_warnings

#: CAs that people create; the others belong to an organization or to the platform itself.
PUBLIC_KINDS = ("root", "external-root", "issuing")


async def list_cas(
    authority: Authority,
    principal: Principal,
    *,
    organization: str | None = None,
    internal: bool = False,
    deleted: bool = False,
) -> list[CaDetails]:
    """The CAs the principal sees, by organization and id. Needs ``ca.view``.

    ``internal`` adds client and platform CAs, ``deleted`` the tombstones. Raises NotFound for an ``organization`` that
    the principal does not see.
    """
    principal.require(Permission.CA_VIEW)
    snapshot = await authority.current()
    async with authority.database.read() as view:
        if organization is not None:
            visible = {(await require_organization(view, principal, organization, Permission.CA_VIEW)).id}
        else:
            visible = {each.id for each in await visible_organizations(view, principal)}
        shown = [
            ca
            for ca in snapshot.cas.values()
            if ca.organization_id in visible
            and (internal or ca.kind in PUBLIC_KINDS)
            and (deleted or ca.state != "deleted")
        ]
        return await _all_details(view, snapshot, sorted(shown, key=lambda ca: (ca.full_id, ca.id)))


async def get_ca(authority: Authority, principal: Principal, full_id: str) -> CaDetails:
    """One CA. Needs ``ca.view``. Raises NotFound."""
    snapshot = await authority.current()
    async with authority.database.read() as view:
        ca = await require_ca(view, snapshot, principal, full_id, Permission.CA_VIEW)
        return await details(view, snapshot, ca)


async def get_chain(
    authority: Authority, principal: Principal, full_id: str, *, generation: int | None = None
) -> tuple[bytes, ...]:
    """The certificate of a CA and those of its issuers up to the root, DER. Needs ``ca.view``.

    ``generation`` chooses an earlier key. Raises NotFound, StateConflict while there is no certificate.
    """
    snapshot = await authority.current()
    async with authority.database.read() as view:
        ca = await require_ca(view, snapshot, principal, full_id, Permission.CA_VIEW)
    wanted = ca.key.generation if generation is None else generation
    if wanted not in ca.chains:
        raise NotFound(f'CA "{full_id}" has no certificate of generation {wanted}.', code="generation-unknown")
    return ca.chains[wanted]


async def details(view: Transaction, snapshot: Snapshot, ca: CaView) -> CaDetails:
    """Everything that is shown of a CA."""
    [shown] = await _all_details(view, snapshot, [ca])
    return shown


async def _all_details(view: Transaction, snapshot: Snapshot, cas: Sequence[CaView]) -> list[CaDetails]:
    """The same of many, with as many queries as for one."""
    ids = [ca.id for ca in cas]
    c, r = models.ca.c, models.ca_request.c
    rows = {row["id"]: row for row in await view.all(select(models.ca).where(c.id.in_(ids)))}
    pending = {row["ca_id"]: row["csr"] for row in await view.all(select(r.ca_id, r.csr).where(r.ca_id.in_(ids)))}
    rights = await rights_on_all(view, ids)
    providers = await _providers(view, [ca.key.key_id for ca in cas if ca.generation])
    return [
        _details(snapshot, ca, rows[ca.id], rights.get(ca.id, {}), pending.get(ca.id), providers) for ca in cas
    ]


async def _providers(view: Transaction, key_ids: Sequence[UUID | None]) -> dict[UUID | None, str]:
    """Where private keys are, by their ids."""
    c = private_key.c
    return {row["id"]: row["provider"] for row in await view.all(select(c.id, c.provider).where(c.id.in_(key_ids)))}


def _details(
    snapshot: Snapshot,
    ca: CaView,
    row: Mapping[Any, Any],
    rights: Mapping[str, str],
    request: bytes | None,
    providers: Mapping[UUID | None, str],
) -> CaDetails:
    key = ca.key if ca.generation else None
    certificate = key.certificate if key else None
    issuer = snapshot.cas.get(ca.issuer_id) if ca.issuer_id else None
    return CaDetails(
        id=ca.full_id,
        organization=ca.organization,
        name=ca.name,
        type=f"ca-{ca.kind}",
        state=ca.state,
        label=ca.label,
        subject=ca.subject.rfc4514,
        issuer=issuer.full_id if issuer else None,
        has_key=ca.has_key,
        key_algorithm=ca.algorithm,
        key_provider=providers.get(key.key_id) if key else None,
        signature_algorithm=ca.algorithm.signature_name if ca.algorithm else None,
        retirement_note=ca.algorithm.retirement_note if ca.algorithm else None,
        ocsp_key_algorithm=ca.ocsp_algorithm,
        generation=ca.generation,
        serial_number=serial_hex(certificate.serial) if certificate else None,
        fingerprint=certificate.fingerprint.hex() if certificate else None,
        certificate_status=key.certificate_status if key else None,
        not_before=certificate.not_before if certificate else None,
        not_after=certificate.not_after if certificate else row["requested_not_after"],
        path_length=_path_length(certificate, request),
        request_pending=request is not None,
        profiles=ca.profile_ids,
        administrators=_having(rights, ADMINISTRATOR),
        auditors=_having(rights, AUDITOR),
        tenants=tuple(name for name, right in rights.items() if right not in (ADMINISTRATOR, AUDITOR)),
        options=ca.options,
        created_by=row["created_by"],
        created_at=row["created_at"],
        deleted_at=row["deleted_at"],
        reserved_until=row["reserved_until"],
        warnings=root_warnings(certificate) if ca.kind == "external-root" and certificate else (),
    )


def _path_length(certificate: CertificateInfo | None, request: bytes | None) -> int | None:
    """What the certificate says, or what the request for the first one asks for."""
    if certificate is not None:
        return certificate.path_len
    return None if request is None else requested_path_length(request)


def _having(rights: Mapping[str, str], wanted: str) -> tuple[str, ...]:
    return tuple(name for name, right in rights.items() if right == wanted)
