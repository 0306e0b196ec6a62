"""The registry of identities: who there is in a trust domain, and what certificates of each say.

Whoever has ``mtls.identities`` keeps it; with ``mtls.own`` one sees and uses what one owns. Requesters never get to say
anything about themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Select, insert, select, update

from intaglio.audit import record as audit
from intaglio.authority.access import memberships_of, sees_all
from intaglio.core.errors import Forbidden, InvalidInput, NotFound, StateConflict
from intaglio.core.principal import Permission, Principal
from intaglio.db.engine import Row, Transaction
from intaglio.db.listing import Listing, ListQuery
from intaglio.mtls.context import Mtls
from intaglio.mtls.identities import domains, models, ownership
from intaglio.mtls.identities.registration import IdentityChanges as IdentityChanges
from intaglio.mtls.identities.registration import NewIdentity as NewIdentity
from intaglio.mtls.identities.registration import checked_attributes, checked_rows, new_ones, require_address_free
from intaglio.mtls.identities.secrets import server_secret
from intaglio.mtls.identities.values import Identity, Kind, TrustDomain

MOST_AT_ONCE = 10_000
_NAMES_FROM = "identity-names"


@dataclass(frozen=True)
class IdentityPage:
    """A page of identities; ``next_cursor`` is None at the end."""

    identities: Sequence[Identity]
    next_cursor: str | None
    total: int | None


async def add_identity(mtls: Mtls, principal: Principal, wanted: NewIdentity) -> Identity:
    """Register an identity. Needs ``mtls.identities`` in the organization of the trust domain.

    Raises NotFound (trust domain), InvalidInput, Refused (``attribute-missing``, ``dns-name-outside-domain``),
    StateConflict (``identity-exists``, trust domain retired).
    """
    return (await add_identities(mtls, principal, [wanted]))[0]


async def add_identities(
    mtls: Mtls, principal: Principal, wanted: Sequence[NewIdentity], *, skip_existing: bool = False
) -> list[Identity]:
    """Register many identities: all of them, or none. Returns those that are new.

    With ``skip_existing`` those that are there already (for users: of the same e-mail address) are left alone. Raises
    like :func:`add_identity`; with several wrong ones ``fields`` names each by its position (``[3]``).
    """
    principal.require(Permission.MTLS_IDENTITIES)
    if not 0 < len(wanted) <= MOST_AT_ONCE:
        raise InvalidInput(f"Register 1 to {MOST_AT_ONCE} identities at once.", code="too-many", target="identities")
    async with mtls.database.transaction() as tx:
        known = {name: await _open_domain(tx, principal, name) for name in dict.fromkeys(w.domain for w in wanted)}
        secret = await server_secret(tx, mtls.master_key, _NAMES_FROM)
        rows = checked_rows(wanted, known, secret, principal, tx)
        rows = await new_ones(tx, rows, skip_existing=skip_existing)
        accounts = await ownership.accounts_of(tx, {row["owner"] for row in rows})
        rows = [row | {"owner_id": accounts.get(row["owner"])} for row in rows]
        if rows:
            await tx.execute(insert(models.identity), rows)
        by_id = {domain.id: domain for domain in known.values()}
        added = [identity_of(row, by_id[row["domain_id"]]) for row in rows]
        for identity in added:
            note(tx, principal, "add", identity, attributes=_facts(identity))
        return added


async def list_identities(mtls: Mtls, principal: Principal, asked: ListQuery) -> IdentityPage:
    """A page of the identities that the principal sees, newest first unless told otherwise.

    Needs ``mtls.view``; with ``mtls.own`` alone one sees what one owns. ``asked.filter`` knows id, domain, environment,
    kind, name, display_name, email, team, service, version, owner, state and created_at; sorted by id, name or
    created_at. Raises InvalidInput.
    """
    domains.require_reader(principal)
    i, d = models.identity.c, models.trust_domain.c
    query = select(models.identity).join(models.trust_domain, d.id == i.domain_id)
    columns = {
        "id": i.id, "domain": d.name, "environment": d.environment, "kind": i.kind, "name": i.name,
        "display_name": i.display_name, "email": i.email, "team": i.team, "service": i.service, "version": i.version,
        "owner": i.owner, "state": i.state, "created_at": i.created_at,
    }  # fmt: skip
    sortable = frozenset({"id", "name", "created_at"})
    listing = Listing(query.where(*visible_to(principal)), columns, identity=i.id, sort="-id", sortable=sortable)
    async with mtls.database.read() as view:
        page = await listing.page(view, asked)
        known = await domains.load_by_ids(view, (row["domain_id"] for row in page.rows))
    found = [identity_of(row, known[row["domain_id"]]) for row in page.rows]
    return IdentityPage(found, page.next_cursor, page.total)


async def get_identity(mtls: Mtls, principal: Principal, reference: UUID | str) -> Identity:
    """One identity: by id, SPIFFE ID, ``name``, ``kind:name`` or ``kind:name@trust-domain``.

    Needs ``mtls.view``, or ``mtls.own`` for what one owns. Raises NotFound, StateConflict (``identity-ambiguous``).
    """
    domains.require_reader(principal)
    async with mtls.database.read() as view:
        return await visible_identity(view, principal, reference)


async def edit_identity(
    mtls: Mtls, principal: Principal, reference: UUID | str, changes: IdentityChanges
) -> Identity:
    """Change what is registered; certificates say so from the next one on. Needs ``mtls.identities``.

    An owner who is named, be it the same one again, is the one whose account has the name now.

    Raises NotFound, InvalidInput, Refused (``attribute-missing``, ``dns-name-outside-domain``), StateConflict for a
    retired one and for an address that somebody else has (``email-taken``).
    """
    principal.require(Permission.MTLS_IDENTITIES)
    async with mtls.database.transaction() as tx:
        identity = await locked_identity(tx, principal, reference)
        given = {name: value for name, value in vars(changes).items() if value is not None}
        wanted = NewIdentity(
            domain=identity.domain.name,
            kind=identity.kind,
            **{name: given.get(name, getattr(identity, name)) for name in vars(IdentityChanges())},
        )
        values = checked_attributes(wanted, identity.kind, identity.domain, identity.name) | {"changed_at": tx.now}
        await require_address_free(tx, identity, values["email"])
        if changes.owner is not None:
            values["owner_id"] = (await ownership.accounts_of(tx, [values["owner"]])).get(values["owner"])
        i = models.identity
        await tx.execute(update(i).where(i.c.id == identity.id).values(**values))
        changed = await load_identity(tx, identity.id)
        before, after = _facts(identity), _facts(changed)
        note(tx, principal, "edit", changed, changed={k: v for k, v in after.items() if before[k] != v})
        return changed


# ---- for the modules beside this one ---------------------------------------------------------------------------------


def visible_to(principal: Principal) -> list[ColumnElement[bool]]:
    """The conditions on ``mtls_identity`` joined with ``mtls_trust_domain`` for what the principal sees."""
    conditions: list[ColumnElement[bool]] = []
    if not sees_all(principal):
        conditions.append(models.trust_domain.c.organization_id.in_(memberships_of(principal.name)))
        if principal.kind != "user":
            conditions.append(models.identity.c.id.is_(None))
    if not (principal.may(Permission.MTLS_VIEW) or principal.may(Permission.MTLS_IDENTITIES)):
        conditions.append(ownership.owned_by(principal))
    return conditions


async def visible_identity(view: Transaction, principal: Principal, reference: UUID | str) -> Identity:
    """Like :func:`get_identity`, in a transaction."""
    query = _identities().where(_refers_to(reference), *visible_to(principal)).limit(3)
    rows = await view.all(query)
    if not rows:
        raise identity_unknown(str(reference))
    if len(rows) > 1:
        raise StateConflict(
            f'"{str(reference)[:80]}" names several identities.',
            code="identity-ambiguous",
            remedy="Write kind:name@trust-domain, or the id.",
        )
    known = await domains.load_by_ids(view, [rows[0]["domain_id"]])
    return identity_of(rows[0], known[rows[0]["domain_id"]])


async def locked_identity(tx: Transaction, principal: Principal, reference: UUID | str) -> Identity:
    """The identity, nobody else changing it until the end. Raises NotFound, StateConflict when it is retired."""
    found = await visible_identity(tx, principal, reference)
    await tx.scalar(select(models.identity.c.id).where(models.identity.c.id == found.id).with_for_update())
    identity = await load_identity(tx, found.id)
    if identity.state == "retired":
        raise StateConflict(f'The identity "{identity.name}" is retired.', code="identity-retired")
    return identity


async def load_identity(view: Transaction, identity_id: UUID, *, keep: bool = False) -> Identity:
    """The identity, whoever may see it; with ``keep`` it stays as it is until the end. Raises NotFound."""
    query = _identities().where(models.identity.c.id == identity_id)
    row = await view.one_or_none(query.with_for_update(read=True, of=models.identity) if keep else query)
    if row is None:
        raise identity_unknown(str(identity_id))
    known = await domains.load_by_ids(view, [row["domain_id"]])
    return identity_of(row, known[row["domain_id"]])


async def load_identities(view: Transaction, ids: Sequence[UUID]) -> dict[UUID, Identity]:
    """Identities by id, whoever may see them."""
    rows = await view.all(_identities().where(models.identity.c.id.in_(ids)))
    known = await domains.load_by_ids(view, (row["domain_id"] for row in rows))
    return {row["id"]: identity_of(row, known[row["domain_id"]]) for row in rows}


async def find_by_uri(view: Transaction, uri: str) -> Identity | None:
    """The identity with this SPIFFE ID, whoever may see it; None when there is none (any more)."""
    row = await view.one_or_none(_identities().where(_refers_to(uri))) if uri.startswith("spiffe://") else None
    if row is None:
        return None
    found = identity_of(row, (await domains.load_by_ids(view, [row["domain_id"]]))[row["domain_id"]])
    return found if found.uri == uri else None


async def find_by_name(view: Transaction, domain: str, kind: Kind, name: str) -> Identity | None:
    """The identity of this kind and name in a trust domain, whoever may see it; None when there is none."""
    i, d = models.identity.c, models.trust_domain.c
    row = await view.one_or_none(_identities().where(d.name == domain, i.kind == kind.value, i.name == name))
    return None if row is None else identity_of(row, await domains.load_by_name(view, domain))


async def require_may_use(view: Transaction, principal: Principal, identity: Identity) -> None:
    """Raise Forbidden or NotFound for who may not get or end certificates of an identity: anybody but itself, its owner
    and whoever keeps the registry."""
    if principal.kind == "system" or (principal.kind == "identity" and principal.name == identity.uri):
        return
    if principal.kind == "identity":
        raise Forbidden("An identity acts for itself only.", code="identity-foreign")
    if not (principal.may(Permission.MTLS_OWN) and await ownership.owns(view, principal, identity.id)):
        principal.require(Permission.MTLS_IDENTITIES)
    await domains.require_visible(view, principal, identity.domain)


def require_active(identity: Identity) -> None:
    """Raise Forbidden (``identity-suspended``, ``identity-retired``) or StateConflict (``domain-not-active``)."""
    if identity.state != "active":
        raise Forbidden(
            f'The identity "{identity.name}" is {identity.state}.',
            code=f"identity-{identity.state}",
            remedy="Ask whoever keeps the registry of identities.",
        )
    if identity.domain.state not in ("active", "rotating"):
        raise StateConflict(
            f'The trust domain "{identity.domain.name}" is {identity.domain.state}.',
            code="domain-not-active",
            remedy="Give it an issuing CA." if identity.domain.state == "draft" else "Use another trust domain.",
        )


def identity_of(row: Row, domain: TrustDomain) -> Identity:
    """The identity in a row of ``mtls_identity``."""
    return Identity(
        id=row["id"],
        domain=domain,
        kind=Kind(row["kind"]),
        name=row["name"],
        display_name=row["display_name"],
        email=row["email"],
        team=row["team"],
        service=row["service"],
        roles=tuple(row["roles"]),
        version=row["version"],
        owner=row["owner"],
        owner_confirmed=row["owner_id"] is not None,
        state=row["state"],
        dns_names=tuple(row["dns_names"]),
        created_at=row["created_at"],
        properties=dict(row["properties"]),
    )


def note(tx: Transaction, principal: Principal, verb: str, identity: Identity, **facts: Any) -> None:
    """Record a change of an identity."""
    audit.record(
        tx, principal, f"identity.{verb}", "identity", identity.uri, organization=identity.domain.organization,
        id=str(identity.id), **facts,
    )  # fmt: skip


def identity_unknown(reference: str) -> NotFound:
    """The refusal of an identity that does not exist, or that the caller may not know of."""
    return NotFound(f'There is no identity "{reference[:80]}".', code="identity-unknown", target="identity")


# ---- steps -----------------------------------------------------------------------------------------------------------


def _identities() -> Select[Any]:
    i, d = models.identity, models.trust_domain
    return select(i).join(d, d.c.id == i.c.domain_id)


def _refers_to(reference: UUID | str) -> ColumnElement[bool]:
    i, d = models.identity.c, models.trust_domain.c
    if isinstance(reference, UUID):
        return i.id == reference
    try:
        return i.id == UUID(reference)
    except ValueError:
        pass
    if reference.startswith("spiffe://"):
        domain, _, path = reference.removeprefix("spiffe://").partition("/")
        kind, name = (["", *path.split("/")])[-2:]
        return (d.name == domain) & (i.name == name) & (i.kind == ("service" if kind == "svc" else kind))
    text, _, domain = reference.partition("@")
    kind, colon, name = text.partition(":")
    conditions = i.name == (name if colon else kind)
    if colon:
        conditions &= i.kind == kind
    return conditions & (d.name == domain) if domain else conditions


async def _open_domain(tx: Transaction, principal: Principal, name: str) -> TrustDomain:
    domain = await domains.visible_domain(tx, principal, name)
    if domain.state == "retired":
        raise StateConflict(f'The trust domain "{name}" is retired.', code="domain-retired")
    return domain


def _facts(identity: Identity) -> dict[str, Any]:
    """What the audit trail says; an e-mail address is in the registry only."""
    return {
        "team": identity.team,
        "service": identity.service,
        "roles": list(identity.roles),
        "version": identity.version,
        "owner": identity.owner,
        "owner_confirmed": identity.owner_confirmed,
        "dns_names": list(identity.dns_names),
        "properties": sorted(identity.properties),
    }


