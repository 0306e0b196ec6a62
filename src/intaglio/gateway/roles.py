"""What each role may do: the permission matrix as data."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from intaglio.core.errors import Forbidden


class Role(StrEnum):
    """How a caller stands to a CA."""

    INTEGRATOR = "integrator"
    POLICY_OVERRIDE_TENANT = "policy-override-tenant"
    POLICY_CONSTRAINED_TENANT = "policy-constrained-tenant"
    READ_ONLY_INTEGRATOR = "read-only-integrator"
    READ_ONLY_TENANT = "read-only-tenant"

    def may(self, permission: GatewayPermission) -> bool:
        """Whether the role has a permission."""
        return permission in MATRIX[self]

    def require(self, permission: GatewayPermission, target: str) -> None:
        """Raise Forbidden (``role-lacks-permission``) naming the field or action ``target``."""
        if permission not in MATRIX[self]:
            raise Forbidden(
                f'The role {self} does not permit "{target}".',
                code="role-lacks-permission",
                remedy=f"Leave it out, or ask an administrator of the CA for a role with: {permission.value}.",
                target=target,
                extra={"step": "permission"},
            )


class GatewayPermission(StrEnum):
    """One row of the matrix, in words for error messages and documentation."""

    EXPLICIT_EXTENSIONS = "request explicit extensions and key usage"
    PRIVATE_KEY_USAGE_PERIOD = "request a private key usage period"
    EXTERNAL_PUBLIC_KEY = "send a public key without a certificate request"
    OVERRIDE_PROOF_OF_POSSESSION = "override proof of possession"
    EXPLICIT_VALIDITY = "request explicit validity dates"
    SHORTEN_VALIDITY = "shorten the validity of a certificate request"
    ENROLL_CSR = "enrol with a certificate request"
    ENROLL_PKCS12 = "enrol with PKCS#12"
    SUBJECT_NAMING = "choose the subject"
    ALTERNATIVE_NAMES = "choose subject alternative names"
    MANAGE = "manage certificates"
    SEARCH = "search certificates"
    EVENTS = "read certificate events"


_READING: Final = frozenset({GatewayPermission.SEARCH, GatewayPermission.EVENTS})
_CONSTRAINED: Final = _READING | {
    GatewayPermission.SHORTEN_VALIDITY,
    GatewayPermission.ENROLL_CSR,
    GatewayPermission.ENROLL_PKCS12,
    GatewayPermission.SUBJECT_NAMING,
    GatewayPermission.ALTERNATIVE_NAMES,
    GatewayPermission.MANAGE,
}

MATRIX: Final[Mapping[Role, frozenset[GatewayPermission]]] = {
    Role.INTEGRATOR: frozenset(GatewayPermission),
    Role.POLICY_OVERRIDE_TENANT: frozenset(GatewayPermission),
    Role.POLICY_CONSTRAINED_TENANT: _CONSTRAINED,
    Role.READ_ONLY_INTEGRATOR: _READING,
    Role.READ_ONLY_TENANT: _READING,
}

#: The right of a grant on a CA -> the role it gives there. An unknown right gives the least of them.
ROLE_OF_RIGHT: Final[Mapping[str, Role]] = {
    "administrator": Role.INTEGRATOR,
    "auditor": Role.READ_ONLY_INTEGRATOR,
    **{role.value: role for role in Role},
}
