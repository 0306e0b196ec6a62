"""Certificates of our CAs that clients come with, and whether they are still good.

What a certificate says never changes, so that is remembered by its octets; its status is asked for every time, by one
statement for all that ask at the same moment.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace

from intaglio.authority import certificates
from intaglio.authority.certificates import RevocationReason, StoredCertificate
from intaglio.authority.directory import CaView, Snapshot
from intaglio.authority.live_status import Change, StatusSource
from intaglio.core.errors import NotFound
from intaglio.db.engine import Database
from intaglio.db.listen import Watch
from intaglio.x509.certificates import CertificateInfo, read_certificate

_MOST_REMEMBERED = 2048


class RecordedCertificates:
    """The certificates of one process that were shown lately."""

    def __init__(self, database: Database, watch: Watch) -> None:
        self._database = database
        self._known: OrderedDict[bytes, StoredCertificate] = OrderedDict()
        self._read_before: OrderedDict[bytes, CertificateInfo] = OrderedDict()
        self._status = StatusSource(database, watch, _forget_nothing)

    def read(self, certificate: bytes) -> CertificateInfo:
        """A certificate (DER) that a client came with, perhaps not for the first time. Raises InvalidInput
        (``certificate-unparsable``)."""
        found = self._read_before.get(certificate)
        if found is None:
            found = self._read_before[certificate] = read_certificate(certificate)
            if len(self._read_before) > _MOST_REMEMBERED:
                self._read_before.popitem(last=False)
        else:
            self._read_before.move_to_end(certificate)
        return found

    async def find(self, snapshot: Snapshot, info: CertificateInfo) -> StoredCertificate | None:
        """A certificate as it is recorded now; None when no CA of the platform issued exactly this one. Raises
        Unavailable, TimedOut."""
        fingerprint = hashlib.sha256(info.der).digest()
        known = self._known.get(fingerprint)
        if known is None:
            return await self._read(snapshot, info, fingerprint)
        self._known.move_to_end(fingerprint)
        status = await self._status.get((known.ca_id, known.serial))
        if status.generation is None:  # the database was set back
            del self._known[fingerprint]
            return None
        reason = None if status.reason is None else RevocationReason(status.reason)
        return replace(known, status=status.state, revoked_at=status.revoked_at, reason=reason)

    async def close(self) -> None:
        """Give the connection back."""
        await self._status.close()

    async def _read(self, snapshot: Snapshot, info: CertificateInfo, fingerprint: bytes) -> StoredCertificate | None:
        for ca in snapshot.cas.values():
            if ca.subject.der != info.issuer.der or (found := await self._recorded(ca, info)) is None:
                continue
            self._known[fingerprint] = found
            if len(self._known) > _MOST_REMEMBERED:
                self._known.popitem(last=False)
            return found
        return None

    async def _recorded(self, ca: CaView, info: CertificateInfo) -> StoredCertificate | None:
        async with self._database.read() as view:
            try:
                found = await certificates.get(view, ca, info.serial)
            except NotFound:
                return None
        return found if found.der == info.der else None


def _forget_nothing(changes: Sequence[Change] | None) -> None:
    """What is remembered here does not change."""
