"""Environments are kept apart: no CA is trusted in two of them, directly or through a root above it."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import select

from intaglio.authority.directory import CaView, Snapshot
from intaglio.core.errors import StateConflict
from intaglio.db.engine import Transaction
from intaglio.mtls.identities import models


async def require_separate(view: Transaction, snapshot: Snapshot, environment: str, ca: CaView, anchor: str) -> None:
    """Raise StateConflict (``foreign-environment``) when certificates of this CA would count in another environment, or
    certificates of another environment here.

    What a retired trust domain trusted stays its environment's: its certificates may still be valid.
    """
    mine, chain = anchor_of(snapshot, ca, anchor).id, _chain(snapshot, ca)
    d, m = models.trust_domain.c, models.domain_ca.c
    rows = await view.all(
        select(d.name, d.environment, d.anchor, m.ca_id).join_from(models.trust_domain, models.domain_ca)
        .where(d.environment != environment)
    )  # fmt: skip
    for row in rows:
        other = snapshot.cas[row["ca_id"]]
        theirs = anchor_of(snapshot, other, row["anchor"]).id
        if mine in _chain(snapshot, other) or theirs in chain:
            raise foreign_environment(ca, environment, row["name"], row["environment"])


def anchor_of(snapshot: Snapshot, ca: CaView, anchor: str) -> CaView:
    """The CA that relying parties trust in order to trust ``ca``: itself, or the root above it."""
    return ca if anchor == "issuing" else snapshot.cas[_chain(snapshot, ca)[-1]]


def foreign_environment(ca: CaView, environment: str, domain: str, other: str) -> StateConflict:
    """The refusal to trust one CA in two environments."""
    return StateConflict(
        f'"{ca.full_id}" cannot serve {environment}: it is trusted in {other}, by the trust domain "{domain}".',
        code="foreign-environment",
        remedy="Use a CA below a root of its own, or one that is itself the anchor (--anchor issuing) on both sides.",
        target="issuing_ca",
        extra={"environment": other, "domain": domain},
    )


def _chain(snapshot: Snapshot, ca: CaView) -> list[UUID]:
    """The CA and those above it, the root last."""
    found, current = [ca.id], ca.issuer_id
    while current is not None and current not in found:
        found.append(current)
        current = snapshot.cas[current].issuer_id
    return found
