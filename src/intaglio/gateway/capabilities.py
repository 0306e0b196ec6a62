"""What a CA can do through the gateway: declared per connector, answered per CA and caller."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from intaglio.authority.certificates import RevocationReason
from intaglio.authority.directory import CaView
from intaglio.core.errors import NotSupported
from intaglio.gateway.roles import GatewayPermission, Role
from intaglio.gateway.schemas import ActionType

#: Reasons a RevokeAction takes. removeFromCRL exists only as UnholdAction.
REVOCATION_REASONS = tuple(
    reason.text for reason in RevocationReason if reason is not RevocationReason.REMOVE_FROM_CRL
)


@dataclass(frozen=True)
class Capabilities:
    """What one kind of CA product can do. Flags carry the names clients know."""

    management: frozenset[str]
    enrollment: frozenset[str]
    certificate_actions: frozenset[ActionType]
    subject_actions: frozenset[ActionType]
    other: frozenset[str]
    search: frozenset[str]

    def require_action(self, action: ActionType, *, subject: bool) -> None:
        """Raise NotSupported for an action this kind of CA does not know."""
        if action not in (self.subject_actions if subject else self.certificate_actions):
            what = "subjects" if subject else "certificates"
            offered = sorted(self.subject_actions if subject else self.certificate_actions)
            raise NotSupported(
                f"This CA does not support {action} on {what}.",
                code="action-not-supported",
                remedy=f"It supports: {', '.join(offered)}.",
                target="/action/type",
                extra={"step": "capability"},
            )


_MANAGEMENT = ("CAStatus", "PermitsDefaultCA", "SupportsMultipleCAs")
_ENROLLMENT = (
    "CAGeneratedKey",
    "CAGeneratedKeyBackup",
    "ClientGeneratedKeyBackup",
    "EnrollmentByCSR",
    "ExtensionInCSR",
    "ExtensionInRequest",
    "KeyInRequest",
    "PKCS12Response",
    "SANInCSR",
    "SANInRequest",
    "SubjectNameInRequest",
    "ValidateProofOfPossession",
    "ValidityPeriodInRequest",
    "X509CertificateResponse",
)
_SEARCH = ("SearchBySerial", "SearchBySubjectDN")

#: The built-in CA. Keys are not backed up, so nothing can be recovered.
NATIVE = Capabilities(
    management=frozenset(_MANAGEMENT),
    enrollment=frozenset(_ENROLLMENT) - {"CAGeneratedKeyBackup", "ClientGeneratedKeyBackup"},
    certificate_actions=frozenset(
        {
            ActionType.HOLD,
            ActionType.UNHOLD,
            ActionType.REVOKE,
            ActionType.DEACTIVATE,
            ActionType.RENEW,
            ActionType.REISSUE,
        }
    ),
    subject_actions=frozenset(
        {ActionType.HOLD, ActionType.UNHOLD, ActionType.REVOKE, ActionType.DEACTIVATE, ActionType.REACTIVATE}
    ),
    other=frozenset({"CertificateEvents"}),
    search=frozenset(_SEARCH),
)

#: What a caller needs before a capability is of any use to him; the others only need enrolment at all.
_NEEDS = {
    "ExtensionInRequest": GatewayPermission.EXPLICIT_EXTENSIONS,
    "KeyInRequest": GatewayPermission.EXTERNAL_PUBLIC_KEY,
    "ValidityPeriodInRequest": GatewayPermission.SHORTEN_VALIDITY,
    "CAGeneratedKey": GatewayPermission.ENROLL_PKCS12,
    "PKCS12Response": GatewayPermission.ENROLL_PKCS12,
    "SANInRequest": GatewayPermission.ALTERNATIVE_NAMES,
    "SubjectNameInRequest": GatewayPermission.SUBJECT_NAMING,
}


def describe(capabilities: Capabilities, ca: CaView, role: Role) -> dict[str, Any]:
    """The capabilities of one CA for one role: true only when the CA has it, can do it now, and the role may."""
    signs = ca.has_key
    modes = {mode for profile in ca.profiles for mode in profile.issuance_modes}

    def enrollment(name: str) -> bool:
        if name not in capabilities.enrollment or not signs:
            return False
        if name in ("CAGeneratedKey", "PKCS12Response") and "p12" not in modes:
            return False
        return role.may(_NEEDS.get(name, GatewayPermission.ENROLL_CSR))

    manages = signs and role.may(GatewayPermission.MANAGE)
    return {
        "caManagement": _flags(_MANAGEMENT, capabilities.management),
        "enrollment": {name: enrollment(name) for name in _ENROLLMENT},
        "certificateManagement": {
            "certificateActions": _actions(capabilities.certificate_actions) if manages else [],
            "revocationReasons": list(REVOCATION_REASONS) if manages else [],
            "subjectActions": _actions(capabilities.subject_actions) if manages else [],
            "CertificateEvents": "CertificateEvents" in capabilities.other and role.may(GatewayPermission.EVENTS),
            "Recover": [],
        },
        "search": {name: name in capabilities.search and role.may(GatewayPermission.SEARCH) for name in _SEARCH},
    }


def _flags(names: Iterable[str], present: frozenset[str]) -> dict[str, bool]:
    return {name: name in present for name in names}


def _actions(actions: frozenset[ActionType]) -> list[str]:
    return [action.value for action in ActionType if action in actions]
