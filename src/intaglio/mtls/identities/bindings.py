"""Bindings: which certificate was issued for which identity, when, in what way, and to whom.

What is personal (e-mail address, network address, user agent) is sealed; what is searched for is not.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Select, case, func, select

from intaglio.authority import models as authority_models
from intaglio.authority.certificates import RevocationReason
from intaglio.core.errors import NotFound
from intaglio.core.identifiers import serial_hex
from intaglio.core.principal import Principal
from intaglio.core.secrets import MasterKey
from intaglio.db.engine import Row, Transaction
from intaglio.db.listing import Listing, ListQuery
from intaglio.mtls.context import Mtls
from intaglio.mtls.identities import domains, models, registry
from intaglio.mtls.identities.values import Channel, Kind


@dataclass(frozen=True)
class Details:
    """What a binding keeps sealed: who asked, from where, with what."""

    email: str = ""
    source: str = ""
    user_agent: str = ""


@dataclass(frozen=True)
class Binding:
    """The binding of a certificate to an identity.

    ``state`` is valid, expired, held, revoked or superseded (valid, but renewed by ``replaced_by``); ``ca`` is
    ``{organization}~{ca}``; ``details`` is None where it was not opened.
    """

    id: UUID
    identity_id: UUID
    domain: str
    kind: Kind
    name: str
    ca_id: UUID
    ca: str
    serial: bytes
    certificate_sha256: bytes
    spki_sha256: bytes
    not_before: datetime
    not_after: datetime
    channel: Channel
    code_id: UUID | None
    replaced_by: UUID | None
    state: str
    revoked_at: datetime | None
    reason: RevocationReason | None
    created_at: datetime
    details: Details | None = None

    @property
    def serial_hex(self) -> str:
        return serial_hex(self.serial)


@dataclass(frozen=True)
class BindingPage:
    """A page of bindings; ``next_cursor`` is None at the end."""

    bindings: Sequence[Binding]
    next_cursor: str | None
    total: int | None


def purpose_of(binding_id: UUID) -> str:
    """What the sealed details of a binding are bound to."""
    return f"binding:{binding_id}"


def seal(master_key: MasterKey, binding_id: UUID, details: Details) -> bytes:
    """The sealed details."""
    return master_key.seal(json.dumps(vars(details)).encode(), purpose=purpose_of(binding_id))


def unseal(master_key: MasterKey, binding_id: UUID, sealed: bytes) -> Details:
    """The details. Raises Unavailable when they cannot be opened."""
    return Details(**json.loads(master_key.open(sealed, purpose=purpose_of(binding_id))))


async def list_bindings(mtls: Mtls, principal: Principal, asked: ListQuery) -> BindingPage:
    """A page of bindings, newest first unless told otherwise, without their sealed details.

    Needs ``mtls.view``; with ``mtls.own`` alone one sees those of what one owns. ``asked.filter`` knows id, identity
    (its id), domain, kind, name, ca, serial and certificate (SHA-256, both hexadecimal), channel, state, not_after and
    created_at; sorted by id or not_after. Raises InvalidInput.
    """
    domains.require_reader(principal)
    b, i, d = models.binding.c, models.identity.c, models.trust_domain.c
    columns = {
        "id": b.id, "identity": b.identity_id, "domain": d.name, "kind": i.kind, "name": i.name, "ca": b.ca,
        "serial": b.serial, "certificate": b.certificate_sha256, "channel": b.channel, "state": _STATE,
        "not_after": b.not_after, "created_at": b.created_at,
    }  # fmt: skip
    query = bindings_query().where(*registry.visible_to(principal))
    listing = Listing(query, columns, identity=b.id, sort="-id", sortable=frozenset({"id", "not_after"}))
    async with mtls.database.read() as view:
        page = await listing.page(view, asked)
    return BindingPage([binding_of(row) for row in page.rows], page.next_cursor, page.total)


async def get_binding(mtls: Mtls, principal: Principal, binding_id: UUID) -> Binding:
    """One binding with its details opened. Needs ``mtls.view``, or ``mtls.own`` for what one owns. Raises NotFound."""
    domains.require_reader(principal)
    async with mtls.database.read() as view:
        query = bindings_query().where(models.binding.c.id == binding_id, *registry.visible_to(principal))
        row = await view.one_or_none(query)
    if row is None:
        raise binding_unknown(str(binding_id))
    return binding_of(row, unseal(mtls.master_key, row["id"], row["sealed"]))


async def binding_of_certificate(view: Transaction, sha256: bytes) -> Binding | None:
    """The binding of the certificate with this SHA-256, whoever may see it; None when it is no identity's."""
    row = await view.one_or_none(bindings_query().where(models.binding.c.certificate_sha256 == sha256))
    return None if row is None else binding_of(row)


