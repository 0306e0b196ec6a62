"""Giving timestamps.

1. parse   2. the issuer can sign, the clock is right   3. hash, policy   4. serial number and time   5. encode and sign
What goes wrong on the way becomes a rejection. Source: RFC 3161 sections 2.2 and 2.4.
"""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from intaglio.core import clock
from intaglio.core.errors import IntaglioError
from intaglio.core.logging import get_logger
from intaglio.core.troubles import Troubles
from intaglio.timestamping import responses
from intaglio.timestamping.clock.gate import ClockGate
from intaglio.timestamping.context import Timestamps
from intaglio.timestamping.directory import IssuerDirectory, ReadyIssuer
from intaglio.timestamping.key_proofs import KeyProofs
from intaglio.timestamping.numbering import OrderedTimes, SerialNumbers
from intaglio.timestamping.rejections import Failure, Rejection
from intaglio.timestamping.requests import TimestampRequest, parse_request
from intaglio.timestamping.tokens import TokenMaker

log = get_logger(__name__)


class Reply(NamedTuple):
    """A TimeStampResp in DER; ``failure`` is None when a token was given. ``cause`` is for the log."""

    body: bytes
    failure: Failure | None = None
    cause: str = ""
    detail: str = ""


_TIME_NOT_AVAILABLE = "The time is not available."
_SYSTEM_FAILURE = "The request could not be handled because of a failure here; try again later."


class TimestampService:
    """Timestamps of one process. ``start`` before the first request, ``close`` after the last."""

    def __init__(self, timestamps: Timestamps, gate: ClockGate | None = None) -> None:
        self._authority = timestamps.authority
        self.directory = IssuerDirectory(timestamps)
        self.gate = gate or ClockGate()
        self.proofs = KeyProofs(timestamps.authority.keystore)
        self._serials = SerialNumbers(timestamps.authority.database, timestamps.master)
        self._times = OrderedTimes(timestamps.authority.database)
        self._troubles = Troubles()

    async def follow_configuration(self, *, changed: bool = False) -> None:
        """Take in what was changed (``changed``: something was for sure); the clock is checked from the first issuer
        on. Raises Unavailable, TimedOut."""
        await (self.directory.refresh() if changed else self.directory.catch_up())
        if self.directory.issuers:
            await self.gate.replace(self.directory.settings)

    async def close(self) -> None:
        await self.gate.close()
        await self._serials.close()
        await self._times.close()

    def ready(self, name: str) -> ReadyIssuer | None:
        """The issuer of this name if that can be said at once."""
        return self.directory.issuers.get(name) if self.directory.current and self.gate.checked else None

    async def issuer(self, name: str) -> ReadyIssuer | None:
        """The issuer of this name; None when there is none. Raises Unavailable, TimedOut."""
        if not (self.directory.current and self.gate.checked):
            await self.follow_configuration()
        return self.directory.issuers.get(name)

    def respond_now(self, issuer: ReadyIssuer, data: bytes) -> Reply | None:
        """The answer to a request in DER, when nothing has to be waited for; else None."""
        signer = issuer.signer
        if signer is None or not signer.key.inline or issuer.record.profile.ordering:
            return None
        serial = self._serials.ready(issuer.record.profile.serial_octets)
        if serial is None:
            return None
        try:
            request, maker, now = self._accepted(issuer, data)
            unsigned = maker.unsigned(request, serial, now)
            signature = signer.key.sign_now(unsigned.to_be_signed)
        except Exception as error:
            return self._refused(issuer, error)
        token = maker.signed(unsigned, signature, with_certificates=request.wants_certificate)
        return Reply(responses.granted(token))

    async def respond(self, issuer: ReadyIssuer, data: bytes) -> Reply:
        """The answer to a request in DER."""
        profile, signer = issuer.record.profile, issuer.signer
        try:
            request, maker, _ = self._accepted(issuer, data)
            assert signer is not None, "accepted requests have a signer"
            serial = await self._serials.next(profile.serial_octets)
            at = await self._ordered_time(issuer) if profile.ordering else clock.now()
            self._require_time(clock.now())  # the clock may have been set while we waited
            unsigned = maker.unsigned(request, serial, at)
            signature = await signer.key.sign(unsigned.to_be_signed)
        except Exception as error:
            return self._refused(issuer, error)
        token = maker.signed(unsigned, signature, with_certificates=request.wants_certificate)
        return Reply(responses.granted(token))

    def _accepted(self, issuer: ReadyIssuer, data: bytes) -> tuple[TimestampRequest, TokenMaker, datetime]:
        """What was asked, how its token is made, and the time, if all is well. Raises Rejection, Unavailable."""
        request = parse_request(data)
        now = clock.now()
        self._require_time(now)
        _check(issuer, request)
        if issuer.signer is None or issuer.maker is None:
            raise Rejection(Failure.SYSTEM_FAILURE, _SYSTEM_FAILURE, cause=issuer.trouble)
        issuer.signer.require_usable(now)
        return request, issuer.maker, now

    def _refused(self, issuer: ReadyIssuer, error: Exception) -> Reply:
        """What the client is told; of trouble here no more than that there is some."""
        if isinstance(error, Rejection):
            body = responses.rejected(error.failure, error.detail)
            return Reply(body, error.failure, error.cause, error.detail)
        expected = isinstance(error, IntaglioError)
        cause = error.code if isinstance(error, IntaglioError) else type(error).__name__
        if self._troubles.worth_reporting((issuer.name, cause)):
            # A key outside may fail in ways nobody foresaw; the client is owed an answer all the same.
            log.error(
                "no timestamps for now", issuer=issuer.name, reason=str(error), exc_info=None if expected else error
            )
        body = responses.rejected(Failure.SYSTEM_FAILURE, _SYSTEM_FAILURE)
        return Reply(body, Failure.SYSTEM_FAILURE, cause, str(error))

    def _require_time(self, now: datetime) -> None:
        try:
            self._authority.require_clock()
            self.gate.require(now)
        except IntaglioError as error:
            cause = f"BadClock: {error.detail}"
            raise Rejection(Failure.TIME_NOT_AVAILABLE, _TIME_NOT_AVAILABLE, cause=cause) from None

    async def _ordered_time(self, issuer: ReadyIssuer) -> datetime:
        try:
            return await self._times.next(issuer.record.signer.id)
        except IntaglioError as error:
            if error.code != "clock-behind":
                raise
            cause = f"BadClock: {error.detail}"
            raise Rejection(Failure.TIME_NOT_AVAILABLE, _TIME_NOT_AVAILABLE, cause=cause) from None


def _check(issuer: ReadyIssuer, request: TimestampRequest) -> None:
    """What the issuer's profile says about the request. Raises Rejection."""
    if request.hash_name not in issuer.hashes:
        allowed = ", ".join(issuer.record.profile.hashes)
        what = request.hash_name or "This hash algorithm"
        raise Rejection(Failure.BAD_ALGORITHM, f"{what} is not accepted here; use one of: {allowed}.")
    if request.policy and request.policy != issuer.policy:
        raise Rejection(
            Failure.UNACCEPTED_POLICY, f"Timestamps are given under {issuer.record.profile.policy} only."
        )
