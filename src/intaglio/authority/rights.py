"""Giving and taking rights on a CA, one client at a time. Effective at once on every process."""

from __future__ import annotations

from intaglio.audit import record as audit
from intaglio.authority import credentials
from intaglio.authority.access import require_ca
from intaglio.authority.client_users import ADMINISTRATOR, RIGHTS, checked_name, drop_rights, require_user, rights_on
from intaglio.authority.configuration import changing
from intaglio.authority.context import Authority
from intaglio.authority.credentials import CredentialWish, NewCredential
from intaglio.authority.directory import CaView
from intaglio.core.errors import InvalidInput, NotFound, Refused
from intaglio.core.principal import Permission, Principal
from intaglio.db.engine import Transaction


async def list_rights(authority: Authority, principal: Principal, full_id: str) -> dict[str, str]:
    """The rights on a CA by client name. Needs ``ca.view``. Raises NotFound."""
    snapshot = await authority.current()
    async with authority.database.read() as view:
        ca = await require_ca(view, snapshot, principal, full_id, Permission.CA_VIEW)
        return await rights_on(view, ca.id)


async def grant_right(
    authority: Authority,
    principal: Principal,
    full_id: str,
    name: str,
    right: str,
    wish: CredentialWish | None = None,
) -> NewCredential | None:
    """Give a client a right on a CA in place of the one he has; returns his credential when he is new.

    ``right`` is administrator, auditor, policy-override-tenant, policy-constrained-tenant or read-only-tenant. Needs
    ``ca.configure``.
    Raises NotFound, InvalidInput, Refused (the last administrator, an external root).
    """
    if right not in RIGHTS:
        raise InvalidInput(
            f'"{right[:40]}" is not a right.',
            code="right-unknown",
            remedy=f"Use one of: {', '.join(RIGHTS)}.",
            target="right",
        )
    async with changing(authority, principal, Permission.CA_CONFIGURE) as change:
        snapshot = await change.locked()
        ca = await require_ca(change.tx, snapshot, principal, full_id, Permission.CA_CONFIGURE)
        if ca.kind not in ("root", "issuing"):
            raise Refused(f'Nobody works with "{full_id}" through the gateway.', code="ca-has-no-clients")
        checked = checked_name(name, target="name")
        if right != ADMINISTRATOR:
            await _check_not_last(change.tx, ca, checked)
        made = await credentials.assign(change, snapshot, principal, ca, {checked: right}, wish or CredentialWish())
        audit.record(
            change.tx, principal, "right.grant", "client", f"{ca.organization}/{checked}",
            organization=ca.organization, ca=full_id, right=right,
        )  # fmt: skip
        return made[0] if made else None


async def revoke_right(authority: Authority, principal: Principal, full_id: str, name: str) -> None:
    """Take a client's right on a CA; he is refused there at once. Needs ``ca.configure``.

    Raises NotFound, Refused (``last-administrator``).
    """
    async with changing(authority, principal, Permission.CA_CONFIGURE) as change:
        ca = await require_ca(change.tx, await change.locked(), principal, full_id, Permission.CA_CONFIGURE)
        user = await require_user(change.tx, ca.organization_id, ca.organization, name)
        if user.name not in await rights_on(change.tx, ca.id):
            raise NotFound(f'"{user.name}" has no right on "{full_id}".', code="right-not-granted", target="name")
        await _check_not_last(change.tx, ca, user.name)
        await drop_rights(change.tx, ca.id, [user.id])
        audit.record(
            change.tx, principal, "right.revoke", "client", f"{ca.organization}/{user.name}",
            organization=ca.organization, ca=full_id,
        )  # fmt: skip


async def _check_not_last(tx: Transaction, ca: CaView, name: str) -> None:
    """Raise Refused when the CA would be left without an administrator."""
    administrators = [n.casefold() for n, right in (await rights_on(tx, ca.id)).items() if right == ADMINISTRATOR]
    if administrators == [name.casefold()]:
        raise Refused(
            f'"{name}" is the last administrator of "{ca.full_id}".',
            code="last-administrator",
            remedy="Give another client the right first.",
        )
