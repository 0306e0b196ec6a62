"""Answering OCSP requests.

1. parse   2. find the issuers by the CertIDs; the URL must be theirs   3. may this one ask?   4. their signer, one for
all   5. status of every certificate, and whether its source may be believed   6. encode and sign. What goes wrong on
the way becomes an OCSP error, never a status.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from itertools import pairwise
from math import inf
from typing import NamedTuple

from prometheus_client import Counter

from intaglio.authority.context import MAX_CLOCK_OFFSET, Authority
from intaglio.authority.live_status import Status, StatusSource
from intaglio.core import clock
from intaglio.core.clock import monotonic
from intaglio.core.errors import IntaglioError, InvalidInput, NotSupported, TimedOut, Unavailable
from intaglio.core.identifiers import serial_hex
from intaglio.core.logging import get_logger
from intaglio.core.troubles import Troubles
from intaglio.db.listen import Watch
from intaglio.db.live import Change, Key
from intaglio.platform import live_settings
from intaglio.validation.authorities import reading
from intaglio.validation.ocsp import responses
from intaglio.validation.ocsp.answers import Answer, Memory, Outcome
from intaglio.validation.ocsp.entries import Entry, EntrySource
from intaglio.validation.ocsp.freshness import Freshness
from intaglio.validation.ocsp.issuers import Issuer, IssuerIndex
from intaglio.validation.ocsp.outlines import Outline
from intaglio.validation.ocsp.requestors import authorized_by
from intaglio.validation.ocsp.requests import CertId, OcspRequest, parse_request, split_nonce
from intaglio.validation.ocsp.signers import Signers, Signing
from intaglio.validation.ocsp.statuses import Statement, state_foreign, state_native
from intaglio.validation.settings import Ocsp
from intaglio.x509.certificates import CertificateInfo

log = get_logger(__name__)

#: Outlines kept by one process, in octets.
OUTLINE_OCTETS = 16 * 1024 * 1024
#: Seconds for which an answer without nextUpdate, or about times that move on with its source, is given again.
_MOMENT = 60.0

_HELD = Answer(b"", outcome=Outcome.HELD)
_RESPONSE_STATUS = {
    responses.MALFORMED_REQUEST: "malformedRequest",
    responses.INTERNAL_ERROR: "internalError",
    responses.TRY_LATER: "tryLater",
    responses.SIGNATURE_REQUIRED: "sigRequired",
    responses.UNAUTHORIZED: "unauthorized",
}
_answers = Counter(
    "intaglio_ocsp_answers",
    "OCSP answers that were made anew, by OCSP response status; those given from memory are among the requests.",
    ["status"],
)


class Responder:
    """The OCSP responder of one process.

    ``on_change`` is called with the certificates whose status changed, or with
    None when anything may have changed.
    """

    def __init__(
        self, authority: Authority, watch: Watch, on_change: Callable[[Sequence[Change] | None], None]
    ) -> None:
        self._authority = authority
        self._watch = watch
        # A relying party that is told to try later can; one that is left waiting gives up or goes on unchecked.
        self._patience = authority.database.timeout
        self._tell = on_change
        self._signers = Signers(authority)
        # By URL and by what stands before and behind the nonce.
        self._outlines: Memory[tuple[str | None, bytes, bytes], Outline] = Memory(OUTLINE_OCTETS)
        self.status = StatusSource(authority.database, watch, self._on_change)
        self.entries = EntrySource(authority.database, watch, self._on_change)
        self.freshness = Freshness(authority.database, watch)
        self.limits = Ocsp()
        self._index: IssuerIndex | None = None
        self._troubles = Troubles()  # by code, of which there are few
        self._clock_jumps = watch.clock_jumps
        self._judged: object = None  # what the watch had heard when everything in memory was found to be in line

    async def close(self) -> None:
        await self.status.close()
        await self.entries.close()

    @property
    def current(self) -> bool:
        """Whether what is kept in memory may be used: nothing was changed that this process has not taken note of."""
        watch, index = self._watch, self._index
        if self.limits.log_requests or not watch.current or watch.clock_jumps != self._clock_jumps:
            return False
        if watch.is_taking_in:
            return False
        if watch.heard is self._judged:  # every cached answer comes by here
            return True
        if self.status.behind or self.entries.behind or index is None or watch.epoch > index.epoch:
            return False
        self._judged = watch.heard
        return True

    async def catch_up(self) -> None:
        """Take note of what the watch heard, and of the configuration it speaks of. Raises Unavailable, TimedOut."""
        try:
            async with asyncio.timeout(self._patience):
                await self._catch_up()
        except TimeoutError:
            raise TimedOut("The database did not answer in time.", code="database-timeout") from None

    async def _catch_up(self) -> None:
        await self._watch.taken_in()
        await self.status.catch_up()
        await self.entries.catch_up()
        snapshot = await self._authority.snapshot()
        if snapshot.epoch < self._watch.epoch:
            snapshot = await self._authority.directory.reload(beyond=snapshot.epoch)
        if self._index is None or self._index.epoch < snapshot.epoch:
            async with self._authority.database.read() as view:
                configured = await reading.load_all(view, enabled_only=True)
                self.limits = await live_settings.current(view, Ocsp)
            self._index = IssuerIndex(snapshot, configured)
            self.freshness.forget()
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
        if now >= outline.signing.recheck_at or abs(self._authority.clock_offset()) > MAX_CLOCK_OFFSET:
            return None
        unsigned, _ = outline.data(now, parts[1])
        return outline.body(unsigned, outline.signing.signer.sign_now(unsigned))

    async def answer(self, data: bytes, path: str | None, *, hold: bool = False) -> Answer:
        """The answer to a request in DER that came to ``path`` (None: to the URL for all CAs of ours).

        With ``hold`` the outcome is HELD, without an answer, when a certificate is not known yet and its authority
        wants such requests to wait.
        """
        try:
            request = parse_request(data)
        except InvalidInput:
            answer = self._failure(responses.MALFORMED_REQUEST, path, Outcome.INVALID)
            self._note((), path, answer)
            return answer
        answer = await self._attempt(data, request, path, hold)
        self._note(request.certificates, path, answer)
        return answer

    async def _attempt(self, data: bytes, request: OcspRequest, path: str | None, hold: bool) -> Answer:
        try:
            async with asyncio.timeout(self._patience):
                return await self._answer(data, request, path, hold)
        except TimeoutError:
            return self._failure(responses.TRY_LATER, path)
        except NotSupported:  # a CA that has expired since its configuration was read
            return self._failure(responses.UNAUTHORIZED, path)
        except IntaglioError as error:
            if error.status not in (503, 504, 409):
                if self._troubles.worth_reporting(error.code):
                    log.error("an OCSP answer could not be made", reason=str(error), path=path)
                return self._failure(responses.INTERNAL_ERROR, path)
            # Not a line for each of the thousands who ask during an outage.
            if self._troubles.worth_reporting(error.code):
                log.info("OCSP requests are told to try later", code=error.code, reason=error.detail, path=path)
            return self._failure(responses.TRY_LATER, path)
        except Exception:
            log.exception("an OCSP answer could not be made")
            return self._failure(responses.INTERNAL_ERROR, path)

    def _note(self, about: Sequence[CertId], path: str | None, answer: Answer) -> None:
        """Count an answer; if that is wanted, write a line per certificate, with serial number and name of the CA."""
        if answer.outcome is not Outcome.HELD:
            _answers.labels(_RESPONSE_STATUS.get(answer.body, "successful")).inc()
        if not self.limits.log_requests or answer.outcome is Outcome.HELD:
            return
        event = "SendRevocationStatusRequest"
        if answer.outcome is not Outcome.ANSWERED:
            event += ".Failed"
        if not about:
            log.info(event, outcome=answer.outcome.value)
        for certificate in about:
            issuer = self._index.find(certificate.issuer, path) if self._index is not None else None
            log.info(
                event,
                serial=None if certificate.serial is None else serial_hex(certificate.serial),
                issuer=None if issuer is None else issuer.certificate.subject.rfc4514,
                authority=None if issuer is None else issuer.name,
                outcome=answer.outcome.value,
            )

    @property
    def issuers(self) -> Sequence[Issuer]:
        """Whom answers are given for at the URL of everybody."""
        return () if self._index is None else self._index.everybody

    async def signer_of(self, issuer: Issuer) -> Signing:
        """Who signs for an issuer. Raises IntaglioError when nobody can."""
        return self._signers.ready(issuer, clock.now()) or await self._signers.get(issuer)

    async def probe(self, signing: Signing) -> None:
        """Prove that a signer signs. Raises IntaglioError."""
        await self._signers.sign(signing, b"probe")

    def failure(self, path: str | None) -> Answer:
        """tryLater, for who could not be listened to."""
        return self._failure(responses.TRY_LATER, path)

    def _failure(self, body: bytes, path: str | None, outcome: Outcome = Outcome.UNPROCESSED) -> Answer:
        wanted = self._index is not None and self._index.http_error(path)
        return Answer(body, outcome=outcome, http_error=wanted)

    async def _answer(self, data: bytes, request: OcspRequest, path: str | None, hold: bool) -> Answer:
        self._authority.require_clock()
        if not self.current:
            await self.catch_up()
        issuers = self._issuers(request, path)
        refusal = await self._refusal(request, issuers)
        signing = await self._signing(issuers) if refusal is None else None
        if signing is None:
            return self._failure(refusal or responses.UNAUTHORIZED, path)
        pairs = zip(request.certificates, issuers, strict=True)
        said = [await self._say(certificate, issuer) for certificate, issuer in pairs]
        if hold and any(
            each.statement.never_issued and issuer.options.retry_unknown
            for each, issuer in zip(said, issuers, strict=True)
        ):
            return _HELD
        return await self._sign(data, request, path, issuers, signing, said)

    def _issuers(self, request: OcspRequest, path: str | None) -> list[Issuer]:
        """The issuer of every certificate asked about; empty when one of them is nobody's here. Answers about our own
        CAs, at their own URLs, are about one of them each."""
        assert self._index is not None
        found = []
        for certificate in request.certificates:
            issuer = self._index.find(certificate.issuer, path)
            if issuer is None:
                return []
            found.append(issuer)
        alone = all(issuer.key == found[0].key for issuer in found)
        return found if alone or all(issuer.authority_id is not None for issuer in found) else []

    async def _refusal(self, request: OcspRequest, issuers: Sequence[Issuer]) -> bytes | None:
        """The answer to a request that is about nobody's certificates, or whose sender may not ask.

        Raises Unavailable, TimedOut when it cannot be known whether he still may.
        """
        if not issuers:
            return responses.UNAUTHORIZED
        for trusted in {issuer.options.requestor_cas for issuer in issuers if issuer.options.signed_requests}:
            if request.signature is None:
                return responses.SIGNATURE_REQUIRED
            path = authorized_by(request.signature, trusted, clock.now())
            if not path or await self._any_revoked(path):
                return responses.UNAUTHORIZED
        return None

    async def _any_revoked(self, path: Sequence[CertificateInfo]) -> bool:
        """Whether a certificate of a path (the CA that issued it follows it) is known as revoked, or not known to a CA
        that knows its own. What CAs issued of which nothing is known here counts as good."""
        assert self._index is not None
        for certificate, above in pairwise(path):
            issuer = self._index.of_certificate(above)
            if issuer is not None:
                cert_id = CertId(b"", b"", certificate.serial)
                said = await self._say(cert_id, issuer)
                if said.statement.single.front != responses.GOOD:
                    return True
        return False

    async def _signing(self, issuers: Sequence[Issuer]) -> Signing | None:
        """The signer of all these issuers; None when they have not got the same. An answer has one signature."""
        now = clock.now()
        first: Signing | None = None
        for issuer in issuers if len({each.key for each in issuers}) > 1 else issuers[:1]:
            signing = self._signers.ready(issuer, now) or await self._signers.get(issuer)
            if first is not None and not signing.is_same(first):
                return None
            first = signing
        return first

    async def _say(self, certificate: CertId, issuer: Issuer) -> _Said:
        """What is said about one certificate. Raises Unavailable, TimedOut when it cannot be known."""
        key = None if certificate.serial is None else (issuer.owner, certificate.serial)
        if not issuer.foreign:
            status = None if key is None else await self.status.get(key)
            return _Said(key, state_native(certificate, issuer, status), status, inf)
        assert issuer.authority_id is not None
        state, version = await self.freshness.get(issuer.authority_id)
        now = clock.now()
        if state.set_id != issuer.owner:
            # Another source, or a feed read anew, took the place of the one we know; its times say nothing about that.
            raise Unavailable(f'The source of "{issuer.name}" was replaced just now.', code="source-replaced")
        if (reason := state.reason_at(now)) is not None:
            raise Unavailable(f'The source of status authority "{issuer.name}" is not current.', code=reason)
        entry = None if key is None else await self.entries.get(key, since=version)
        left = inf if state.stale_at is None else (state.stale_at - now).total_seconds()
        return _Said(key, state_foreign(certificate, issuer, entry, state), entry, left)

    def _covers(self, said: _Said) -> bool:
        """Whether what was said holds until a change is heard of."""
        value = said.value
        if value is None or not said.statement.known:
            return False
        return self.entries.covers(value) if isinstance(value, Entry) else self.status.covers(value)

    async def _sign(
        self,
        data: bytes,
        request: OcspRequest,
        path: str | None,
        issuers: Sequence[Issuer],
        signing: Signing,
        said: Sequence[_Said],
    ) -> Answer:
        index = self._index
        singles = tuple(each.statement.single for each in said)
        never_issued = any(each.statement.never_issued for each in said)
        outline = Outline(signing, singles, extended_revoked=never_issued)
        now = clock.now().replace(microsecond=0)
        unsigned, next_update = outline.data(now, request.nonce or b"")
        body = outline.body(unsigned, await self._signers.sign(signing, unsigned))
        guarded = any(issuer.options.signed_requests for issuer in issuers)
        if guarded or self._index is not index or not all(map(self._covers, said)):
            return Answer(body, now, next_update)
        about = tuple(each.key for each in said if each.key is not None)
        # As long as the sources may be believed; and where times move on with the source, for a moment only.
        moves_on = next_update is None or any(issuer.authority_id is not None for issuer in issuers)
        left = min(each.left for each in said)
        if request.nonce is not None:
            until = monotonic() + min(left, _MOMENT) if moves_on else inf
            self._remember(outline, data, request.nonce, path, about, until)
            return Answer(body, now, next_update)
        # Given out for half of its validity, so that whoever gets it can rely on the other half.
        half = _MOMENT if next_update is None else (next_update - now).total_seconds() / 2
        life = min(half, left, (signing.not_after - now).total_seconds())
        return Answer(body, now, next_update, about, True, monotonic() + life)

    def _remember(
        self, outline: Outline, data: bytes, nonce: bytes, path: str | None, about: tuple[Key, ...], until: float
    ) -> None:
        """Keep an outline under everything of the request but its nonce: what differs only there says the same."""
        parts = split_nonce(data)
        if outline.signing.signer.inline and parts is not None and parts[1] == nonce:
            octets = 2 * len(data) + 500
            self._outlines.put((path, parts[0], parts[2]), outline, about=about, octets=octets, stale_at=until)

    def _on_change(self, changes: Sequence[Change] | None) -> None:
        if changes is None or any(self._signers.uses(ca, serial) for ca, serial in changes if serial is not None):
            self._forget_all()
        else:
            self._outlines.drop(changes)
            self._tell(changes)

    def _forget_all(self) -> None:
        self._signers.forget()
        self._outlines.clear()
        self._tell(None)


class _Said(NamedTuple):
    """A statement about the certificate ``key``, from what was looked up; it holds no longer than ``left`` seconds."""

    key: Key | None
    statement: Statement
    value: Status | Entry | None
    left: float
