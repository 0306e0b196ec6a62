"""Who is asking: a TLS client certificate becomes a caller, a caller and a CA id become access with a role."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from intaglio.authority.directory import CaView, ClientView, Snapshot, ca_unknown
from intaglio.core import clock
from intaglio.core.errors import Forbidden, InvalidInput, NotFound, Unauthenticated
from intaglio.core.principal import Permission, Principal
from intaglio.gateway.roles import ROLE_OF_RIGHT, Role
from intaglio.x509.certificates import CertificateInfo, read_certificate

#: CAs that serve the platform itself. Issuing from them by hand could mint callers, so the gateway does not know them.
_INTERNAL_KINDS = frozenset({"client", "platform"})
_CACHED_CREDENTIALS = 4096


@dataclass(frozen=True)
class Access:
    """A CA as one caller may use it."""

    ca: CaView
    role: Role


@dataclass(frozen=True)
class ClientCredential:
    """A client certificate whose signature was verified under the key of a client CA."""

    client_ca: UUID
    serial: bytes
    subject_key: bytes = field(repr=False)
    not_before: datetime
    not_after: datetime
    principal: Principal


@dataclass(frozen=True)
class Caller:
    """Somebody who asks the gateway.

    A client is known by its ``credential``; who comes through an enrolment endpoint may use its CA; who comes through
    the management API has no credential and may use the CAs of
    ``organizations`` (None: of all). Rights are looked up in the snapshot a decision is taken on, so that what was
    withdrawn is gone at once.
    """

    principal: Principal
    credential: ClientCredential | None = None
    organizations: frozenset[UUID] | None = frozenset()
    #: Who comes through an enrolment endpoint: the only CA that it is for.
    endpoint_ca: UUID | None = None

    @classmethod
    def of_endpoint(cls, principal: Principal, ca_id: UUID) -> Caller:
        """Whoever an enrolment endpoint of a CA has let in: he may ask it for certificates, within its policies."""
        return cls(principal, None, frozenset(), ca_id)

    @classmethod
    def of_principal(cls, principal: Principal, organizations: frozenset[UUID] | None) -> Caller:
        """The caller behind the management API or a local operation."""
        return cls(principal, None, organizations)

    def check(self, snapshot: Snapshot) -> ClientView | None:
        """The configured client behind the credential; None for callers without one.

        Raises Unauthenticated (``client-certificate-revoked``, ``client-certificate-expired``) and Forbidden
        (``client-unknown``).
        """
        if (credential := self.credential) is None:
            return None
        now = clock.now()
        if not credential.not_before <= now <= credential.not_after:
            raise Unauthenticated(
                f"The client certificate is valid from {clock.rfc3339(credential.not_before)} "
                f"until {clock.rfc3339(credential.not_after)} only.",
                code="client-certificate-expired",
                remedy="Ask an administrator of the CA for a new client credential.",
            )
        if (credential.client_ca, credential.serial) in snapshot.revoked_credentials:
            raise Unauthenticated(
                "The client certificate is revoked.",
                code="client-certificate-revoked",
                remedy="Ask an administrator of the CA for a new client credential.",
            )
        client = snapshot.clients.get((credential.client_ca, credential.subject_key))
        if client is None:
            raise Forbidden(
                f'The client "{self.principal.name}" is not configured.',
                code="client-unknown",
                remedy="Ask an administrator of a CA to grant access to this name.",
            )
        return client

    def access(self, snapshot: Snapshot, ca_id: str) -> Access:
        """The caller's access to one CA. A CA without a grant does not exist for the caller.

        Raises NotFound (``ca-unknown``) and what :meth:`check` raises.
        """
        client = self.check(snapshot)
        try:
            ca = snapshot.ca(ca_id)
        except NotFound:
            raise ca_unknown(ca_id) from None
        role = self._role(ca, client)
        if role is None:
            raise ca_unknown(ca_id)
        return Access(ca, role)

    def accesses(self, snapshot: Snapshot) -> Iterator[Access]:
        """Every CA the caller may see, sorted by id. Raises what :meth:`check` raises."""
        client = self.check(snapshot)
        granted = snapshot.cas if client is None else client.grants
        candidates = [snapshot.cas[ca_id] for ca_id in granted if ca_id in snapshot.cas]
        for ca in sorted(candidates, key=lambda each: each.full_id):
            if ca.state != "deleted" and (role := self._role(ca, client)) is not None:
                yield Access(ca, role)

    def _role(self, ca: CaView, client: ClientView | None) -> Role | None:
        if ca.kind in _INTERNAL_KINDS:
            return None
        if self.endpoint_ca is not None:
            return Role.POLICY_CONSTRAINED_TENANT if ca.id == self.endpoint_ca else None
        if self.credential is not None:
            grant = client.grants.get(ca.id) if client else None
            return ROLE_OF_RIGHT.get(grant.right, Role.READ_ONLY_TENANT) if grant else None
        if self.organizations is not None and ca.organization_id not in self.organizations:
            return None
        if self.principal.may(Permission.CA_OPERATE):
            return Role.INTEGRATOR
        return Role.READ_ONLY_INTEGRATOR if self.principal.may(Permission.CA_VIEW) else None


class CallerDirectory:
    """Turns client certificates into callers; the outcome of the signature check is kept per certificate and epoch."""

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, ClientCredential] = OrderedDict()
        self._epoch = -1

    def caller(self, snapshot: Snapshot, certificate: bytes | None, source: str) -> Caller:
        """The caller with this client certificate (DER), asking from the address ``source``.

        The TLS layer has proven that the peer holds the private key. Raises Unauthenticated
        (``client-certificate-required``, ``client-certificate-untrusted``).
        """
        if certificate is None:
            raise Unauthenticated(
                "A TLS client certificate is required.",
                code="client-certificate-required",
                remedy="Connect with the client credential that an administrator of the CA gave you.",
            )
        if snapshot.epoch != self._epoch:
            self._known.clear()
            self._epoch = snapshot.epoch
        fingerprint = hashlib.sha256(certificate).digest()
        credential = self._known.get(fingerprint)
        if credential is None:
            credential = self._known[fingerprint] = _verified(snapshot, certificate, fingerprint)
            if len(self._known) > _CACHED_CREDENTIALS:
                self._known.popitem(last=False)
        known = credential.principal
        principal = Principal(
            "client",
            known.name,
            source=source,
            subject_key=known.subject_key,
            certificate_fingerprint=fingerprint,
        )
        return Caller(principal, credential)


def _verified(snapshot: Snapshot, certificate: bytes, fingerprint: bytes) -> ClientCredential:
    """Find the client CA that issued the certificate and verify its signature under that CA's key.

    The listener may trust further roots, and any of them could sign a certificate that merely names one of our client
    CAs as its issuer; so the name alone proves nothing.
    """
    try:
        info = read_certificate(certificate)
    except InvalidInput:
        raise _untrusted("It cannot be read.") from None
    for ca in snapshot.cas.values():
        if ca.kind == "client" and ca.subject.der == info.issuer.der and _signed_by(ca, info):
            return ClientCredential(
                ca.id,
                info.serial,
                info.subject.key,
                info.not_before,
                info.not_after,
                Principal("client", info.subject.rfc4514, subject_key=info.subject.key),
            )
    raise _untrusted(f'Its issuer "{info.issuer.rfc4514}" is no client CA of this platform.')


def _signed_by(ca: CaView, info: CertificateInfo) -> bool:
    return any(info.verify_signed_by(key.spki) for key in ca.keys.values())


def _untrusted(why: str) -> Unauthenticated:
    return Unauthenticated(
        f"The client certificate is not accepted. {why}",
        code="client-certificate-untrusted",
        remedy="Connect with the client credential that an administrator of the CA gave you.",
    )
