"""Answering OCSP requests.

1. parse   2. find the issuer by the CertIDs; it must be the one of the URL, and one for all   3. its signer
4. status of every certificate   5. encode and sign. What goes wrong on the way becomes an OCSP error, never a status.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

from intaglio.asn1 import der
from intaglio.authority.context import Authority
from intaglio.authority.live_status import Key, Status, StatusSource
from intaglio.core import clock
from intaglio.core.clock import monotonic
from intaglio.core.errors import IntaglioError, InvalidInput, NotSupported, TimedOut
from intaglio.core.logging import get_logger
from intaglio.db.listen import Watch
from intaglio.validation.ocsp import responses
from intaglio.validation.ocsp.answers import Answer, Memory
from intaglio.validation.ocsp.issuers import Issuer, IssuerIndex, Signers, Signing
from intaglio.validation.ocsp.requests import OcspRequest, parse_request, split_nonce

log = get_logger(__name__)

#: Outlines kept by one process, in octets.
OUTLINE_OCTETS = 16 * 1024 * 1024
#: How long an answer about a certificate nobody issued may be believed.
_UNKNOWN_VALIDITY = timedelta(minutes=5)


_NO_TIME, _ONE_SECOND, _LONG_AGO = timedelta(0), timedelta(seconds=1), datetime(1970, 1, 1, tzinfo=UTC)

_MALFORMED = Answer(responses.MALFORMED_REQUEST)
_UNAUTHORIZED = Answer(responses.UNAUTHORIZED)
_TRY_LATER = Answer(responses.TRY_LATER)
_INTERNAL_ERROR = Answer(responses.INTERNAL_ERROR)


class _Outline:
    """An answer without its nonce and signature. ``singles`` are CertID and CertStatus of every certificate.

    All nonces put into one outline have the same length, so what is before the nonce only changes with the second.
    """

    __slots__ = ("_at", "_front", "_next_update", "_singles", "_validity", "signing")

    def __init__(self, signing: Signing, validity: timedelta, singles: tuple[bytes, ...]) -> None:
        self.signing = signing
        self._validity = validity
        self._singles = singles
        self._at = self._next_update = _LONG_AGO
        self._front = b""

    def data(self, now: datetime, nonce: bytes) -> tuple[bytes, datetime]:
        """ResponseData as of ``now`` with an extension value as nonce (empty: none), and its nextUpdate."""
        if not _NO_TIME <= now - self._at < _ONE_SECOND:
            self._at = now.replace(microsecond=0)
            self._next_update = min(self._at + self._validity, self.signing.record.not_after)
            this, after = der.generalized_time(self._at), der.generalized_time(self._next_update)
            singles = [responses.single_response(single, this, after) for single in self._singles]
            whole = responses.response_data(self.signing.responder_id, this, singles, nonce)
            self._front = whole[: len(whole) - len(nonce)]
        return self._front + nonce, self._next_update

    def body(self, data: bytes, signature: bytes) -> bytes:
        """The OCSPResponse around signed ResponseData."""
        signing = self.signing
        return responses.successful_response(data, signing.signature_identifier, signature, signing.certificates)


class Responder:
    """The OCSP responder of one process.

    ``on_change`` is called with the certificates whose status changed, or with
    None when anything may have changed.
    """

    def __init__(
        self, authority: Authority, watch: Watch, on_change: Callable[[Sequence[Key] | None], None]
    ) -> None:
        self._authority = authority
        self._watch = watch
        # A relying party that is told to try later can; one that is left waiting gives up or goes on unchecked.
        self._patience = authority.database.timeout
        self._tell = on_change
        self._signers = Signers(authority)
        # By URL and by what stands before and behind the nonce.
        self._outlines: Memory[tuple[str | None, bytes, bytes], _Outline] = Memory(OUTLINE_OCTETS)
        self.status = StatusSource(authority.database, watch, self._on_change)
        self._index: IssuerIndex | None = None
        self._clock_jumps = watch.clock_jumps

    async def close(self) -> None:
        await self.status.close()

    @property
    def current(self) -> bool:
        """Whether what is kept in memory may be used: nothing was changed that this process has not taken note of."""
        watch, index = self._watch, self._index
        return (
            self.status.current
            and index is not None
            and watch.epoch <= index.epoch
            and watch.clock_jumps == self._clock_jumps
        )

    async def catch_up(self) -> None:
        """Take note of what the watch heard, and of the configuration it speaks of. Raises Unavailable, TimedOut."""
        try:
            async with asyncio.timeout(self._patience):
                await self._catch_up()
        except TimeoutError:
            raise TimedOut("The database did not answer in time.", code="database-timeout") from None

    async def _catch_up(self) -> None:
        await self.status.catch_up()
        snapshot = await self._authority.snapshot()
        if snapshot.epoch < self._watch.epoch:
            snapshot = await self._authority.directory.reload(beyond=snapshot.epoch)
        if self._index is None or self._index.epoch < snapshot.epoch:
            self._index = IssuerIndex(snapshot)
            self._forget_all()
        if self._clock_jumps != self._watch.clock_jumps:
            # What was signed before says when it was signed, by a clock that meanwhile was set.
            self._clock_jumps = self._watch.clock_jumps
            self._forget_all()

    def answer_again(self, data: bytes, path: str | None) -> bytes | None:
        """The response to a request that was answered before with another nonce; None when it was not, when what is
        remembered may not be used, or when signing takes long."""
        parts = split_nonce(data) if self.current else None
        outline = self._outlines.get((path, parts[0], parts[2])) if parts is not None else None
        if parts is None or outline is None:
            return None
        now = clock.now()
        if now >= outline.signing.recheck_at:
            return None
        unsigned, _ = outline.data(now, parts[1])
        return outline.body(unsigned, outline.signing.signer.sign_now(unsigned))

    async def answer(self, data: bytes, path: str | None) -> Answer:
        """The answer to a request in DER that came to ``/ocsp/{organization}/{ca}`` (None: to the URL for all CAs)."""
        try:
            request = parse_request(data)
        except InvalidInput:
            return _MALFORMED
        try:
            async with asyncio.timeout(self._patience):
                return await self._answer(data, request, path)
        except TimeoutError:
            return _TRY_LATER
        except NotSupported:
            return _UNAUTHORIZED  # a CA that has expired since its configuration was read
        except IntaglioError as error:
            if error.status not in (503, 504, 409):
                log.error("an OCSP answer could not be made", reason=str(error))
                return _INTERNAL_ERROR
            return _TRY_LATER
        except Exception:
            log.exception("an OCSP answer could not be made")
            return _INTERNAL_ERROR

    async def _answer(self, data: bytes, request: OcspRequest, path: str | None) -> Answer:
        self._authority.require_clock()
        if not self.current:
            await self.catch_up()
        issuer = self._issuer(request, path)
        if issuer is None:
            return _UNAUTHORIZED
        signing = self._signers.ready(issuer, clock.now()) or await self._signers.get(issuer)
        statuses = [
            None if certificate.serial is None else await self.status.get((issuer.ca.id, certificate.serial))
            for certificate in request.certificates
        ]
        return await self._sign(data, request, path, issuer, signing, statuses)

    def _issuer(self, request: OcspRequest, path: str | None) -> Issuer | None:
        """The one issuer of all certificates asked about. An answer has one signature, and a signer one CA."""
        assert self._index is not None
        issuer = self._index.find(request.certificates[0].issuer)
        if issuer is None or (path is not None and path != issuer.path):
            return None
        for certificate in request.certificates[1:]:
            other = self._index.find(certificate.issuer)
            if other is None or other.key != issuer.key:
                return None
        return issuer

    async def _sign(
        self,
        data: bytes,
        request: OcspRequest,
        path: str | None,
        issuer: Issuer,
        signing: Signing,
        statuses: Sequence[Status | None],
    ) -> Answer:
        generation = issuer.generation
        encoded = [responses.UNKNOWN if s is None else responses.certificate_status(s, generation) for s in statuses]
        known = responses.UNKNOWN not in encoded
        validity = issuer.validity if known else min(issuer.validity, _UNKNOWN_VALIDITY)
        singles = tuple(c.der + status for c, status in zip(request.certificates, encoded, strict=True))
        outline = _Outline(signing, validity, singles)
        now = clock.now().replace(microsecond=0)
        unsigned, next_update = outline.data(now, request.nonce or b"")
        body = outline.body(unsigned, await signing.signer.sign(unsigned))
        if not known or not all(s is not None and self.status.covers(s) for s in statuses):
            return Answer(body, now, next_update)
        about = tuple((issuer.ca.id, c.serial) for c in request.certificates if c.serial is not None)
        if request.nonce is not None:
            self._remember(outline, data, request.nonce, path, about)
            return Answer(body, now, next_update)
        # Given out for half of its validity, so that whoever gets it can rely on the other half.
        return Answer(body, now, next_update, about, True, monotonic() + (next_update - now).total_seconds() / 2)

    def _remember(
        self, outline: _Outline, data: bytes, nonce: bytes, path: str | None, about: tuple[Key, ...]
    ) -> None:
        """Keep an outline under everything of the request but its nonce: what differs only there says the same."""
        parts = split_nonce(data)
        if outline.signing.signer.inline and parts is not None and parts[1] == nonce:
            self._outlines.put((path, parts[0], parts[2]), outline, about=about, octets=2 * len(data) + 500)

    def _on_change(self, keys: Sequence[Key] | None) -> None:
        if keys is None or any(self._signers.uses(ca_id, serial) for ca_id, serial in keys):
            self._forget_all()
        else:
            self._outlines.drop(keys)
            self._tell(keys)

    def _forget_all(self) -> None:
        self._signers.forget()
        self._outlines.clear()
        self._tell(None)
