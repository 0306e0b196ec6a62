"""The issuers of one process, ready to sign: read again whenever the configuration changed anywhere.

What is remembered is used only while the :class:`~intaglio.db.listen.Watch` is current and the configuration that was
read is the newest it heard of; while it is late, the database is asked whether there is a newer one, and whether a
certificate was revoked. So a removed issuer or a replaced certificate counts on every process within a second, and a
process without the database signs nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from sqlalchemy import select

from intaglio.asn1 import der
from intaglio.asn1.signature_schemes import signature_scheme
from intaglio.authority.models import certificate as certificate_table
from intaglio.core.clock import monotonic, rfc3339
from intaglio.core.errors import IntaglioError, TimedOut, Unavailable
from intaglio.core.logging import get_logger
from intaglio.db.engine import Transaction
from intaglio.db.journal import journal_head
from intaglio.keystore.service import Signer
from intaglio.platform import live_settings
from intaglio.timestamping.context import Timestamps
from intaglio.timestamping.settings import Timestamping
from intaglio.timestamping.storage import load_issuers
from intaglio.timestamping.tokens import TokenMaker, token_maker
from intaglio.timestamping.values import IssuerRecord, SignerKey
from intaglio.x509.certificates import CertificateInfo, read_certificate

log = get_logger(__name__)

_RETRY_SECONDS = 2.0
_CONFIRMED_SECONDS = 1.0  # as long as a heartbeat of the watch counts


@dataclass(frozen=True)
class ReadySigner:
    """A key with its certificate; ``key`` signs with the digest of the issuer, ``stored`` with its own."""

    id: UUID
    certificate: CertificateInfo
    certificate_id: UUID | None
    key: Signer
    stored: Signer

    def require_usable(self, now: datetime) -> None:
        """Raise Unavailable unless the certificate is valid now."""
        if not self.certificate.not_before <= now <= self.certificate.not_after:
            raise Unavailable(
                f"The certificate of the timestamp issuer is valid from {rfc3339(self.certificate.not_before)} to "
                f"{rfc3339(self.certificate.not_after)}.",
                code="tsa-certificate-expired",
            )


@dataclass(frozen=True)
class ReadyIssuer:
    """An issuer of this process. ``signer`` and ``maker`` are None while it cannot sign, because of ``trouble``."""

    record: IssuerRecord
    hashes: frozenset[str]
    policy: bytes
    signer: ReadySigner | None
    maker: TokenMaker | None = field(repr=False)
    trouble: str = ""

    @property
    def name(self) -> str:
        return self.record.name


class IssuerDirectory:
    """The issuers and settings of this process."""

    def __init__(self, timestamps: Timestamps) -> None:
        self._timestamps = timestamps
        self._lock = asyncio.Lock()
        self._epoch = -1
        self._confirmed = float("-inf")  # when the database last said that nothing is newer
        self._retry_at: float | None = None  # when keys that could not be opened are tried again
        self.issuers: Mapping[str, ReadyIssuer] = {}
        self.settings = Timestamping()

    @property
    def current(self) -> bool:
        """Whether what is in memory may be used."""
        watch, now = self._timestamps.watch, monotonic()
        heard = watch.current or now - self._confirmed < _CONFIRMED_SECONDS
        if not heard or watch.is_taking_in or watch.epoch > self._epoch:
            return False
        return self._retry_at is None or now < self._retry_at

    async def catch_up(self) -> None:
        """Read what the configuration is now, unless that is known. Raises Unavailable, TimedOut."""
        if not self.current:
            await self.refresh(only_if_old=True)

    async def refresh(self, *, only_if_old: bool = False) -> None:
        """Read what the configuration is now. Raises Unavailable, TimedOut."""
        database = self._timestamps.authority.database
        try:
            async with asyncio.timeout(database.timeout), self._lock:
                await self._timestamps.watch.taken_in()  # keys may have moved: those in memory are seen to first
                if not (only_if_old and self.current):
                    async with database.read() as view:
                        await self._read(view, only_if_old=only_if_old)
        except TimeoutError:
            raise TimedOut("The database did not answer in time.", code="database-timeout") from None

    async def recheck_status(self) -> None:
        """Look whether a certificate that tokens are signed with was revoked or put on hold; called when certificate
        events were heard of."""
        # What is being read at this moment may be from before the event, so it is waited for.
        async with self._lock, self._timestamps.authority.database.read() as view:
            if await self._any_revoked(view):
                self._epoch = -1  # read everything again before the next token

    async def _any_revoked(self, view: Transaction) -> bool:
        """Whether one of the certificates in memory is revoked or on hold; that moves no epoch."""
        ready = [issuer.signer for issuer in self.issuers.values() if issuer.signer is not None]
        mine = {signer.certificate_id for signer in ready if signer.certificate_id is not None}
        c = certificate_table.c
        query = select(c.id).where(c.id.in_(mine), c.status != "valid").limit(1)
        return bool(mine) and await view.scalar(query) is not None

    async def _read(self, view: Transaction, *, only_if_old: bool) -> None:
        # The epoch is read first: what follows is at least as new.
        asked = monotonic()
        epoch = int(await view.scalar(select(journal_head.c.epoch)) or 0)
        retry = self._retry_at is not None and asked >= self._retry_at
        if only_if_old and epoch == self._epoch and not retry and not await self._any_revoked(view):
            self._confirmed = asked
            return
        self.settings = await live_settings.current(view, Timestamping)
        before, found = self.issuers, {}
        self._retry_at = None
        signers: dict[UUID, tuple[Signer | None, str]] = {}
        for record in await load_issuers(view):
            if record.enabled:
                key = record.signer.current
                if record.signer.id not in signers:
                    signers[record.signer.id] = await self._load(view, key)
                found[record.name] = _ready(record, key, *signers[record.signer.id])
        self.issuers, self._epoch, self._confirmed = found, epoch, asked
        for name, issuer in found.items():
            if issuer.trouble and (name not in before or before[name].trouble != issuer.trouble):
                log.warning("a timestamp issuer cannot sign", issuer=name, reason=issuer.trouble)

    async def _load(self, view: Transaction, key: SignerKey | None) -> tuple[Signer | None, str]:
        if key is None:
            return None, "There is no certificate yet."
        if key.status != "valid":
            return None, f"The certificate is {key.status}."
        try:
            return await self._timestamps.authority.keystore.load(view, key.key_id), ""
        except IntaglioError as error:
            if error.code.startswith("database"):
                raise
            self._retry_at = monotonic() + _RETRY_SECONDS
            return None, str(error)


def _ready(record: IssuerRecord, key: SignerKey | None, signer: Signer | None, trouble: str) -> ReadyIssuer:
    profile = record.profile
    hashes, policy = frozenset(profile.hashes), der.oid(profile.policy)
    if signer is None or key is None or key.certificate is None:
        return ReadyIssuer(record, hashes, policy, None, None, trouble)
    certificate = read_certificate(key.certificate)
    scheme = signature_scheme(signer.algorithm, profile.digest)
    # Whoever verifies a token has the root, or nothing would make him trust it; in tokens it would only take room.
    between = [each.der for each in map(read_certificate, key.chain) if not each.is_self_issued]
    maker = token_maker(
        policy=profile.policy,
        accuracy=profile.accuracy,
        ordering=profile.ordering,
        qualified=profile.qualified,
        digest=profile.digest,
        certificate=certificate,
        chain=between,
        signature_identifier=scheme.identifier,
    )
    ready = ReadySigner(record.signer.id, certificate, key.certificate_id, signer.with_scheme(scheme), signer)
    return ReadyIssuer(record, hashes, policy, ready, maker)
