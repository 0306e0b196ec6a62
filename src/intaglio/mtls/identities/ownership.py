"""Who answers for an identity: an account of the platform, not whoever has its name.

An owner may be named before there is an account of that name. It becomes his only when whoever keeps the registry names
him again; and when an account is deleted, nobody owns what it owned, whoever gets the name afterwards.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from uuid import UUID

from sqlalchemy import ColumnElement, select, update

from intaglio.audit import record as audit
from intaglio.authority import models as authority_models
from intaglio.core.principal import Principal
from intaglio.db.engine import Transaction
from intaglio.identity.models import user_account
from intaglio.identity.users import normalised
from intaglio.mtls.identities import models

_MOST_NAMED = 100  # identities in one audit record


async def accounts_of(tx: Transaction, owners: Iterable[str]) -> dict[str, UUID]:
    """The accounts behind names of owners, which stay until the end; names without one are left out."""
    wanted = {owner: normalised(owner) for owner in owners if owner}
    if not wanted:
        return {}
    u = user_account.c
    query = select(u.id, u.name).where(u.name.in_(set(wanted.values()))).order_by(u.id)
    found = {row["name"]: row["id"] for row in await tx.all(query.with_for_update(read=True, key_share=True))}
    return {owner: found[name] for owner, name in wanted.items() if name in found}


def owned_by(principal: Principal) -> ColumnElement[bool]:
    """The condition on ``mtls_identity`` for what a principal owns."""
    u = user_account.c
    name = principal.name if principal.kind == "user" else None
    return models.identity.c.owner_id.in_(select(u.id).where(u.name == name))


async def owns(view: Transaction, principal: Principal, identity_id: UUID) -> bool:
    """Whether a principal owns an identity."""
    i = models.identity.c
    return await view.scalar(select(i.id).where(i.id == identity_id, owned_by(principal))) is not None


async def give_up(tx: Transaction, principal: Principal, user: str) -> int:
    """Take what a user owns from him, whose account is about to be deleted; returns how many identities.

    They keep his name, and wait for somebody to name an owner again. The database sees to it, too, whoever deletes the
    account in whatever way; this is what tells of it. Whoever deletes an account has been asked for his rights.
    """
    i, d, o = models.identity, models.trust_domain.c, authority_models.organization.c
    account = select(user_account.c.id).where(user_account.c.name == normalised(user)).scalar_subquery()
    owned = i.c.owner_id == account
    named = (
        select(i.c.kind, i.c.name, d.name.label("domain"), o.name.label("organization"))
        .join(models.trust_domain, d.id == i.c.domain_id)
        .join(authority_models.organization, o.id == d.organization_id)
        .where(owned)
        .order_by(i.c.id)
    )
    by_organization: dict[str, list[str]] = defaultdict(list)
    for row in await tx.all(named):
        by_organization[row["organization"]].append(f"{row['kind']}:{row['name']}@{row['domain']}")
    await tx.execute(update(i).where(owned).values(owner_id=None, changed_at=tx.now))
    for organization, identities in by_organization.items():
        audit.record(
            tx, principal, "identity.lose-owner", "user", normalised(user), organization=organization,
            count=len(identities), identities=identities[:_MOST_NAMED],
        )  # fmt: skip
    return sum(map(len, by_organization.values()))


async def without_owner(view: Transaction, organization_id: UUID) -> list[tuple[str, str]]:
    """Identities of an organization, not retired, whose owner is a mere name, and that name."""
    i, d = models.identity.c, models.trust_domain.c
    query = (
        select(i.kind, i.name, i.owner, d.name.label("domain"))
        .join(models.trust_domain, d.id == i.domain_id)
        .where(d.organization_id == organization_id, i.state != "retired", i.owner != "", i.owner_id.is_(None))
    )
    rows = await view.all(query.order_by(i.id))
    return [(f"{row['kind']}:{row['name']}@{row['domain']}", row["owner"]) for row in rows]
