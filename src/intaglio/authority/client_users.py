"""Holders of client credentials: their names, and what they may do on which CA."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from sqlalchemy import delete, insert, select
from sqlalchemy.dialects.postgresql import insert as upsert

from intaglio.authority import models
from intaglio.core.errors import InvalidInput, NotFound
from intaglio.core.identifiers import new_id
from intaglio.db.engine import Transaction
from intaglio.x509.names import Name

ADMINISTRATOR: Final = "administrator"
AUDITOR: Final = "auditor"
RIGHTS: Final = (ADMINISTRATOR, AUDITOR, "policy-override-tenant", "policy-constrained-tenant", "read-only-tenant")

# RFC 5280 appendix A.1 ends a common name at 64 characters.
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9 ._@+-]{0,62}[A-Za-z0-9._@+-])?")
_MOST_NAMES = 200


@dataclass(frozen=True)
class ClientUser:
    """Somebody, or some service, that comes to the gateway with a certificate of the organization's client CA."""

    id: UUID
    organization_id: UUID
    name: str
    subject: Name

    @classmethod
    def of(cls, row: Mapping[Any, Any]) -> ClientUser:
        return cls(row["id"], row["organization_id"], row["name"], Name.parse(row["subject"]))


def client_subject(organization: str, name: str) -> Name:
    """The subject of a client certificate: ``CN=name,O=organization``."""
    return Name.build([("O", organization), ("CN", name)])


def checked_name(name: str, *, target: str) -> str:
    """A name as it goes into the certificate. Raises InvalidInput."""
    if not _NAME.fullmatch(name.strip()):
        raise InvalidInput(
            f'"{name[:70]}" cannot be the name of a client.',
            code="client-name-invalid",
            remedy="Use 1 to 64 of a-z, A-Z, 0-9, space and . _ @ + -, beginning with a letter or digit.",
            target=target,
        )
    return name.strip()


def checked_rights(administrators: Iterable[str], auditors: Iterable[str]) -> dict[str, str]:
    """The right of every name; blank ones are left out, repeated ones count once.

    Raises InvalidInput: a bad name, somebody who would be both, no administrator, more than 200 names.
    """
    rights: dict[str, str] = {}
    spelled: dict[str, str] = {}
    for names, right, target in ((administrators, ADMINISTRATOR, "administrators"), (auditors, AUDITOR, "auditors")):
        for name in names:
            if not name.strip():
                continue
            checked = checked_name(name, target=target)
            # Names of certificates match without regard to case, so they cannot differ by case only.
            known = spelled.setdefault(checked.casefold(), checked)
            if rights.setdefault(known, right) != right:
                raise InvalidInput(
                    f'"{known}" cannot be both administrator and auditor.', code="client-twice", target=target
                )
    if ADMINISTRATOR not in rights.values():
        raise InvalidInput(
            "A CA needs at least one administrator.",
            code="administrator-required",
            remedy="Name a client that administers the CA through the gateway.",
            target="administrators",
        )
    if len(rights) > _MOST_NAMES:
        raise InvalidInput(f"More than {_MOST_NAMES} names at once.", target="administrators")
    return rights


async def find_user(view: Transaction, organization_id: UUID, organization: str, name: str) -> ClientUser | None:
    """The client of this name in the organization, whatever the case; None when there is none."""
    u = models.ca_user.c
    key = client_subject(organization, name).key
    row = await view.one_or_none(
        select(models.ca_user).where(u.organization_id == organization_id, u.subject_key == key)
    )
    return ClientUser.of(row) if row else None


async def require_user(view: Transaction, organization_id: UUID, organization: str, name: str) -> ClientUser:
    """Like :func:`find_user`; raises NotFound."""
    found = await find_user(view, organization_id, organization, checked_name(name, target="name"))
    if found is None:
        raise NotFound(
            f'Organization "{organization}" has no client "{name[:64]}".', code="client-unknown", target="name"
        )
    return found


async def find_or_add_user(tx: Transaction, organization_id: UUID, organization: str, name: str) -> ClientUser:
    """The client of this name, recorded now if it is new."""
    found = await find_user(tx, organization_id, organization, name)
    if found is not None:
        return found
    subject = client_subject(organization, name)
    user = ClientUser(new_id(), organization_id, name, subject)
    await tx.execute(
        insert(models.ca_user).values(
            id=user.id,
            organization_id=organization_id,
            name=name,
            subject=subject.rfc4514,
            subject_key=subject.key,
            created_at=tx.now,
        )
    )
    return user


async def rights_on(view: Transaction, ca_id: UUID) -> dict[str, str]:
    """The rights on a CA by client name, sorted by name."""
    return (await rights_on_all(view, [ca_id])).get(ca_id, {})


async def rights_on_all(view: Transaction, ca_ids: Sequence[UUID]) -> dict[UUID, dict[str, str]]:
    """The rights on these CAs, each by client name, sorted by name."""
    g, u = models.ca_grant, models.ca_user
    query = select(g.c.ca_id, u.c.name, g.c.right).join(u, u.c.id == g.c.ca_user_id).where(g.c.ca_id.in_(ca_ids))
    found: dict[UUID, dict[str, str]] = {}
    for row in await view.all(query.order_by(u.c.name)):
        found.setdefault(row["ca_id"], {})[row["name"]] = row["right"]
    return found


async def set_right(tx: Transaction, ca_id: UUID, user: ClientUser, right: str) -> None:
    """Give a client this right on a CA in place of the one he has."""
    values = {"right": right, "granted_at": tx.now}
    statement = upsert(models.ca_grant).values(ca_id=ca_id, ca_user_id=user.id, **values)
    await tx.execute(statement.on_conflict_do_update(index_elements=["ca_id", "ca_user_id"], set_=values))


async def drop_rights(tx: Transaction, ca_id: UUID, users: Sequence[UUID] | None = None) -> None:
    """Take the rights on a CA from these clients, or from all."""
    g = models.ca_grant.c
    statement = delete(models.ca_grant).where(g.ca_id == ca_id)
    await tx.execute(statement if users is None else statement.where(g.ca_user_id.in_(users)))
