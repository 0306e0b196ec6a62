"""Actions on certificates and subjects: hold, unhold, revoke, deactivate, reactivate, renew, reissue."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from intaglio.authority.certificates import RevocationReason, StoredCertificate
from intaglio.authority.revocation import StatusChange, hold, revocation, unhold
from intaglio.core import clock
from intaglio.core.clock import rfc3339
from intaglio.core.errors import InvalidInput, StateConflict
from intaglio.core.identifiers import new_id
from intaglio.gateway.callers import Access, Caller
from intaglio.gateway.connector import Connector
from intaglio.gateway.enrollment import Enrollment
from intaglio.gateway.renewal import renew
from intaglio.gateway.roles import GatewayPermission
from intaglio.gateway.schemas import Action, ActionType
from intaglio.gateway.service import Gateway
from intaglio.profiles.model import Channel
from intaglio.x509.names import Name

_REASON = "/action/reason"


@dataclass(frozen=True)
class ActionResult:
    """A completed action. ``changed`` are the certificates it concerned; ``enrollment`` is the new certificate of a
    renewal or reissue."""

    id: UUID
    action: Action
    reason: RevocationReason | None
    compromise_date: datetime | None
    changed: tuple[StoredCertificate, ...] = ()
    enrollment: Enrollment | None = None

    def properties(self) -> dict[str, str]:
        """What else a client wants to know, as strings."""
        if self.enrollment is not None:
            return {"serialNumber": self.enrollment.issued.serial.hex().upper()}
        return {"certificateCount": str(len(self.changed))}


@dataclass(frozen=True)
class _Plan:
    """What an action means for the status of certificates."""

    change: StatusChange
    reason: RevocationReason | None
    compromise_date: datetime | None = None


async def act_on_certificate(
    gateway: Gateway, caller: Caller, ca_id: str, serial: bytes, action: Action, *, channel: Channel = "gateway-api"
) -> ActionResult:
    """Carry out an action on one certificate; ``channel`` is where it was asked for, for renewals.

    Deactivating a certificate ends its subscription: it is revoked with cessationOfOperation. Raises Unauthenticated,
    Forbidden, NotFound, NotSupported, InvalidInput, StateConflict, and for renewals what an enrolment raises.
    """
    if action.type in (ActionType.RENEW, ActionType.REISSUE):
        enrollment = await renew(gateway, caller, ca_id, serial, action, channel=channel)
        return ActionResult(new_id(), action, None, None, enrollment=enrollment)

    async def act(access: Access, connector: Connector, epoch: int) -> ActionResult:
        _authorize(access, connector, action, subject=False)
        plan = _CERTIFICATE_PLANS[action.type](action)
        changed = await connector.change(caller.principal, access.ca, serial, plan.change, epoch=epoch)
        return await _finished(connector, caller, access, action, plan, (changed,))

    return await gateway.decided(caller, ca_id, act)


async def act_on_subject(gateway: Gateway, caller: Caller, ca_id: str, subject: Name, action: Action) -> ActionResult:
    """Carry out an action on all certificates of a subject that it can apply to.

    Deactivating a subject suspends it: all its certificates are put on hold until it is reactivated. Raises like
    :func:`act_on_certificate`.
    """

    async def act(access: Access, connector: Connector, epoch: int) -> ActionResult:
        _authorize(access, connector, action, subject=True)
        plan = _SUBJECT_PLANS[action.type](action)
        changed = await connector.change_subject(caller.principal, access.ca, subject, plan.change, epoch=epoch)
        if not changed and not plan.change.idempotent:
            raise StateConflict(
                f'No certificate of "{subject.rfc4514}" can be changed to {plan.change.status}.',
                code="already-in-state",
                remedy="Nothing needs to be done.",
                target="dn",
            )
        return await _finished(connector, caller, access, action, plan, tuple(changed))

    return await gateway.decided(caller, ca_id, act)


def _authorize(access: Access, connector: Connector, action: Action, *, subject: bool) -> None:
    access.role.require(GatewayPermission.MANAGE, action.type)
    connector.capabilities.require_action(action.type, subject=subject)


async def _finished(
    connector: Connector,
    caller: Caller,
    access: Access,
    action: Action,
    plan: _Plan,
    changed: tuple[StoredCertificate, ...],
) -> ActionResult:
    if action.issueCrl:
        await connector.publish_crl(caller.principal, access.ca)
    return ActionResult(new_id(), action, plan.reason, plan.compromise_date, changed)


# ---- what each action means ------------------------------------------------------------------------------------------


def _holding(action: Action) -> _Plan:
    reason = _reason(action)
    if reason not in (RevocationReason.UNSPECIFIED, RevocationReason.CERTIFICATE_HOLD):
        raise InvalidInput(
            f"A certificate is put on hold with the reason certificateHold, not {reason.text}.",
            code="reason-not-allowed",
            remedy="Leave the reason out, or use RevokeAction.",
            target=_REASON,
        )
    return _Plan(hold(comment=action.comment or "", idempotent=_idempotent(action)), RevocationReason.CERTIFICATE_HOLD)


def _unholding(action: Action) -> _Plan:
    return _Plan(unhold(comment=action.comment or "", idempotent=_idempotent(action)), RevocationReason.REMOVE_FROM_CRL)


def _revoking(action: Action, default: RevocationReason = RevocationReason.UNSPECIFIED) -> _Plan:
    reason = default if action.reason is None else _reason(action)
    compromised = _compromise_date(action)
    change = revocation(
        reason, compromise_date=compromised, comment=action.comment or "", idempotent=_idempotent(action)
    )
    return _Plan(change, reason, compromised)


def _ending(action: Action) -> _Plan:
    return _revoking(action, RevocationReason.CESSATION_OF_OPERATION)


_CERTIFICATE_PLANS: Mapping[ActionType, Callable[[Action], _Plan]] = {
    ActionType.HOLD: _holding,
    ActionType.UNHOLD: _unholding,
    ActionType.REVOKE: _revoking,
    ActionType.DEACTIVATE: _ending,
}
_SUBJECT_PLANS: Mapping[ActionType, Callable[[Action], _Plan]] = {
    ActionType.HOLD: _holding,
    ActionType.UNHOLD: _unholding,
    ActionType.REVOKE: _revoking,
    ActionType.DEACTIVATE: _holding,
    ActionType.REACTIVATE: _unholding,
}


def _reason(action: Action) -> RevocationReason:
    if action.reason is None:
        return RevocationReason.UNSPECIFIED
    try:
        return RevocationReason.parse(action.reason)
    except InvalidInput as error:
        raise InvalidInput(error.detail, code=error.code, remedy=error.remedy, target=_REASON) from None


def _idempotent(action: Action) -> bool:
    return action.succeedIfAlreadyInRequestedState is not False


def _compromise_date(action: Action) -> datetime | None:
    """When the key was, or may have been, compromised; becomes the invalidity date (RFC 5280 section 5.3.2)."""
    if (moment := action.compromiseDate) is None:
        return None
    moment = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC).replace(microsecond=0)
    if moment > clock.now():
        raise InvalidInput(
            f"A compromise at {rfc3339(moment)} lies in the future.",
            code="request-malformed",
            target="/action/compromiseDate",
        )
    return moment
