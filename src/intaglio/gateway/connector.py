"""What the gateway needs of a CA product, and the connector to our own authority floor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Protocol
from uuid import UUID

from intaglio.authority import certificates, crls, events, inventory, issuance, revocation
from intaglio.authority.certificates import StoredCertificate
from intaglio.authority.context import Authority
from intaglio.authority.crls import CrlFacts, StoredCrl
from intaglio.authority.directory import CaView
from intaglio.authority.events import EventPage
from intaglio.authority.inventory import CertificatePage
from intaglio.authority.issuance import Decide, Idempotency, Issued
from intaglio.authority.revocation import StatusChange
from intaglio.core.errors import IntaglioError, NotFound
from intaglio.core.principal import Permission, Principal
from intaglio.db.listing import ListQuery
from intaglio.gateway.capabilities import NATIVE, Capabilities
from intaglio.profiles.engine import PreparedCertificate
from intaglio.x509.names import Name


class Connector(Protocol):
    """One way to reach CAs of one make. The gateway has decided who may ask for what before it calls any of this."""

    name: str
    capabilities: Capabilities

    async def issue(self, principal: Principal, decide: Decide, idempotency: Idempotency | None) -> Issued:
        """Issue what ``decide`` orders; see ``authority.issuance.issue``."""
        ...

    async def preview(self, decide: Decide) -> PreparedCertificate:
        """Decide without issuing."""
        ...

    async def outage(self, ca: CaView) -> str | None:
        """Why the CA cannot work now, or None when it can."""
        ...

    async def certificate(self, ca: CaView, serial: bytes) -> StoredCertificate:
        """One certificate by serial number. Raises NotFound."""
        ...

    async def certificate_by_id(self, ca: CaView, certificate_id: UUID) -> StoredCertificate:
        """One certificate by the id of its enrolment. Raises NotFound."""
        ...

    async def certificates_of(
        self, ca: CaView, subject: Name, *, after: UUID | None = None, limit: int = 100
    ) -> Sequence[StoredCertificate]:
        """Certificates of a subject, oldest first, after an id."""
        ...

    async def newest_of(self, ca: CaView, subject: Name) -> StoredCertificate:
        """The newest certificate of a subject. Raises NotFound."""
        ...

    async def change(
        self, principal: Principal, ca: CaView, serial: bytes, change: StatusChange, *, epoch: int
    ) -> StoredCertificate:
        """Hold, unhold or revoke one certificate. Raises EpochMoved when the configuration is no longer ``epoch``."""
        ...

    async def change_subject(
        self, principal: Principal, ca: CaView, subject: Name, change: StatusChange, *, epoch: int
    ) -> list[StoredCertificate]:
        """Apply a change to all certificates of a subject; returns the changed ones. Raises EpochMoved."""
        ...

    async def listed(self, ca: CaView, asked: ListQuery) -> CertificatePage:
        """A page of all certificates of the CA. Raises InvalidInput."""
        ...

    async def events(
        self, ca: CaView, *, after: int, since: datetime | None, limit: int, with_certificates: bool
    ) -> EventPage:
        """A page of the event feed of one CA."""
        ...

    async def crl(self, ca: CaView) -> StoredCrl:
        """The newest complete CRL. Raises NotFound."""
        ...

    async def crl_facts(self, ca: CaView) -> CrlFacts | None:
        """Number and times of the newest complete CRL, None while there is none."""
        ...

    async def publish_crl(self, principal: Principal, ca: CaView) -> None:
        """Issue and publish all CRLs now; nothing happens at a CA that publishes none."""
        ...


class NativeConnector:
    """The CAs of this platform."""

    name = "native"
    capabilities = NATIVE

    def __init__(self, authority: Authority) -> None:
        self._authority = authority

    async def issue(self, principal: Principal, decide: Decide, idempotency: Idempotency | None) -> Issued:
        return await issuance.issue(self._authority, principal, decide, idempotency=idempotency)

    async def preview(self, decide: Decide) -> PreparedCertificate:
        return await issuance.preview(self._authority, decide)

    async def outage(self, ca: CaView) -> str | None:
        try:
            ca.require_active()
            async with self._authority.database.read() as view:
                if (key_id := ca.key.key_id) is not None:
                    await self._authority.keystore.load(view, key_id)
        except IntaglioError as error:
            return error.detail
        return None

    async def certificate(self, ca: CaView, serial: bytes) -> StoredCertificate:
        async with self._authority.database.read() as view:
            return await certificates.get(view, ca, serial)

    async def certificate_by_id(self, ca: CaView, certificate_id: UUID) -> StoredCertificate:
        async with self._authority.database.read() as view:
            return await certificates.get_by_id(view, ca, certificate_id)

    async def certificates_of(
        self, ca: CaView, subject: Name, *, after: UUID | None = None, limit: int = 100
    ) -> Sequence[StoredCertificate]:
        async with self._authority.database.read() as view:
            return await certificates.by_subject(view, ca, subject, after=after, limit=limit)

    async def newest_of(self, ca: CaView, subject: Name) -> StoredCertificate:
        async with self._authority.database.read() as view:
            return await certificates.newest_of_subject(view, ca, subject)

    async def change(
        self, principal: Principal, ca: CaView, serial: bytes, change: StatusChange, *, epoch: int
    ) -> StoredCertificate:
        return await revocation.change_status(self._authority, principal, ca, serial, change, epoch=epoch)

    async def change_subject(
        self, principal: Principal, ca: CaView, subject: Name, change: StatusChange, *, epoch: int
    ) -> list[StoredCertificate]:
        return await revocation.change_subject(self._authority, principal, ca, subject, change, epoch=epoch)

    async def listed(self, ca: CaView, asked: ListQuery) -> CertificatePage:
        async with self._authority.database.read() as view:
            return await inventory.list_certificates(view, ca, asked)

    async def events(
        self, ca: CaView, *, after: int, since: datetime | None, limit: int, with_certificates: bool
    ) -> EventPage:
        async with self._authority.database.read() as view:
            return await events.read_events(
                view,
                ca_id=ca.id,
                after=after,
                since=since,
                limit=limit,
                with_certificates=with_certificates,
                with_total=True,
            )

    async def crl(self, ca: CaView) -> StoredCrl:
        async with self._authority.database.read() as view:
            found = await crls.latest_crl(view, ca, ca.generation)
        if found is None:
            raise NotFound(f'CA "{ca.full_id}" has published no CRL.', code="crl-unknown")
        return found

    async def crl_facts(self, ca: CaView) -> CrlFacts | None:
        async with self._authority.database.read() as view:
            return await crls.latest_facts(view, ca, ca.generation)

    async def publish_crl(self, principal: Principal, ca: CaView) -> None:
        if ca.options.crl_interval is None:
            return
        # What the role permits was decided before; the authority floor speaks of platform permissions.
        operating = replace(principal, permissions=principal.permissions | {Permission.CA_OPERATE})
        generations = [key.generation for key in ca.keys.values() if key.certificate and key.key_id]
        # Who revokes many asks for the CRL with the last one only, so every key and partition may be concerned.
        for generation in sorted(generations):
            for partition in range(ca.options.crl_partitions + 1):
                await crls.issue_crl(self._authority, operating, ca, generation, partition=partition)