async def live_bindings(view: Transaction, identity_id: UUID) -> list[Binding]:
    """The bindings of an identity whose certificates are neither expired nor revoked, oldest first."""
    b, c = models.binding.c, authority_models.certificate.c
    query = bindings_query().where(b.identity_id == identity_id, b.not_after > view.now, c.status != "revoked")
    return [binding_of(row) for row in await view.all(query.order_by(b.id))]


async def bindings_of(view: Transaction, ids: Sequence[UUID]) -> list[Binding]:
    """The bindings with these ids, oldest first, whoever may see them."""
    query = bindings_query().where(models.binding.c.id.in_(ids)).order_by(models.binding.c.id)
    return [binding_of(row) for row in await view.all(query)]


async def still_trusted(view: Transaction, binding_id: UUID, *, keep: bool = False) -> bool:
    """Whether the CA of a binding's certificate counts in its trust domain, and neither it nor one above it was
    deleted; with ``keep`` that stays so until the end."""
    b, m, ca = models.binding.c, models.domain_ca.c, authority_models.ca
    member = select(m.ca_id).join(models.binding, (b.domain_id == m.domain_id) & (b.ca_id == m.ca_id))
    member = member.where(b.id == binding_id)
    ca_id = await view.scalar(member.with_for_update(read=True, of=models.domain_ca) if keep else member)
    if ca_id is None:
        return False
    above = select(ca.c.id, ca.c.issuer_id).where(ca.c.id == ca_id).cte("above", recursive=True)
    above = above.union(select(ca.c.id, ca.c.issuer_id).where(ca.c.id == above.c.issuer_id))
    states = select(ca.c.state).where(ca.c.id.in_(select(above.c.id)))
    rows = await view.all(states.with_for_update(read=True) if keep else states)
    return all(row["state"] != "deleted" for row in rows)


def bindings_query() -> Select[Any]:
    """Bindings with the name of their identity and the status of their certificate."""
    b, i, d, c = models.binding, models.identity, models.trust_domain, authority_models.certificate
    return (
        select(
            b, i.c.name, i.c.kind, d.c.name.label("domain"), _STATE.label("state"), c.c.revoked_at, c.c.reason,
        )
        .join(i, i.c.id == b.c.identity_id)
        .join(d, d.c.id == i.c.domain_id)
        .join(c, c.c.id == b.c.id)
    )  # fmt: skip


_STATE = case(
    (authority_models.certificate.c.status != "valid", authority_models.certificate.c.status),
    (models.binding.c.not_after < func.now(), "expired"),
    (models.binding.c.replaced_by.is_not(None), "superseded"),
    else_="valid",
)


def binding_of(row: Row, details: Details | None = None) -> Binding:
    """The binding in a row of :func:`bindings_query`."""
    return Binding(
        id=row["id"],
        identity_id=row["identity_id"],
        domain=row["domain"],
        kind=Kind(row["kind"]),
        name=row["name"],
        ca_id=row["ca_id"],
        ca=row["ca"],
        serial=row["serial"],
        certificate_sha256=row["certificate_sha256"],
        spki_sha256=row["spki_sha256"],
        not_before=row["not_before"],
        not_after=row["not_after"],
        channel=Channel(row["channel"]),
        code_id=row["code_id"],
        replaced_by=row["replaced_by"],
        state=row["state"],
        revoked_at=row["revoked_at"],
        reason=None if row["reason"] is None else RevocationReason(row["reason"]),
        created_at=row["created_at"],
        details=details,
    )


def binding_unknown(reference: str) -> NotFound:
    """The refusal of a binding that does not exist, or that the caller may not know of."""
    return NotFound(f'There is no binding "{reference[:80]}".', code="binding-unknown", target="binding")
