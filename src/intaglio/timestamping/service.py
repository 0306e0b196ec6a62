"""Giving timestamps.

1. parse   2. the issuer can sign, the clock is right   3. hash, policy   4. serial number and time   5. encode and sign
What goes wrong on the way becomes a rejection. Source: RFC 3161 sections 2.2 and 2.4.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from intaglio.core import clock
from intaglio.core.errors import IntaglioError
from intaglio.core.logging import get_logger
from intaglio.core.troubles import Troubles
from intaglio.timestamping import responses
from intaglio.timestamping.clock.gate import ClockGate
from intaglio.timestamping.context import Timestamps
from intaglio.timestamping.directory import IssuerDirectory, ReadyIssuer
from intaglio.timestamping.numbering import OrderedTimes, SerialNumbers
from intaglio.timestamping.rejections import Failure, Rejection
from intaglio.timestamping.requests import TimestampRequest, parse_request

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Reply:
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

    async def issuer(self, name: str) -> ReadyIssuer | None:
        """The issuer of this name; None when there is none. Raises Unavailable, TimedOut."""
        if not self.directory.current:
            await self.follow_configuration()
        return self.directory.issuers.get(name)

    async def respond(self, issuer: ReadyIssuer, data: bytes) -> Reply:
        """The answer to a request in DER."""
        try:
            request = parse_request(data)
            return Reply(responses.granted(await self._token(issuer, request)))
        except Rejection as rejection:
            text = rejection.detail
            return Reply(responses.rejected(rejection.failure, text), rejection.failure, rejection.cause, text)
        except IntaglioError as error:
            self._report(issuer, error)
            return Reply(
                responses.rejected(Failure.SYSTEM_FAILURE, _SYSTEM_FAILURE),
                Failure.SYSTEM_FAILURE,
                error.code,
                error.detail,
            )
        except Exception as error:  # a key outside may fail in ways nobody foresaw; the client is owed an answer
            if self._troubles.worth_reporting(issuer.name):
                log.exception("a timestamp could not be made", issuer=issuer.name)
            body = responses.rejected(Failure.SYSTEM_FAILURE, _SYSTEM_FAILURE)
            return Reply(body, Failure.SYSTEM_FAILURE, type(error).__name__, str(error))

    async def _token(self, issuer: ReadyIssuer, request: TimestampRequest) -> bytes:
        now = clock.now()
        self._require_time(now)
        _check(issuer, request)
        signer, maker = issuer.signer, issuer.maker
        if signer is None or maker is None:
            raise Rejection(Failure.SYSTEM_FAILURE, _SYSTEM_FAILURE, cause=issuer.trouble)
        signer.require_usable(now)
        profile = issuer.record.profile
        serial = self._serials.ready(profile.serial_octets) or await self._serials.next(profile.serial_octets)
        at = await self._ordered_time(issuer) if profile.ordering else clock.now()
        unsigned = maker.unsigned(request, serial, at)
        key = signer.key
        signature = key.sign_now(unsigned.to_be_signed) if key.inline else await key.sign(unsigned.to_be_signed)
        return maker.signed(unsigned, signature, with_certificates=request.wants_certificate)

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

    def _report(self, issuer: ReadyIssuer, error: IntaglioError) -> None:
        if self._troubles.worth_reporting((issuer.name, error.code)):
            log.warning("no timestamps for now", issuer=issuer.name, reason=str(error), code=error.code)


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
