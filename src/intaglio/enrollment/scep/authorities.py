"""The registration authorities of one process: read again whenever the configuration changed anywhere."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar
from uuid import UUID

from intaglio.asn1.algorithms import PrivateKey
from intaglio.authority.directory import CaView
from intaglio.core import clock
from intaglio.core.errors import IntaglioError, TimedOut, Unavailable
from intaglio.enrollment.context import Enrollment
from intaglio.enrollment.scep import registration
from intaglio.enrollment.scep.options import RaOptions
from intaglio.enrollment.scep.registration import RegistrationAuthority, options_digest
from intaglio.enrollment.values import Endpoint
from intaglio.x509.cms.enveloped import EnvelopedData

T = TypeVar("T")


@dataclass(frozen=True)
class Office:
    """What answers at an endpoint: its CA, the registration authority that clients are told of, and all that messages
    may be encrypted for still, newest first."""

    ca: CaView
    current: RegistrationAuthority
    all: Sequence[RegistrationAuthority]

    def recipient(self, content: EnvelopedData) -> RegistrationAuthority | None:
        """The one that a message is encrypted for. One whose certificate was revoked answers nobody."""
        good = (ra for ra in self.all if ra.status == "valid")
        return next((ra for ra in good if any(each.names(ra.certificate) for each in content.recipients)), None)

    @property
    def earlier(self) -> RegistrationAuthority | None:
        """The newest that the CA certified under its key before the one in use: who trusts that key can verify what it
        signs."""
        return next((ra for ra in self.all if ra.generation < self.ca.generation and ra.status == "valid"), None)


class RegistrationAuthorities:
    """All registration authorities by CA, and their keys."""

    def __init__(self, enrollment: Enrollment) -> None:
        self._enrollment = enrollment
        self._lock = asyncio.Lock()
        self._making: dict[tuple[UUID, bytes], asyncio.Lock] = {}
        self._epoch = -1
        self._by_ca: Mapping[UUID, Sequence[RegistrationAuthority]] = {}
        self._digests: dict[RaOptions, bytes] = {}

    async def of(self, endpoint: Endpoint) -> Office:
        """What answers at an endpoint; its registration authority is made now when there is none.

        Raises Unavailable (``scep-ra-unavailable``) when that cannot be.
        """
        ca = await self._catch_up(endpoint)
        options: RaOptions = endpoint.options.ra
        current = self._current(ca, options)
        if current is None:
            async with self._making.setdefault((ca.id, self._digest(options)), asyncio.Lock()):
                ca = await self._catch_up(endpoint)
                current = self._current(ca, options) or await self._make(ca, options)
        known = self._by_ca.get(ca.id, ())
        return Office(ca, current, known if current in known else (current, *known))

    async def using(self, key_id: UUID, call: Callable[[PrivateKey], T]) -> T:
        """What ``call`` makes of a private key, without holding up the event loop. Raises Unavailable."""
        keystore = self._enrollment.authority.keystore
        signer = keystore.cached(key_id)
        if signer is None:
            async with self._enrollment.database.read() as view:
                signer = await keystore.load(view, key_id)
        return await signer.using(call)

    def _current(self, ca: CaView, options: RaOptions) -> RegistrationAuthority | None:
        """The one in use, if it is fit to be: certified under the CA's key of now, good, and not at its end."""
        digest, now = self._digest(options), clock.now()
        for ra in self._by_ca.get(ca.id, ()):
            if ra.state == "current" and self._digest(ra.options) == digest:
                fit = ra.generation == ca.generation and ra.status == "valid" and ra.not_after > now
                return ra if fit else None
        return None

    async def _make(self, ca: CaView, options: RaOptions) -> RegistrationAuthority:
        try:
            return await registration.ensure(self._enrollment.authority, ca, options)
        except (Unavailable, TimedOut):
            raise
        except IntaglioError as error:
            raise Unavailable(
                f'CA "{ca.full_id}" has no registration authority for SCEP: {error.detail}',
                code="scep-ra-unavailable",
                remedy=error.remedy or "Look at the options of the endpoint, and at the CA.",
                retry_after=60,
            ) from None

    async def _catch_up(self, endpoint: Endpoint) -> CaView:
        """Read all again unless what is in memory is as new as the configuration; the CA of the endpoint."""
        snapshot = await self._enrollment.gateway.snapshot()
        if snapshot.epoch > self._epoch:
            async with self._lock:
                snapshot = await self._enrollment.gateway.snapshot()
                if snapshot.epoch > self._epoch:
                    await self._read()
                    self._epoch = snapshot.epoch
        return snapshot.ca(endpoint.ca)

    async def _read(self) -> None:
        async with self._enrollment.database.read() as view:
            found = await registration.load_all(view, clock.now())
        by_ca: dict[UUID, list[RegistrationAuthority]] = {}
        for ra in found:
            by_ca.setdefault(ra.ca_id, []).append(ra)
        self._by_ca = by_ca

    def _digest(self, options: RaOptions) -> bytes:
        found = self._digests.get(options)
        if found is None:
            found = self._digests[options] = options_digest(options)
        return found
