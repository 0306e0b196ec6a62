"""Who is asking, and what he may do."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal
from uuid import UUID

from intaglio.core.errors import Forbidden, Unauthenticated


class Permission(StrEnum):
    """What a role can grant. A permission is one sentence: noun.verb."""

    CA_VIEW = "ca.view"
    CA_OPERATE = "ca.operate"
    CA_CONFIGURE = "ca.configure"
    PROFILES_MANAGE = "profiles.manage"
    USERS_MANAGE = "users.manage"
    ROLES_MANAGE = "roles.manage"
    AUDIT_VIEW = "audit.view"
    PLATFORM_MANAGE = "platform.manage"
    MTLS_VIEW = "mtls.view"
    MTLS_ENROL = "mtls.enrol"
    MTLS_IDENTITIES = "mtls.identities"
    MTLS_POLICY = "mtls.policy"
    MTLS_OWN = "mtls.own"
    KEYS_MANAGE = "keys.manage"
    VALIDATION_VIEW = "validation.view"
    VALIDATION_MANAGE = "validation.manage"
    TIMESTAMPING_VIEW = "timestamping.view"
    TIMESTAMPING_MANAGE = "timestamping.manage"
    ENROLLMENT_VIEW = "enrollment.view"
    ENROLLMENT_MANAGE = "enrollment.manage"
    ENROLLMENT_APPROVE = "enrollment.approve"


ALL_PERMISSIONS = frozenset(Permission)

PrincipalKind = Literal["operator", "user", "client", "identity", "applicant", "system", "anonymous"]


@dataclass(frozen=True)
class Principal:
    """The authenticated caller of a use case.

    ``kind``: operator (this host's administrator on the unix socket), user (a named account with a token), client (a
    TLS client certificate at the gateway), identity (a registered person, device, workload, service or pipeline, proved
    by a certificate, a security code or a token of its platform), applicant (who asks for a certificate at an enrolment
    endpoint, in whatever way that endpoint knows him), system (our own jobs), anonymous. ``name`` is the user name, the
    subject DN, the identity or what the applicant is known by; ``subject_key`` is the normalised client DN
    (``Name.key``) and ``certificate_fingerprint`` the SHA-256 of the client certificate; ``source`` is the peer
    address.
    """

    kind: PrincipalKind
    name: str
    permissions: frozenset[Permission] = field(default=frozenset(), repr=False)
    source: str = ""
    subject_key: bytes | None = field(default=None, repr=False)
    certificate_fingerprint: bytes | None = field(default=None, repr=False)
    token_id: UUID | None = field(default=None, repr=False, compare=False)
    #: The certificate with which the session was opened, or that in which the token was made.
    session_certificate_id: UUID | None = field(default=None, repr=False, compare=False)

    def may(self, permission: Permission) -> bool:
        return permission in self.permissions

    def require(self, permission: Permission) -> None:
        """Raise Unauthenticated for nobody and Forbidden for somebody without the permission."""
        if self.kind == "anonymous":
            raise Unauthenticated("This needs authentication.", remedy="Send an API token, or use the unix socket.")
        if permission not in self.permissions:
            raise Forbidden(
                f'"{self.name}" lacks the permission {permission.value}.',
                code="permission-missing",
                remedy=f"Ask an administrator for a role with {permission.value}.",
                extra={"permission": permission.value},
            )


SYSTEM = Principal("system", "intaglio", ALL_PERMISSIONS)
ANONYMOUS = Principal("anonymous", "anonymous")


def operator(name: str) -> Principal:
    """The administrator of this host, known by the peer credentials of the unix socket."""
    return Principal("operator", name, ALL_PERMISSIONS, source="unix")
