"""Logging in to the platform with one's certificate instead of a password.

A certificate logs in to an account only after its owner has linked the two: in one request that proves both, with a
session of the account and the certificate. Nothing in a certificate, its e-mail address least of all, makes its holder
an administrator by itself; nor does another certificate of the same person, since whoever makes security codes could
get one. What counts is the certificate that was linked, and those that renewed it, each proved by the one before.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Select, delete, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from intaglio.audit.record import record
from intaglio.authority import models as authority_models
from intaglio.core.errors import Forbidden, NotFound, Unauthenticated
from intaglio.core.principal import Permission, Principal
from intaglio.db.engine import Transaction
from intaglio.identity import sessions
from intaglio.identity.models import user_account
from intaglio.identity.schemas import Login
from intaglio.identity.users import load_account, to_user
from intaglio.mtls.context import Mtls
from intaglio.mtls.enrolment.models import account_login as table
from intaglio.mtls.enrolment.sessions import Visitor
from intaglio.mtls.identities import models as identities
from intaglio.mtls.identities.bindings import Binding, still_trusted
from intaglio.mtls.identities.values import Identity, Kind


@dataclass(frozen=True)
class Link:
    """A person's certificates log in to an account."""

    identity_id: UUID
    identity: str
    user: str
    linked_at: datetime


async def link(mtls: Mtls, identity: Identity, binding: Binding, bearer: str, visitor: Visitor) -> Link:
    """Let a certificate of a person, and its renewals, log in to the account of a session.

    Whoever calls has judged the certificate; ``binding`` is its own.

    Raises Unauthenticated (session), Forbidden (``session-required``: an API token may be able to do less than its
    user; ``identity-not-a-person``).
    """
    user = await sessions.authenticate(mtls.database, bearer, source=visitor.source)
    if user.token_id is not None:
        raise Forbidden(
            "A certificate is linked in a session, not with an API token.",
            code="session-required",
            remedy="Log in with name and password first.",
        )
    if identity.kind is not Kind.USER:
        raise Forbidden(
            f"The certificate is that of a {identity.kind.value}; people log in.", code="identity-not-a-person"
        )
    async with mtls.database.transaction() as tx:
        account = to_user(await load_account(tx, user.name))
        await _end_sessions(tx, identity.id)
        values = {"user_id": account.id, "binding_id": binding.id, "linked_at": tx.now}
        statement = upsert(table).values(identity_id=identity.id, **values)
        await tx.execute(statement.on_conflict_do_update(index_elements=["identity_id"], set_=values))
        record(
            tx, user, "user.link-certificate", "user", account.name, identity=identity.uri, serial=binding.serial_hex
        )
        return Link(identity.id, identity.uri, account.name, tx.now)


async def log_in(mtls: Mtls, identity: Identity, binding: Binding, visitor: Visitor) -> Login:
    """A session of the account that a certificate logs in to. Whoever calls has judged it; ``binding`` is its own.

    Raises Unauthenticated (``certificate-not-linked``, ``login-failed``; ``revoked`` and ``unknown_ca`` for what
    happened since).
    """
    async with mtls.database.transaction() as tx:
        query = select(user_account).join(table, table.c.user_id == user_account.c.id)
        row = await tx.one_or_none(
            query.where(table.c.identity_id == identity.id, table.c.binding_id.in_(_renewed_by(binding)))
        )
        if row is None:
            raise Unauthenticated(
                "The certificate logs in to no account.",
                code="certificate-not-linked",
                remedy="Log in with name and password once, and link the certificate; a renewal keeps the link.",
            )
        if row["disabled"] or row["must_change_password"]:
            raise Unauthenticated(
                "The account cannot log in with a certificate at the moment.",
                code="login-failed",
                remedy="Log in with name and password, or ask an administrator.",
            )
        user = to_user(row)
        await tx.execute(update(user_account).where(user_account.c.id == user.id).values(last_login_at=tx.now))
        await _require_valid(tx, binding)
        secret, expires_at = await sessions.open_session(
            tx, user, certificate_id=binding.id, not_beyond=binding.not_after
        )
        principal = Principal("user", user.name, source=visitor.source)
        record(tx, principal, "user.login", "user", user.name, certificate_of=identity.uri)
    return Login(user=user, secret=secret, expires_at=expires_at, password_change_required=False)


async def list_links(mtls: Mtls, principal: Principal) -> list[Link]:
    """One's own links; with ``users.manage`` those of everybody."""
    async with mtls.database.read() as view:
        return await _links(view, principal)


async def unlink(mtls: Mtls, principal: Principal, identity_id: UUID) -> None:
    """End a link and the sessions it opened, one's own or with ``users.manage`` anybody's. Raises NotFound
    (``link-unknown``)."""
    async with mtls.database.transaction() as tx:
        found = next((each for each in await _links(tx, principal) if each.identity_id == identity_id), None)
        if found is None:
            raise NotFound("No such certificate login is known.", code="link-unknown", target="identity")
        await tx.execute(delete(table).where(table.c.identity_id == identity_id))
        await _end_sessions(tx, identity_id)
        record(tx, principal, "user.unlink-certificate", "user", found.user, identity=found.identity)


async def _require_valid(tx: Transaction, binding: Binding) -> None:
    """Raise Unauthenticated for a certificate that was revoked or held since it was judged, or whose CA was dropped or
    deleted; it all stays until the end, so whoever ends it finds the session."""
    c = authority_models.certificate.c
    if await tx.scalar(select(c.status).where(c.id == binding.id).with_for_update(read=True)) != "valid":
        raise Unauthenticated("The certificate is not valid any more.", code="revoked", remedy="Enrol again.")
    if not await still_trusted(tx, binding.id, keep=True):
        raise Unauthenticated(
            "The CA of the certificate is not trusted any more.", code="unknown_ca", remedy="Enrol again."
        )


async def _end_sessions(tx: Transaction, identity_id: UUID) -> None:
    """End the sessions that certificates of an identity opened."""
    b = identities.binding.c
    rows = await tx.all(select(b.id).where(b.identity_id == identity_id, b.not_after > tx.now))
    await sessions.end_sessions_of(tx, [row["id"] for row in rows])


def _renewed_by(binding: Binding) -> Select[Any]:
    """The bindings that led to this one by renewals, itself included."""
    b = identities.binding
    line = select(b.c.id).where(b.c.id == binding.id).cte("line", recursive=True)
    before = select(b.c.id).join(line, b.c.replaced_by == line.c.id)
    return select(line.union(before.where(b.c.identity_id == binding.identity_id)).c.id)


async def _links(view: Transaction, principal: Principal) -> list[Link]:
    i, u, d = identities.identity, user_account, identities.trust_domain
    query = (
        select(table.c.identity_id, i.c.name, d.c.name.label("domain"), u.c.name.label("user"), table.c.linked_at)
        .join(i, i.c.id == table.c.identity_id)
        .join(d, d.c.id == i.c.domain_id)
        .join(u, u.c.id == table.c.user_id)
        .order_by(u.c.name, i.c.name)
    )
    if not principal.may(Permission.USERS_MANAGE):
        if principal.kind != "user":
            return []
        query = query.where(u.c.name == principal.name)
    rows = await view.all(query)
    return [Link(row["identity_id"], f"{row['name']}@{row['domain']}", row["user"], row["linked_at"]) for row in rows]
