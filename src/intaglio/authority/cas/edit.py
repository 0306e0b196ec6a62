"""Changing a CA: what it offers, who works with it, how it publishes. Everything else is fixed once it exists."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import update

from intaglio.audit import record as audit
from intaglio.authority import credentials, models
from intaglio.authority.access import require_ca
from intaglio.authority.cas.checks import checked_profiles
from intaglio.authority.cas.values import CaChanges, CreatedCa, setting_frozen
from intaglio.authority.cas.views import PUBLIC_KINDS, details
from intaglio.authority.client_users import (
    ADMINISTRATOR,
    AUDITOR,
    checked_rights,
    drop_rights,
    require_user,
    rights_on,
)
from intaglio.authority.configuration import changing
from intaglio.authority.context import Authority
from intaglio.authority.directory import CaView
from intaglio.core.errors import Refused
from intaglio.core.principal import Permission, Principal
from intaglio.db.engine import Transaction


async def edit_ca(authority: Authority, principal: Principal, full_id: str, changes: CaChanges) -> CreatedCa:
    """Change a CA; returns it with a credential for every name that is new.

    A profile that is taken away is not issued with any more; a name that is taken away is refused at once; what was
    issued before stays valid. Needs ``ca.configure``. Raises NotFound, InvalidInput (no profile or administrator left,
    unknown profile, bad name), Refused (``setting-frozen`` for everything but the label of an external root).
    """
    async with changing(authority, principal, Permission.CA_CONFIGURE) as change:
        tx, snapshot = change.tx, await change.locked()
        ca = await require_ca(tx, snapshot, principal, full_id, Permission.CA_CONFIGURE)
        _check_editable(ca, changes)
        values = await _values(tx, changes)
        if values:
            await tx.execute(update(models.ca).where(models.ca.c.id == ca.id).values(**values))
        rights = await _wanted_rights(tx, ca, changes)
        removed = await _remove(tx, ca, rights)
        made = await credentials.assign(change, snapshot, principal, ca, rights, changes.credentials.wish)
        audit.record(
            tx, principal, "ca.edit", "ca", full_id, organization=ca.organization, changed=values,
            rights=rights, removed=removed,
        )  # fmt: skip
        snapshot = await change.read()
        return CreatedCa(ca=await details(tx, snapshot, snapshot.cas[ca.id]), credentials=tuple(made))


def _check_editable(ca: CaView, changes: CaChanges) -> None:
    if ca.kind not in PUBLIC_KINDS:
        raise Refused(f'"{ca.full_id}" belongs to the platform.', code="ca-internal")
    if ca.kind == "external-root":
        asked = [n for n in ("profiles", "administrators", "auditors", "options") if getattr(changes, n) is not None]
        if asked:
            raise setting_frozen(asked)


async def _values(tx: Transaction, changes: CaChanges) -> dict[str, Any]:
    values: dict[str, Any] = {}
    if changes.profiles is not None:
        values["profiles"] = await checked_profiles(tx, changes.profiles)
    if changes.label is not None:
        values["label"] = changes.label
    if changes.options is not None:
        values["options"] = changes.options.model_dump(mode="json")
    return values


async def _wanted_rights(tx: Transaction, ca: CaView, changes: CaChanges) -> dict[str, str]:
    """The administrators and auditors there shall be; empty when the change is not about them."""
    if changes.administrators is None and changes.auditors is None:
        return {}
    current = await rights_on(tx, ca.id)
    administrators = changes.administrators
    if administrators is None:
        administrators = _having(current, ADMINISTRATOR)
    auditors = _having(current, AUDITOR) if changes.auditors is None else changes.auditors
    return checked_rights(administrators, auditors)


async def _remove(tx: Transaction, ca: CaView, wanted: Mapping[str, str]) -> list[str]:
    """Take the rights of administrators and auditors who are not wanted any more."""
    if not wanted:
        return []
    kept = {name.casefold() for name in wanted}
    current = await rights_on(tx, ca.id)
    removed = [n for n, right in current.items() if right in (ADMINISTRATOR, AUDITOR) and n.casefold() not in kept]
    users = [await require_user(tx, ca.organization_id, ca.organization, name) for name in removed]
    await drop_rights(tx, ca.id, [user.id for user in users])
    return removed


def _having(rights: Mapping[str, str], wanted: str) -> list[str]:
    return [name for name, right in rights.items() if right == wanted]
